#include "host/vgpu/runtime/clock.h"

#include <algorithm>
#include <queue>
#include <tuple>

namespace vgpu {

When Clock::add(std::span<const When> after, int engine, int64_t busy, uint64_t order) {
    const auto index = static_cast<uint32_t>(tasks_.size());
    Task t{std::make_shared<Moment>(), 0, busy, order, 0, engine};
    t.end->task = index;
    for (const When& w : after) {
        if (!w) continue;
        if (w->ns >= 0) {
            t.ready = std::max(t.ready, w->ns);
        } else {
            edges_.push_back({w->task, index});
            ++t.missing;
        }
    }
    tasks_.push_back(t);
    return tasks_.back().end;
}

When Clock::join(const When& a, const When& b) {
    if (!a || a == b) return b;
    if (!b) return a;
    if (a->ns >= 0 && b->ns >= 0) return a->ns > b->ns ? a : b;
    const When both[] = {a, b};
    return add(both, kNone, 0, 0);
}

int64_t Clock::ns(const When& w) {
    if (!w) return 0;
    if (w->ns < 0) place();
    return w->ns;
}

// A discrete-event simulation over the tasks that were added since the last.
void Clock::place() {
    const size_t n = tasks_.size();
    std::vector<uint32_t> first(n + 1), then(edges_.size());
    for (const Edge& e : edges_) ++first[e.before + 1];
    for (size_t i = 0; i < n; ++i) first[i + 1] += first[i];
    {
        std::vector<uint32_t> next(first.begin(), first.end() - 1);
        for (const Edge& e : edges_) then[next[e.before]++] = e.then;
    }

    enum What { ends, frees, readies };
    struct Event {
        int64_t ns;
        What what;
        uint32_t index;  // of a task; of an engine, for frees
        bool operator<(const Event& o) const {
            return std::tie(ns, what, index) > std::tie(o.ns, o.what, o.index);
        }
    };
    std::priority_queue<Event> events;
    using Waiting = std::tuple<int64_t, uint64_t, uint32_t>;  // ready, order, task
    std::vector<std::priority_queue<Waiting, std::vector<Waiting>, std::greater<>>> waiting(
        free_.size());
    std::vector<int> taken(free_.size());
    const auto grow = [&](int engine) {
        if (engine < static_cast<int>(free_.size())) return;
        free_.resize(engine + 1), waiting.resize(engine + 1), taken.resize(engine + 1);
    };
    for (uint32_t e = 0; e < free_.size(); ++e)
        for (const int64_t end : free_[e]) {
            ++taken[e];
            events.push({end, frees, e});
        }
    for (uint32_t i = 0; i < n; ++i) {
        grow(tasks_[i].engine);
        if (!tasks_[i].missing) events.push({tasks_[i].ready, readies, i});
    }
    std::vector<int> touched;
    while (!events.empty()) {
        const int64_t now = events.top().ns;
        touched.clear();
        for (; !events.empty() && events.top().ns == now;) {
            const Event e = events.top();
            events.pop();
            if (e.what == frees) {
                --taken[e.index];
                touched.push_back(static_cast<int>(e.index));
                continue;
            }
            Task& t = tasks_[e.index];
            if (e.what == readies) {
                if (t.engine == kNone) {
                    events.push({now + t.busy, ends, e.index});
                } else {
                    waiting[t.engine].push({t.ready, t.order, e.index});
                    touched.push_back(t.engine);
                }
                continue;
            }
            t.end->ns = now;
            if (t.engine != kNone) {
                --taken[t.engine];
                touched.push_back(t.engine);
            }
            for (uint32_t i = first[e.index]; i < first[e.index + 1]; ++i) {
                Task& next = tasks_[then[i]];
                next.ready = std::max(next.ready, now);
                if (--next.missing == 0) events.push({next.ready, readies, then[i]});
            }
        }
        // Only now is it known which tasks could begin at this time.
        for (const int engine : touched) {
            while (taken[engine] < capacity(engine) && !waiting[engine].empty()) {
                const uint32_t task = std::get<2>(waiting[engine].top());
                waiting[engine].pop();
                ++taken[engine];
                const int64_t end = now + tasks_[task].busy;
                events.push({end, ends, task});
                std::vector<int64_t>& last = free_[engine];
                last.push_back(end);
                if (static_cast<int>(last.size()) > capacity(engine))
                    last.erase(std::min_element(last.begin(), last.end()));
            }
        }
    }
    tasks_.clear();
    edges_.clear();
}

}  // namespace vgpu
