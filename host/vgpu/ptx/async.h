// What a block's asynchronous operations leave behind until they are complete: its mbarriers with
// the threads that wait in them, the groups of its threads, and what a seed put off. The grid
// runner's inside (exec/core.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "host/vgpu/exec/fiber.h"
#include "host/vgpu/diagnosis/races.h"
#include "host/vgpu/ptx/tensor_map.h"

namespace vgpu {

struct Core;

// ---- mbarriers (mbarrier.cpp) -------------------------------------------------------------------

// A barrier is its 64 bits in shared memory: bits 0-20 bytes outstanding (signed), 21-40 arrivals
// pending, 41-60 expected, 61 phase, 62 threads wait for it, 63 set in every live barrier. All ones
// and all zeros are none.
inline constexpr int kPendingShift = 21, kExpectedShift = 41;
inline constexpr uint64_t kCounts = (uint64_t{1} << 41) - 1, kCountMax = (1u << 20) - 1,
                          kPhase = uint64_t{1} << 61, kWaited = uint64_t{1} << 62,
                          kLive = uint64_t{1} << 63;
inline int32_t outstanding(uint64_t state) {
    return static_cast<int32_t>(static_cast<int64_t>(state << 43) >> 43);
}
inline uint32_t pending(uint64_t state) { return state >> kPendingShift & kCountMax; }
inline uint32_t expected(uint64_t state) { return state >> kExpectedShift & kCountMax; }

// A block's live barriers, found by their offset in shared memory.
class Barriers {
public:
    struct Live {
        uint32_t offset;
        FiberList waiting;
    };
    bool has(uint32_t offset) const { return index_ && index_[offset / 8]; }
    Live& at(uint32_t offset) { return live_[index_[offset / 8] - 1u]; }
    void add(uint32_t offset);
    void remove(uint32_t offset);
    // the block has ended: its memory may hold anything next, but no barrier
    void clear(char* shared);
    bool empty() const { return live_.empty(); }
    auto begin() { return live_.begin(); }
    auto end() { return live_.end(); }

private:
    std::vector<Live> live_;
    std::unique_ptr<uint16_t[]> index_;  // 1 + place in live_; 0: none
};

// So many bytes have arrived. The phase ends when they were the last thing that it waited for.
void complete_bytes(Core&, Block&, uint64_t* bar, uint32_t bytes, Site);
void arrive_on(Core&, Block&, uint64_t* bar, const char* what, Site);
// The grid fails when there is no barrier at `bar` in the block.
void expect_barrier(Core&, const Block&, const uint64_t* bar, const char* what, Site);

// ---- groups of a thread, and what was put off ---------------------------------------------------

// A cp.async that was put off, or (bar set) the arrival that follows those before it.
struct PutOffCopy {
    char* to;
    const char* from;
    uint64_t* bar;
    uint32_t group;
    uint8_t bytes, source_bytes;
    Site site;
};

// A store of TMA that was put off: its source is read when `image` is filled, its destination
// written when it goes.
struct PutOffStore {
    TensorMap map;
    int32_t at[5];
    char* global;  // not null: bytes to here, no map
    const char* shared;
    uint32_t address, bytes, group;
    std::unique_ptr<char[]> image;
};

struct Groups {
    bool active = false;  // it is in Async::active
    uint3 thread{};
    uint32_t copies = 0, stores = 0;  // groups committed
    uint32_t stored = 0,
             // groups up to the newest with a store; up to the newest whose sources are read
        read = 0;
    Site stored_at;
    uint64_t copied = 0;              // put off and done since
    std::vector<PutOffCopy> put_off;  // in order; the first `done` are done
    size_t done = 0;
    std::vector<PutOffStore> stores_put_off;
    // stores by group, where races are looked for
    std::vector<std::pair<uint32_t, Races::Operation>> reading, writing;
};

struct Async {
    Barriers barriers;
    std::vector<Groups> threads;   // of the block, by linear index; empty until one needs it
    std::vector<unsigned> active;  // those that hold anything
    bool used() const { return !active.empty() || !barriers.empty(); }
};
Groups& my_groups(Core&);

// The completion of a load on an mbarrier that was put off.
struct Deferred {
    enum Kind : uint8_t { tiled, im2col, bulk, copies } kind = tiled;
    Block* to = nullptr;  // whose shared memory and barrier
    uint64_t* bar = nullptr;
    uint32_t address = 0, bytes = 0;
    TensorMap map{};
    int32_t at[5]{};
    Im2colPlace place{};
    const char* global = nullptr;  // bulk
    unsigned thread = 0;           // copies: whose,
    uint64_t upto = 0;             // and up to which
    Block* from = nullptr;         // the thread that started it
    uint3 by{};
    Site site;
    Races::Operation race;
};
// Does what was put off.
void complete(Core&, const Deferred&);
// Does those of the thread's copies that were put off, up to number `upto` since the block began.
void run_copies(Core&, Block&, Groups&, uint64_t upto);
// Does the thread's stores of the first `upto` groups, or only reads their sources.
void run_stores(Groups&, uint32_t upto, bool read_only);

// Called when no thread can run: lets something that was put off happen, or tells threads in
// mbarrier_try_wait to give up once. Returns false when there is nothing left to do.
bool unblock(Core&);
// Called when a thread polls: something that was put off may happen now. Returns false when there
// is nothing.
bool complete_any(Core&);
// Called when every thread of the block has returned: does the stores that were put off, and fails
// the grid when a load into the block's shared memory is still under way.
void end_async(Core&, Block&);
// The same without checks, after a grid that was abandoned.
void forget_async(Block&);

// ---- global memory ------------------------------------------------------------------------------

// Ranges of global memory known to be live and reachable for the running grid.
struct Reachable {
    struct Range {
        uint64_t from, to;
    };
    Range ranges[8];
    unsigned count = 0;
};
// Says why the running grid may not use that memory: it is not all in one live allocation, or it is
// another device's. Empty when it may.
std::string why_unreachable(Core&, uint64_t from, uint64_t bytes);
// The grid fails when a TMA operation would leave live memory that the device may use.
void expect_reachable(Core&, uint64_t from, uint64_t bytes, const char* what, Site);

}  // namespace vgpu
