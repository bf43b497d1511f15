#include "host/parallel/step_segments.h"

#include <algorithm>
#include <array>
#include <map>

namespace wt {

namespace {

bool launches(const Step& s) { return std::holds_alternative<Launch>(s.action); }

// How many actions of each stream a stream, or an event, is behind.
using Seen = std::array<size_t, kStreams>;

void join(Seen& a, const Seen& b) {
    for (int i = 0; i < kStreams; ++i) a[i] = std::max(a[i], b[i]);
}

// Whether an event that the steps [begin, end) have recorded is waited for behind them.
bool awaited_behind(const StepList& steps, size_t begin, size_t end) {
    std::vector<int> recorded;
    for (size_t i = begin; i < end; ++i)
        if (const auto* r = std::get_if<Record>(&steps[i].action)) recorded.push_back(r->event);
    for (size_t i = end; i < steps.size() && !recorded.empty(); ++i) {
        if (const auto* a = std::get_if<Await>(&steps[i].action))
            if (std::ranges::count(recorded, a->event)) return true;
        if (const auto* r = std::get_if<Record>(&steps[i].action)) std::erase(recorded, r->event);
    }
    return false;
}

// The end of the longest closed run from `begin` on; `begin` where there is none.
size_t closed_end(const StepList& steps, size_t begin) {
    size_t closed = begin;
    bool launched = false;
    std::array<bool, kStreams> forked{};
    std::array<Seen, kStreams> seen{};
    Seen done{};
    std::map<int, Seen> recorded;
    const int compute = static_cast<int>(StreamName::compute);
    forked[compute] = true;
    for (size_t i = begin; i < steps.size(); ++i) {
        const Step& s = steps[i];
        const int stream = static_cast<int>(s.stream);
        if (s.stream == StreamName::input || std::holds_alternative<Post>(s.action) ||
            std::holds_alternative<Collect>(s.action))
            break;
        const auto* await = std::get_if<Await>(&s.action);
        if (await && !recorded.contains(await->event)) break;
        if (!await && !forked[stream]) break;
        forked[stream] = true;
        if (await) join(seen[stream], recorded[await->event]);
        seen[stream][stream] = ++done[stream];
        if (const auto* r = std::get_if<Record>(&s.action)) recorded[r->event] = seen[stream];
        launched = launched || launches(s);
        // Where another stream has only recorded an event since, there is nothing to wait for; but
        // a capture wants it joined all the same.
        if (launched && seen[compute] == done && !awaited_behind(steps, begin, i + 1))
            closed = i + 1;
    }
    return closed;
}

}  // namespace

std::vector<StepSegment> segments_of(const StepList& steps) {
    std::vector<StepSegment> segments;
    for (size_t i = 0; i < steps.size();) {
        size_t end = i;
        if (steps[i].stream == StreamName::compute)
            end = closed_end(steps, i);
        else
            while (end < steps.size() && launches(steps[end]) &&
                   steps[end].stream == steps[i].stream)
                ++end;
        const bool graph = end > i;
        segments.push_back({i, graph ? end : i + 1, graph});
        i = segments.back().end;
    }
    return segments;
}

}  // namespace wt
