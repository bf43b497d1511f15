// mbarrier (PTX 9.7.13.15). The counts are in the 64 bits in shared memory; threads that wait are
// in a list beside it, found only when there are some. An arrival costs about 3 ns, a wait that has
// to wait two switches of fibers.
//
// Diagnosed: barriers that are not initialised, or twice; more arrivals than expected, more bytes
// than can be counted or than were expected; a thread that comes too late to see its phase end.
#include <cstdio>
#include <cstring>

#include "host/vgpu/exec/core.h"
#include "vgpu/ptx.h"

namespace vgpu {
namespace {

uint32_t offset_of(const Block& b, const uint64_t* bar) {
    return static_cast<uint32_t>(reinterpret_cast<const char*>(bar) - b.shared);
}

[[noreturn, gnu::cold, gnu::noinline]] void refuse(Core& core, const Block& b, const uint64_t* bar,
                                                   const char* what, const char* why, Site site) {
    char offset[32];
    std::snprintf(offset, sizeof offset, "0x%llx",
                  static_cast<unsigned long long>(reinterpret_cast<const char*>(bar) - b.shared));
    note_failure(core, 719,
                 std::string(what) + " at " + describe_site(site) + ", barrier at offset " +
                     offset + " of shared memory: " + why);
    abandon(core);
}

inline bool inside(const Core& core, const Block& b, const uint64_t* bar) {
    const auto offset = static_cast<size_t>(reinterpret_cast<const char*>(bar) - b.shared);
    return offset < core.grid->shared && core.grid->shared - offset >= 8 && offset % 8 == 0;
}

inline uint64_t load(Core& core, const Block& b, const uint64_t* bar, const char* what, Site site) {
    if (!inside(core, b, bar)) [[unlikely]]
        refuse(core, b, bar, what, "that is not 8 aligned bytes of the block's shared memory",
               site);
    const uint64_t s = *bar;
    if (!(s & kLive) || s == ~uint64_t{0}) [[unlikely]]
        refuse(core, b, bar, what, "there is no initialised barrier (mbarrier_init)", site);
    return s;
}

// Writes the state back; goes to the next phase where nothing is left to wait for.
inline void store(Core& core, Block& b, uint64_t* bar, uint64_t s, const char* what, Site site) {
    ++core.progress;
    if ((s & kCounts) == 0) {
        s = (s ^ kPhase) | uint64_t{expected(s)} << kPendingShift;
        if (core.races) core.races->complete(b, offset_of(b, bar));
        if (s & kWaited) {
            s &= ~kWaited;
            release(core, b.async.barriers.at(offset_of(b, bar)).waiting);
        }
    } else if (pending(s) == 0 && outstanding(s) < 0) [[unlikely]] {
        char why[64];
        std::snprintf(why, sizeof why, "%d bytes more came than its phase expected",
                      -outstanding(s));
        refuse(core, b, bar, what, why, site);
    }
    *bar = s;
}

inline uint64_t expect(Core& core, const Block& b, uint64_t* bar, uint64_t s, uint32_t bytes,
                       const char* what, Site site) {
    const int64_t sum = int64_t{outstanding(s)} + bytes;
    if (sum > int64_t{kCountMax}) [[unlikely]]
        refuse(core, b, bar, what, "more than 2^20 - 1 bytes are outstanding", site);
    return (s & ~uint64_t{(1u << kPendingShift) - 1}) |
           (static_cast<uint64_t>(sum) & ((1u << kPendingShift) - 1));
}

inline uint64_t arrive(Core& core, const Block& b, uint64_t* bar, uint64_t s, const char* what,
                       Site site) {
    if (pending(s) == 0) [[unlikely]]
        refuse(core, b, bar, what, "all its arrivals have come, and bytes are outstanding", site);
    return s - (uint64_t{1} << kPendingShift);
}

}  // namespace

void Barriers::add(uint32_t offset) {
    if (!index_) index_.reset(new uint16_t[kSharedMax / 8]());
    live_.push_back({offset, {}});
    index_[offset / 8] = static_cast<uint16_t>(live_.size());
}

void Barriers::remove(uint32_t offset) {
    Live& gone = at(offset);
    index_[live_.back().offset / 8] = index_[offset / 8];
    index_[offset / 8] = 0;
    if (&gone != &live_.back()) gone = live_.back();
    live_.pop_back();
}

void Barriers::clear(char* shared) {
    for (const Live& l : live_) {
        index_[l.offset / 8] = 0;
        std::memset(shared + l.offset, 0, 8);
    }
    live_.clear();
}

void expect_barrier(Core& core, const Block& b, const uint64_t* bar, const char* what, Site site) {
    load(core, b, bar, what, site);
}

void complete_bytes(Core& core, Block& b, uint64_t* bar, uint32_t bytes, Site site) {
    uint64_t s = load(core, b, bar, "the end of a copy started", site);
    const int64_t sum = int64_t{outstanding(s)} - bytes;
    if (sum < -int64_t{kCountMax}) [[unlikely]]
        refuse(core, b, bar, "the end of a copy started",
               "2^20 bytes or more came that nobody has expected yet", site);
    s = (s & ~uint64_t{(1u << kPendingShift) - 1}) |
        (static_cast<uint64_t>(sum) & ((1u << kPendingShift) - 1));
    store(core, b, bar, s, "the end of a copy started", site);
}

void arrive_on(Core& core, Block& b, uint64_t* bar, const char* what, Site site) {
    store(core, b, bar, arrive(core, b, bar, load(core, b, bar, what, site), what, site), what,
          site);
}

void mbarrier_init(uint64_t* bar, uint32_t count, Site site) {
    Core& core = *context.core;
    Block& b = *core.block;
    const char* what = "mbarrier_init";
    if (!inside(core, b, bar))
        refuse(core, b, bar, what, "that is not 8 aligned bytes of the block's shared memory",
               site);
    if (count == 0 || count > kCountMax)
        refuse(core, b, bar, what, "the count must be 1 to 2^20 - 1", site);
    if (b.async.barriers.has(offset_of(b, bar)))
        refuse(core, b, bar, what, "there is a live barrier already (mbarrier_inval ends it)",
               site);
    b.async.barriers.add(offset_of(b, bar));
    *bar = kLive | uint64_t{count} << kPendingShift | uint64_t{count} << kExpectedShift;
}

void mbarrier_inval(uint64_t* bar, Site site) {
    Core& core = *context.core;
    Block& b = *core.block;
    const uint64_t s = load(core, b, bar, "mbarrier_inval", site);
    if (s & kWaited) refuse(core, b, bar, "mbarrier_inval", "threads wait for it", site);
    if (!b.async.barriers.has(offset_of(b, bar)))
        refuse(core, b, bar, "mbarrier_inval", "there is no initialised barrier (mbarrier_init)",
               site);
    b.async.barriers.remove(offset_of(b, bar));
    *bar = 0;
}

void mbarrier_arrive(uint64_t* bar, Site site) {
    Core& core = *context.core;
    if (core.races) core.races->arrive(*core.block, offset_of(*core.block, bar));
    arrive_on(core, *core.block, bar, "mbarrier_arrive", site);
}

void mbarrier_expect_tx(uint64_t* bar, uint32_t bytes, Site site) {
    Core& core = *context.core;
    Block& b = *core.block;
    const char* what = "mbarrier_expect_tx";
    store(core, b, bar, expect(core, b, bar, load(core, b, bar, what, site), bytes, what, site),
          what, site);
}

void mbarrier_arrive_expect_tx(uint64_t* bar, uint32_t bytes, Site site) {
    Core& core = *context.core;
    Block& b = *core.block;
    const char* what = "mbarrier_arrive_expect_tx";
    const uint64_t s = expect(core, b, bar, load(core, b, bar, what, site), bytes, what, site);
    if (core.races) core.races->arrive(b, offset_of(b, bar));
    store(core, b, bar, arrive(core, b, bar, s, what, site), what, site);
}

// Waits, as hardware does for a while. False at once under some seeds; and when nothing else can
// happen, since then a thread that would go on to do something else (and not just ask again) must
// be let go.
bool mbarrier_try_wait(uint64_t* bar, uint32_t parity, Site site) {
    Core& core = *context.core;
    Block& b = *core.block;
    const uint64_t s = load(core, b, bar, "mbarrier_try_wait", site);
    // the phase bit while the phase of this parity goes on
    const uint64_t open = parity & 1 ? kPhase : 0;
    if ((s & kPhase) != open) {
        if (core.races) core.races->waited(b, offset_of(b, bar));
        return true;
    }
    if (core.random && draw(core) % 4 == 0) return false;
    const uint32_t offset = offset_of(b, bar);
    if (!b.async.barriers.has(offset))
        refuse(core, b, bar, "mbarrier_try_wait", "there is no initialised barrier (mbarrier_init)",
               site);
    *bar = s | kWaited;
    Fiber& f = *core.current;  // the thread's own from here on
    wait_in(core, b.async.barriers.at(offset).waiting,
            {Wait::mbarrier, static_cast<uint8_t>(parity & 1), offset, site});
    if (f.give_up) {
        f.give_up = false;
        return false;
    }
    if ((*bar & kPhase) == open) [[unlikely]]
        refuse(core, b, bar, "mbarrier_try_wait",
               "its next phase ended too before this thread saw the end of the one it waited for",
               site);
    if (core.races) core.races->waited(b, offset);
    return true;
}

}  // namespace vgpu
