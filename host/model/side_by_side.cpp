#include "host/model/side_by_side.h"

#include <algorithm>

namespace wt::model {

int SideBySide::busy(double at) const {
    int sms = 0;
    for (const Running& r : running_)
        if (r.end > at) sms += r.sms;
    return sms;
}

double SideBySide::kernel(int stream, double us, int sms) {
    // It begins at its stream's clock, or when another one ends.
    double start = clocks_[stream];
    std::vector<double> ends;
    for (const Running& r : running_)
        if (r.end > start) ends.push_back(r.end);
    std::ranges::sort(ends);
    const auto fits = [&](double at) {
        const int free = sms_ - busy(at);
        return sms > 0 ? std::min(sms, sms_) <= free : 2 * free > sms_;
    };
    for (const double end : ends) {
        if (fits(start)) break;
        start = end;
    }
    const int taken = sms > 0 ? std::min(sms, sms_) : sms_ - busy(start);
    const double end = start + (sms > 0 ? us : us * sms_ / taken);
    std::erase_if(running_, [&](const Running& r) {
        return std::ranges::all_of(clocks_, [&](const auto& c) { return c.second >= r.end; });
    });
    running_.push_back({.end = end, .sms = taken});
    clocks_[stream] = end;
    end_ = std::max(end_, end);
    return start;
}

void SideBySide::await(int stream, int event) {
    const auto at = events_.find(event);
    if (at != events_.end()) clocks_[stream] = std::max(clocks_[stream], at->second);
}

}  // namespace wt::model
