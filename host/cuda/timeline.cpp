#include "host/cuda/timeline.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace wt {

const char* name_of(SpanKind k) {
    switch (k) {
        case SpanKind::compute: return "compute";
        case SpanKind::exchange: return "exchange";
        case SpanKind::wait: return "wait";
        default: return "copy";
    }
}

// ---- what was hidden --------------------------------------------------------------------------

namespace {

using Parts = std::vector<std::pair<double, double>>;

// Sorted, without overlaps.
Parts merged(Parts parts) {
    std::erase_if(parts, [](const auto& p) { return !(p.second > p.first); });
    std::sort(parts.begin(), parts.end());
    Parts out;
    for (const auto& p : parts)
        if (!out.empty() && p.first <= out.back().second)
            out.back().second = std::max(out.back().second, p.second);
        else
            out.push_back(p);
    return out;
}

// What lies in a and not in b; both merged.
Parts without(const Parts& a, const Parts& b) {
    Parts out;
    size_t next = 0;
    for (auto [start, end] : a) {
        while (next < b.size() && b[next].second <= start) ++next;
        for (size_t i = next; i < b.size() && b[i].first < end; ++i) {
            if (b[i].first > start) out.push_back({start, b[i].first});
            start = std::max(start, b[i].second);
        }
        if (start < end) out.push_back({start, end});
    }
    return out;
}

double length(const Parts& parts) {
    double sum = 0;
    for (const auto& p : parts) sum += p.second - p.first;
    return sum;
}

// Whether the lane is its worker's first.
bool first_lane(const StepPicture& p, int lane) {
    for (int i = 0; i < lane; ++i)
        if (p.lanes[i].worker == p.lanes[lane].worker) return false;
    return true;
}

template <class F>
Parts parts_of(const StepPicture& p, int worker, F&& wanted) {
    Parts parts;
    for (const Span& s : p.spans)
        if (p.lanes[s.lane].worker == worker && wanted(s)) parts.push_back({s.start, s.end});
    return merged(std::move(parts));
}

Parts computing(const StepPicture& p, int worker) {
    return parts_of(p, worker, [](const Span& s) { return s.kind == SpanKind::compute; });
}

}  // namespace

std::vector<std::pair<double, double>> exposed_parts(const StepPicture& p, int worker) {
    return without(parts_of(p, worker,
                            [&](const Span& s) {
                                return s.kind == SpanKind::exchange ||
                                       (s.kind == SpanKind::wait && first_lane(p, s.lane));
                            }),
                   computing(p, worker));
}

Exposure exposure(const StepPicture& p, int worker) {
    const Parts exchanges =
        parts_of(p, worker, [](const Span& s) { return s.kind == SpanKind::exchange; });
    Exposure e;
    e.exposed = length(exposed_parts(p, worker));
    e.communication =
        e.exposed + length(exchanges) - length(without(exchanges, computing(p, worker)));
    return e;
}

Exposure most_exposed(const StepPicture& p) {
    Exposure most;
    for (size_t w = 0; w < p.workers.size(); ++w) {
        const Exposure e = exposure(p, static_cast<int>(w));
        if (w == 0 || e.exposed > most.exposed) most = e;
    }
    return most;
}

// ---- as text and a trace ----------------------------------------------------------------------

namespace {

std::string fixed(double v, int places) {
    char s[64];
    std::snprintf(s, sizeof s, "%.*f", places, v);
    return s;
}

}  // namespace

std::string ms_text(double ms) {
    return fixed(ms, ms >= 100 ? 0 : ms >= 10 ? 1 : ms >= 1 ? 2 : 3) + " ms";
}

std::string summary(const StepPicture& p) {
    const Exposure e = most_exposed(p);
    std::string s = ms_text(p.ms);
    if (p.workers.size() > 1)
        s += ", communication " + ms_text(e.communication) + ", of which " + ms_text(e.exposed) +
             " not hidden";
    return s + (p.virtual_time ? " (virtual time)" : "");
}

std::string to_chrome_trace(const StepPicture& p, const std::string& title) {
    using nlohmann::json;
    json events = json::array();
    const auto meta = [&](const char* what, int pid, int tid, json args) {
        events.push_back(
            {{"name", what}, {"ph", "M"}, {"pid", pid}, {"tid", tid}, {"args", std::move(args)}});
    };
    for (size_t w = 0; w < p.workers.size(); ++w) {
        const Exposure e = exposure(p, static_cast<int>(w));
        meta("process_name", static_cast<int>(w), 0,
             {{"name", "worker " + std::to_string(w) + " (" + p.workers[w] + ")"}});
        meta("process_labels", static_cast<int>(w), 0,
             {{"labels", "communication " + ms_text(e.communication) + ", not hidden " +
                             ms_text(e.exposed)}});
    }
    for (size_t i = 0; i < p.lanes.size(); ++i) {
        const int tid = static_cast<int>(i);
        meta("thread_name", p.lanes[i].worker, tid, {{"name", p.lanes[i].name}});
        meta("thread_sort_index", p.lanes[i].worker, tid, {{"sort_index", tid}});
    }
    for (const Span& s : p.spans)
        events.push_back({{"name", s.name},
                          {"cat", name_of(s.kind)},
                          {"ph", "X"},
                          {"ts", s.start * 1e3},
                          {"dur", (s.end - s.start) * 1e3},
                          {"pid", p.lanes[s.lane].worker},
                          {"tid", s.lane}});
    json workers = json::array();
    for (size_t w = 0; w < p.workers.size(); ++w) {
        const Exposure e = exposure(p, static_cast<int>(w));
        workers.push_back({{"communication_ms", e.communication}, {"exposed_ms", e.exposed}});
    }
    const json all = {{"traceEvents", events},
                      {"displayTimeUnit", "ms"},
                      {"otherData",
                       {{"title", title},
                        {"step_ms", p.ms},
                        {"workers", workers},
                        {"time", p.virtual_time ? "virtual" : "device"}}}};
    return all.dump(1) + "\n";
}

// ---- from events ------------------------------------------------------------------------------

void Timeline::lane(const std::string& name, const Stream& stream) {
    for (const Source& l : lanes_)
        if (l.stream == stream.get()) return;
    if (lanes_.empty()) {
        ready_ = Event(stream.device());
        origin_ = Event(stream.device(), true);
        finish_ = Event(stream.device(), true);
    }
    lanes_.push_back({name, stream.get(), stream.device()});
}

void Timeline::align(const std::vector<Timeline*>& all) {
    for (Timeline* t : all) {
        if (t->lanes_.empty()) throw Error("a timeline without streams");
        t->used_ = 0, t->failed_ = cudaSuccess;
        t->ready_.record(t->lanes_[0].stream);
    }
    for (Timeline* t : all) {
        for (Timeline* other : all)
            WT_CUDA(cudaStreamWaitEvent(t->lanes_[0].stream, other->ready_.get(), 0));
        t->origin_.record(t->lanes_[0].stream);
        t->finish_.record(t->lanes_[0].stream);  // of a step in which nothing is recorded
        for (const Source& l : t->lanes_)
            if (l.stream != t->lanes_[0].stream)
                WT_CUDA(cudaStreamWaitEvent(l.stream, t->origin_.get(), 0));
    }
}

Timeline::Recording::~Recording() {
    if (timeline_ && !timeline_->lanes_.empty()) {
        const cudaError_t e =
            cudaEventRecord(timeline_->finish_.get(), timeline_->lanes_[0].stream);
        if (e != cudaSuccess) timeline_->failed_ = e;
    }
    current_ = before_;
}

int Timeline::begin(const char* name, SpanKind kind, cudaStream_t stream) {
    for (size_t i = 0; i < lanes_.size(); ++i) {
        if (lanes_[i].stream != stream) continue;
        if (used_ == spans_.size())
            spans_.push_back(
                {0, {}, kind, Event(lanes_[i].device, true), Event(lanes_[i].device, true)});
        Recorded& r = spans_[used_];
        r.lane = static_cast<int>(i);
        r.name = name;
        r.kind = kind;
        r.start.record(stream);
        return static_cast<int>(used_++);
    }
    return -1;
}

void Timeline::end(int span) noexcept {
    const Recorded& r = spans_[span];
    const cudaError_t e = cudaEventRecord(r.stop.get(), lanes_[r.lane].stream);
    if (e != cudaSuccess) failed_ = e;
}

StepPicture Timeline::read(const std::vector<Timeline*>& all) {
    StepPicture p;
#ifdef VGPU
    p.virtual_time = true;
#endif
    for (Timeline* t : all) {
        WT_CUDA(t->failed_);
        t->finish_.synchronize();
        p.ms = std::max<double>(p.ms, t->finish_.since(t->origin_));
        const int first = static_cast<int>(p.lanes.size());
        for (const Source& l : t->lanes_) p.lanes.push_back({t->worker_, l.name});
        p.workers.resize(std::max<size_t>(p.workers.size(), t->worker_ + 1));
        p.workers[t->worker_] = t->what_;
        for (size_t i = 0; i < t->used_; ++i) {
            const Recorded& r = t->spans_[i];
            r.stop.synchronize();
            const double start = r.start.since(t->origin_), end = r.stop.since(t->origin_);
            p.ms = std::max(p.ms, end);
            // nothing was moved, nobody waited
            if (r.kind != SpanKind::compute && !(end > start)) continue;
            p.spans.push_back({first + r.lane, r.name, r.kind, start, end});
        }
    }
    return p;
}

}  // namespace wt
