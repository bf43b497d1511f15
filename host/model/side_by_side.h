// When kernels of several streams run, each of which may be planned for some of the SMs only.
//
// A kernel begins when its stream comes to it and its SMs are free. One that is planned for all of
// them and whose blocks stay until it ends (a product) waits for all: its last blocks would wait
// for theirs in any case. Any other takes what is left, once that is more than half, and is slower
// where its SMs are what limits it. So two that want all SMs take turns.
//
// What runs at the same time shares the memory: where the bytes of all would need more than its
// rate, all become slower alike.
//
// A kernel that waited for nothing but another stream's SMs begins as these become free: its gap
// (`gap`) is hidden. And where the other one's last wave left SMs idle (`idle`), its first blocks
// began there: of that, `idle_share` is counted, since they gain only as far as what comes behind
// them leaves the same SMs to do more.
#pragma once

#include <deque>
#include <map>
#include <vector>

namespace wt::model {

class SideBySide {
public:
    struct Work {
        double us = 0;      // alone, on the SMs that it is planned for
        int sms = 0;        // these; 0: all
        double memory = 0;  // us of its bytes at the memory's whole rate
        double on_sms = 0;  // us if memory took no time; 0: as long as it takes
        bool stays = false;
        double gap = 0, idle = 0;  // us, of all SMs
    };

    explicit SideBySide(int sms, double idle_share = 0) : sms_(sms), idle_share_(idle_share) {}

    // Puts a kernel on a stream, in the order of issue; returns its number.
    int kernel(int stream, const Work& work);
    void record(int stream, int event);
    // An event that nobody has recorded is not waited for.
    void await(int stream, int event);

    void run();  // once, when all are there
    double begin(int kernel) const { return begins_[kernel]; }
    double end() const { return now_; }

private:
    struct Item {
        enum Kind { kernel, record, await } kind;
        int number;  // of the kernel, or of the record
    };
    struct Running {
        int kernel, stream, sms;
        double left;  // us of its own
    };
    struct Stream {
        std::deque<Item> items = {};
        double ready = 0;
        bool busy = false;
    };

    bool pass_events();
    bool start_one();
    bool fits(const Work& w, int free) const;
    double speed(const Running& r) const;
    void advance();
    int free_sms() const;

    const int sms_;
    const double idle_share_;
    std::vector<Work> works_;
    std::vector<double> begins_;
    std::map<int, Stream> streams_;
    std::map<int, int> latest_;     // record of an event
    std::map<int, double> passed_;  // when a record was reached
    int records_ = 0;
    std::vector<Running> running_;
    std::vector<Running> just_ended_;
    double now_ = 0;
};

}  // namespace wt::model
