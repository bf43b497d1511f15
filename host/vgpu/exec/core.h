// The grid runner's inside: one Core, which stands for a multiprocessor, for each OS thread that
// runs blocks. It is shared by grid_runner.cpp (blocks and fibers), rendezvous.cpp (barriers,
// warps), diagnosis/report.cpp (what went wrong) and ptx/ (what instructions do).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "host/vgpu/ptx/async.h"
#include "host/vgpu/exec/fiber.h"
#include "host/vgpu/exec/grid.h"
#include "host/vgpu/runtime/limits.h"
#include "host/vgpu/diagnosis/races.h"
#include "host/vgpu/ptx/wgmma.h"

namespace vgpu {

inline constexpr unsigned kNamedBarriers = 16;

struct Barrier {
    unsigned arrived = 0, expected = 0;
    Site site;  // of the first to arrive
    FiberList waiting;
    int sum = 0, result = 0;  // of the predicates of __syncthreads_*
};

// What the last lane to arrive does for all: warp_together's `work`.
using WarpWork = void (*)(void* const* lanes, unsigned mask);

// One rendezvous of some lanes. Lanes that wait together are found by the lowest lane of their
// mask, so disjoint masks of one warp do not meet.
struct WarpSlot {
    unsigned expected = 0, arrived = 0;  // lane masks
    WarpOp op{};
    uint64_t sum = 0;
    FiberList waiting;
    // Of operations of all 32 lanes:
    WarpWork work = nullptr;
    Site site;  // of the first to arrive
    const char* what = nullptr;
};

struct Warp {
    uint64_t in[32], out[32];
    uint8_t source[32];
    void* pointer[32];
    WarpSlot slot[32];
};

// One block as its core runs it.
struct Block {
    Barrier barriers[kNamedBarriers];
    Warp warps[kBlockThreads / 32];
    bool stale = false;      // barriers hold arrivals that nobody will wait for
    char* shared = nullptr;  // kSharedMax bytes and a guard page
    Async async;
    Warpgroups warpgroups;

    uint3 index{};      // blockIdx
    unsigned rank = 0;  // in its cluster
    unsigned live = 0;  // its share of Core::live
    // Of clusters of several blocks: its first thread has started; its last one has; all have
    // returned.
    bool started = false, handed_out = false, exited = false;
    bool shielded = false;  // exited, and its shared memory is inaccessible
    // at the cluster's barrier, by thread: 0, or 1 + the phase
    uint8_t arrived[kBlockThreads] = {};

    Block();
    ~Block();
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;
};

// Where cores get blocks from: [next, end) of the grid's blocks (clusters) in the order the seed
// gives.
struct BlockSource {
    std::atomic<uint64_t> next{0};
    uint64_t end = 0;
    unsigned chunk = 1;
    std::atomic<bool> stop{false};
    std::atomic<uint64_t> waits{0};       // griddep_wait, by all cores
    uint64_t multiplier = 1, offset = 0;  // block = (i * multiplier + offset) % end
};

// The barrier of a cluster's threads.
struct ClusterBarrier {
    unsigned arrived = 0;
    unsigned between = 0;  // threads that have arrived and not waited yet
    uint8_t phase = 0;
    FiberList waiting;
};

struct Core {
    FiberPool fibers;
    const Grid* grid = nullptr;
    BlockSource* source = nullptr;
    uint64_t block_next = 0, block_end = 0;  // taken from the source, not yet run
    uint64_t deadline_ns = 0;                // stop taking blocks after this; 0: never
    uint64_t random = 0;  // state of what is drawn within a block; 0: first come first served
    uint64_t seed = 0;    // of the grid
    unsigned defers = 0;  // of 256 asynchronous operations of the block so many are put off

    Fiber* current = nullptr;
    FiberList ready;                // hold a thread that can go on
    FiberList parked;               // hold none, wait in next_thread()
    unsigned used = 0;              // fibers made for this grid
    unsigned live = 0;              // threads that hold a fiber of their own, running or not
    unsigned threads = 0;           // of a block
    uint64_t waits = 0;             // calls of griddep_wait in this grid
    uint3 cursor{};                 // the last thread handed out, while no fiber is in the loop,
    Block* cursor_block = nullptr;  // and its block
    bool unstarted = false;  // there are threads after the cursor, and no fiber is in the loop

    bool broken = false;  // a grid was abandoned: barriers and warps hold threads that are gone
    // of the cluster, by rank; the first `cluster` are in use
    std::vector<std::unique_ptr<Block>> blocks;
    unsigned cluster = 1;
    // the block whose threads start first, then the next ones, in a ring
    unsigned first_rank = 0;
    ClusterBarrier cluster_barrier;
    bool reaches_out = false;     // a thread has made a pointer into another block's shared memory
    Block* block = nullptr;       // the running thread's,
    Barrier* barriers = nullptr;  // and its barriers
    Warp* warps = nullptr;
    std::vector<Deferred> deferred;  // completions of mbarriers that were put off
    uint64_t progress = 1;           // counts what may let waiting threads go on
    Reachable reachable;
    std::unique_ptr<Races> races;  // null unless the kernels tell of their accesses

    void* main_sp = nullptr;           // the OS thread's own stack, while a fiber runs
    const void* main_stack = nullptr;  // AddressSanitizer's bounds of it
    size_t main_stack_size = 0;
    void* main_fake_stack = nullptr;
    bool running = false;  // a kernel runs: signals are its

    // A failure in the making: set before the jump to the main stack.
    int failed = 0;
    std::string what, detail;
    int signal = 0;
    const void* signal_address = nullptr;

    Core();
    ~Core();
};

// The two below are called where there is a seed, and core.random is then not 0.
inline uint64_t next_random(uint64_t& state) {  // xorshift64
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}
inline uint64_t draw(Core& core) { return next_random(core.random); }
// Whether the asynchronous operation that starts now is put off to the latest legal time.
inline bool puts_off(Core& core) { return core.random && draw(core) % 256 < core.defers; }

// ---- clusters (ptx/cluster.cpp) ----

// Returns the cluster's block of that rank, for an operation on its shared memory. The grid fails
// when the block does not run.
Block& block_of_cluster(Core&, unsigned rank, const char* what, Site);
// The grid fails when a thread returns between the halves of the cluster's barrier, without its
// wait.
void expect_waited(Core&);
// Completes the cluster's barrier if every thread that has not returned is there.
void settle_cluster_barrier(Core&);
// Every thread of the cluster has returned: all shared memory is made accessible again.
void end_cluster(Core&);
// The same after a grid that was abandoned.
void forget_cluster(Core&);
// Makes an exited block's shared memory inaccessible while others of its cluster go on.
void shield(Core&, Block&);

// ---- threads (grid_runner.cpp, rendezvous.cpp) ----

// The running thread waits in `list` until someone moves it to `ready`; another goes on.
void wait_in(Core&, FiberList& list);
// This one notes what for. It is inline and writes fields: a Wait that is written field by field
// and copied as a whole right after waits for the store buffer, which takes longer than the switch.
inline void wait_in(Core& core, FiberList& list, const Wait& wait) {
    Wait& mine = core.current->wait;
    mine.kind = wait.kind;
    mine.id = wait.id;
    mine.count = wait.count;
    mine.site.file = wait.site.file;
    mine.site.line = wait.site.line;
    mine.what = wait.what;
    wait_in(core, list);
}
// The running thread gets the fiber that it runs on for its own; the loop over threads goes on
// elsewhere.
void own_fiber(Core&);
// All threads in `list` can go on.
void release(Core&, FiberList& list);
// Does what warp_together does for an instruction that PTX marks .aligned: all 32 lanes come to it,
// at one place in the source.
void whole_warp(void* mine, WarpWork work, const char* what, Site site);
// Tells whether memory that nobody wrote reads as NaN, and checks that cost time are made: with
// VGPU_CHECK, and in sanitizer builds.
bool checking();
// These forget who has arrived: at the block's barriers, and at its warps' rendezvous.
void reset_barriers(Block&);
void reset_warps(Block&);

// A failing fiber first notes why, then abandons the grid: two statements, because nothing on the
// fiber's stack is destroyed after the jump, not even the temporaries of the message.
void note_failure(Core&, int code, std::string what);
[[noreturn]] void abandon(Core&);

// ---- what is said (diagnosis/report.cpp) ----

// "kernel NAME, grid (1,1,1), block (0,0,0), thread (3,0,0)"
std::string where(const Context&, const Grid&);
std::string describe_site(Site);  // "file.cu:12"
// No thread of the block can go on: notes a failure that lists who waits for what.
void note_stuck(Core&);
// Fills `failed` and `what` from `signal` and `signal_address`.
void describe_signal(Core&);
// Called before every grid; costs one system call when the handlers are there.
void install_handlers();
// Each OS thread calls these once.
void install_alternate_stack(Core&);
void remove_alternate_stack();

}  // namespace vgpu
