#include "host/model/side_by_side.h"

#include <algorithm>

namespace wt::model {

int SideBySide::kernel(int stream, const Work& work) {
    const int number = static_cast<int>(works_.size());
    works_.push_back(work);
    begins_.push_back(0);
    streams_[stream].items.push_back({Item::kernel, number});
    return number;
}

void SideBySide::record(int stream, int event) {
    latest_[event] = records_;
    streams_[stream].items.push_back({Item::record, records_++});
}

void SideBySide::await(int stream, int event) {
    const auto at = latest_.find(event);
    if (at != latest_.end()) streams_[stream].items.push_back({Item::await, at->second});
}

int SideBySide::free_sms() const {
    int free = sms_;
    for (const Running& r : running_) free -= r.sms;
    return free;
}

bool SideBySide::fits(const Work& w, int free) const {
    if (w.sms > 0) return std::min(w.sms, sms_) <= free;
    return w.stays ? free == sms_ : 2 * free > sms_;
}

// What streams come to before their next kernels; true where one went on.
bool SideBySide::pass_events() {
    bool any = false;
    for (auto& [id, s] : streams_)
        while (!s.busy && !s.items.empty() && s.items.front().kind != Item::kernel) {
            const Item item = s.items.front();
            if (item.kind == Item::record) {
                passed_[item.number] = s.ready;
            } else {
                const auto at = passed_.find(item.number);
                if (at == passed_.end()) break;
                s.ready = std::max(s.ready, at->second);
            }
            s.items.pop_front();
            any = true;
        }
    return any;
}

// Starts the first kernel in the order of issue that can begin now.
bool SideBySide::start_one() {
    while (pass_events()) {
    }
    int stream = 0, first = -1;
    for (const auto& [id, s] : streams_) {
        if (s.busy || s.items.empty() || s.items.front().kind != Item::kernel) continue;
        const int number = s.items.front().number;
        if ((first >= 0 && number > first) || !fits(works_[number], free_sms())) continue;
        first = number;
        stream = id;
    }
    if (first < 0) return false;
    Stream& s = streams_[stream];
    const Work& w = works_[first];
    const double waited = now_ - s.ready;
    double hidden = std::min(waited, w.gap);
    double idle = 0;
    for (const Running& r : just_ended_)
        if (r.stream != stream) idle = std::max(idle, works_[r.kernel].idle);
    hidden = std::min({hidden + idle_share_ * idle, waited, w.us / 2});
    running_.push_back({.kernel = first,
                        .stream = stream,
                        .sms = w.sms > 0 ? std::min(w.sms, sms_) : free_sms(),
                        .left = w.us - hidden});
    begins_[first] = now_;
    s.busy = true;
    s.items.pop_front();
    return true;
}

// Us of a kernel's own in one of time, if it had the memory that it wants.
double SideBySide::speed(const Running& r) const {
    const Work& w = works_[r.kernel];
    if (w.sms > 0 || r.sms == sms_) return 1;
    const double on_sms = w.on_sms > 0 ? w.on_sms : w.us;
    return std::min(1.0, double(r.sms) / sms_ * w.us / on_sms);
}

void SideBySide::advance() {
    double wanted = 0;  // of the memory's rate
    for (const Running& r : running_)
        if (works_[r.kernel].us > 0)
            wanted += works_[r.kernel].memory / works_[r.kernel].us * speed(r);
    const double share = wanted > 1 ? 1 / wanted : 1;
    double us = -1;
    for (const Running& r : running_) {
        const double rest = r.left / (speed(r) * share);
        if (us < 0 || rest < us) us = rest;
    }
    now_ += us;
    just_ended_.clear();
    for (Running& r : running_) r.left -= us * speed(r) * share;
    for (const Running& r : running_)
        if (r.left < 1e-9) {
            streams_[r.stream].busy = false;
            streams_[r.stream].ready = now_;
            just_ended_.push_back(r);
        }
    std::erase_if(running_, [](const Running& r) { return r.left < 1e-9; });
}

void SideBySide::run() {
    for (;;) {
        while (start_one()) {
        }
        if (running_.empty()) return;
        advance();
    }
}

}  // namespace wt::model
