// When kernels of several streams run, each of which may be planned for some of the SMs only. A
// kernel begins when its stream comes to it and its SMs are free. One that is planned for all of
// them takes what others leave, and is slower by as much; two of those do not run at the same time:
// what one gains by filling another's last wave is left out.
#pragma once

#include <map>
#include <vector>

namespace wt::model {

class SideBySide {
public:
    explicit SideBySide(int sms) : sms_(sms) {}

    // Puts a kernel on a stream, in the order of issue; `sms` 0: all. Returns when it begins.
    double kernel(int stream, double us, int sms = 0);
    void record(int stream, int event) { events_[event] = clocks_[stream]; }
    // An event that nobody has recorded is not waited for.
    void await(int stream, int event);
    double end() const { return end_; }

private:
    struct Running {
        double end;
        int sms;
    };
    int busy(double at) const;

    const int sms_;
    std::map<int, double> clocks_, events_;
    std::vector<Running> running_;
    double end_ = 0;
};

}  // namespace wt::model
