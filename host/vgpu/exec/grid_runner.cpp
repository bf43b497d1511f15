// Runs grids: blocks over cores, a block's threads on fibers. See vgpu/context.h for the idea.
#include "host/vgpu/exec/core.h"

#include <omp.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <numeric>
#include <thread>

#ifdef VGPU_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

constinit thread_local dim3 blockDim __attribute__((tls_model("initial-exec")));
constinit thread_local dim3 gridDim __attribute__((tls_model("initial-exec")));

namespace vgpu {

constinit thread_local Context context __attribute__((tls_model("initial-exec")));

namespace {

uint64_t now_ns() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<uint64_t>(t.tv_sec) * 1000000000u + static_cast<uint64_t>(t.tv_nsec);
}

// ---- switching ------------------------------------------------------------------------------

// that a thread touches when it goes on: of the switch, and of what called it
constexpr int kStackLines = 6;

// AddressSanitizer wants to know of every switch: before it, the stack it goes to; after it, that
// it came.
inline void before_switch([[maybe_unused]] void** keep, [[maybe_unused]] const void* stack,
                          [[maybe_unused]] size_t bytes) {
#ifdef VGPU_ASAN
    __sanitizer_start_switch_fiber(keep, stack, bytes);
#endif
}
inline void after_switch([[maybe_unused]] void* kept) {
#ifdef VGPU_ASAN
    __sanitizer_finish_switch_fiber(kept, nullptr, nullptr);
#endif
}

inline void switch_to(Core& core, Fiber* to) {
    Fiber* from = core.current;
    core.current = to;
    before_switch(&from->fake_stack, to->stack, core.fibers.stack_bytes());
    vgpu_switch(&from->sp, to->sp);
    after_switch(from->fake_stack);
}

// The first code of every fiber.
void fiber_entry() {
    Core& core = *context.core;
#ifdef VGPU_ASAN
    const void* stack = nullptr;
    size_t bytes = 0;
    __sanitizer_finish_switch_fiber(nullptr, &stack, &bytes);
    if (!core.main_stack) core.main_stack = stack, core.main_stack_size = bytes;
#endif
    core.grid->loop(core.grid->kernel, core.grid->args);
    abandon(core);  // next_thread() said that there is nothing left for this core
}

inline void enter(Core& core, Block& b) {
    core.block = &b;
    core.barriers = b.barriers;
    core.warps = b.warps;
    context.block = b.index;
    context.shared = b.shared;
}

// The context of the fiber that goes on with the loop after the cursor's thread.
inline void take_loop(Core& core) {
    core.unstarted = false;
    context.thread = core.cursor;
    context.row_end = core.grid->block.x;
    if (core.cursor_block != core.block) enter(core, *core.cursor_block);
}

// The context of a fiber that holds a thread.
inline void take_thread(Core& core, const Fiber& f) {
    context.thread = f.thread;
    context.row_end = 0;
    if (f.block != core.block) enter(core, *f.block);
}

// A fiber that is free to go on with the loop.
Fiber* loop_fiber(Core& core) {
    if (Fiber* f = core.parked.pop()) return f;
    return core.fibers.fresh(core.used++, fiber_entry);
}

// Takes one ready fiber: the first, or one that the seed chooses.
inline Fiber* pop_ready(Core& core) {
    Fiber* f = core.ready.pop();
    if (!f || !core.ready.head) return f;
    if (!core.random) {
        // The stacks of a few hundred threads are more than the first cache: while this one runs,
        // the next one's comes nearer.
        const Fiber* next = core.ready.head;
        const char* stack = static_cast<const char*>(next->sp);
        for (int line = 0; line < kStackLines; ++line) __builtin_prefetch(stack + 64 * line);
        __builtin_prefetch(next->next);
        return f;
    }
    for (uint64_t skip = draw(core) % 8; skip; --skip) {
        core.ready.push(f);
        f = core.ready.pop();
    }
    return f;
}

// Another thread goes on; the running fiber comes back when someone switches to it.
inline void run_other(Core& core) {
    for (;;) {
        if (Fiber* f = pop_ready(core)) {
            take_thread(core, *f);
            if (f != core.current) switch_to(core, f);
            return;
        }
        if (core.unstarted) {
            Fiber* loop = loop_fiber(core);
            take_loop(core);
            return switch_to(core, loop);
        }
        if (!unblock(core)) {
            note_stuck(core);
            abandon(core);
        }
    }
}

// Of the block of the cluster whose threads start after this one's; the first one's when this is
// the last.
inline unsigned next_rank(const Core& core) {
    return core.block->rank + 1 < core.cluster ? core.block->rank + 1 : 0;
}

// The running thread gets this fiber for its own; the loop goes on elsewhere.
inline void leave_loop(Core& core) {
    Context& c = context;
    core.cursor = c.thread;
    core.cursor_block = core.block;
    core.unstarted = c.thread.x + 1 < c.block_dim.x || c.thread.y + 1 < c.block_dim.y ||
                     c.thread.z + 1 < c.block_dim.z;
    c.row_end = 0;
    ++core.live;
    ++core.block->live;
    if (!core.unstarted) {
        core.block->handed_out = true;
        core.unstarted = next_rank(core) != core.first_rank;
    }
}

// ---- blocks ---------------------------------------------------------------------------------

bool take_blocks(Core& core) {
    BlockSource& s = *core.source;
    if (s.stop.load(std::memory_order_relaxed)) return false;
    const uint64_t first = s.next.fetch_add(s.chunk, std::memory_order_relaxed);
    if (first >= s.end) return false;
    core.block_next = first;
    core.block_end = std::min(s.end, first + s.chunk);
    return true;
}

// What is drawn in block i of the grid: the same on whichever core it runs.
void seed_block(Core& core, uint64_t i) {
    core.random = (core.seed + i) * 0x9e3779b97f4a7c15u | 1;
    draw(core);
    // in a quarter of the blocks everything
    core.defers = 64 * (1 + static_cast<unsigned>(draw(core) % 4));
}

// Block i of the grid, or of a grid of clusters.
uint3 coordinates(uint64_t i, const dim3& g) {
    if (g.y == 1 && g.z == 1) return {static_cast<unsigned>(i), 0, 0};
    const uint64_t rows = i / g.x;
    return {static_cast<unsigned>(i % g.x), static_cast<unsigned>(rows % g.y),
            static_cast<unsigned>(rows / g.y)};
}

void start_block(Core& core, Block& b, const uint3& index) {
    b.index = index;
    b.started = b.handed_out = b.exited = false;
    if (b.stale) reset_barriers(b);
    if (checking() && core.grid->shared) std::memset(b.shared, 0xff, core.grid->shared);
}

// The cluster's blocks, of which the seed chooses the first to start.
void start_cluster(Core& core, uint64_t i) {
    const dim3 &g = core.grid->grid, &c = core.grid->cluster;
    const uint3 at = coordinates(i, {g.x / c.x, g.y / c.y, g.z / c.z});
    for (unsigned r = 0; r < core.cluster; ++r) {
        const uint3 in = coordinates(r, c);
        start_block(core, *core.blocks[r],
                    {at.x * c.x + in.x, at.y * c.y + in.y, at.z * c.z + in.z});
    }
    core.first_rank = core.random ? static_cast<unsigned>(draw(core) % core.cluster) : 0;
    core.reaches_out = false;
    core.cursor_block = core.blocks[core.first_rank].get();
    core.cursor_block->started = true;
    enter(core, *core.cursor_block);
}

// Every thread of the block has returned.
void end_block(Core& core, Block& b) {
    if (b.async.used()) end_async(core, b);
    if (b.warpgroups.used) end_warpgroups(core, b);
    if (core.races) core.races->end_block();
}

// In a cluster: the block may have ended.
void look_for_end(Core& core, Block& b) {
    if (!b.handed_out || b.live || b.exited) return;
    b.exited = true;
    end_block(core, b);
    if (core.reaches_out) shield(core, b);
}

// Sets the context for this core's next block or cluster. False when there is none, or when its
// time is up.
bool next_block(Core& core) {
    if (core.block_next == core.block_end && !take_blocks(core)) return false;
    BlockSource& s = *core.source;
    uint64_t i = core.block_next++;
    if (core.deadline_ns && i && (i & (i - 1)) == 0 && now_ns() > core.deadline_ns) {
        s.next.store(i, std::memory_order_relaxed);  // not run: the team's first
        core.block_end = core.block_next;
        return false;
    }
    if (s.multiplier != 1 || s.offset)
        i = static_cast<uint64_t>((static_cast<unsigned __int128>(i) * s.multiplier + s.offset) %
                                  s.end);
    if (core.seed) seed_block(core, i);
    if (core.cluster == 1) {
        context.block = coordinates(i, context.grid_dim);
        start_block(core, *core.block, context.block);
    } else {
        start_cluster(core, i);
    }
    if (core.races) core.races->begin_block();
    core.cursor = {~0u, 0, 0};  // next_thread() steps to thread 0
    take_loop(core);
    return true;
}

// All threads of the running block have started: those of the cluster's next one. False when this
// was the last.
bool next_of_cluster(Core& core) {
    core.block->handed_out = true;
    const unsigned next = next_rank(core);
    look_for_end(core, *core.block);
    if (next == core.first_rank) return false;
    enter(core, *core.blocks[next]);
    core.block->started = true;
    context.thread = {0, 0, 0};
    return true;
}

}  // namespace

// ---- what rendezvous.cpp and the kernel's loop call -------------------------------------------

bool checking() {
#ifdef VGPU_ASAN
    return true;
#else
    static const bool on = [] {
        const char* text = std::getenv("VGPU_CHECK");
        return text && std::strcmp(text, "0") != 0;
    }();
    return on;
#endif
}

void own_fiber(Core& core) {
    if (context.row_end) leave_loop(core);
}

void wait_in(Core& core, FiberList& list) {
    Fiber* f = core.current;
    f->thread = context.thread;
    f->block = core.block;
    if (context.row_end) leave_loop(core);
    list.push(f);
    run_other(core);
    f->wait.kind = Wait::none;
}

void release(Core& core, FiberList& list) { core.ready.append(list); }

void yield() {
    Core& core = *context.core;
    if (core.random && draw(core) % 16 == 0) complete_any(core);
    if (!core.ready.head && !core.unstarted && !context.row_end && !complete_any(core)) return;
    Fiber* f = core.current;
    f->thread = context.thread;
    f->block = core.block;
    if (context.row_end) leave_loop(core);
    if (!core.ready.head && !core.unstarted) return;
    // Threads that have not started go before this one, else pollers would starve them.
    if (core.unstarted) {
        core.ready.push(f);
        Fiber* loop = loop_fiber(core);
        take_loop(core);
        switch_to(core, loop);
    } else {
        core.ready.push(f);
        run_other(core);
    }
}

bool next_thread_slow() {
    Core& core = *context.core;
    Context& c = context;
    if (c.row_end) {  // the loop, at the end of a row
        c.thread.x = 0;
        if (++c.thread.y < c.block_dim.y) return true;
        c.thread.y = 0;
        if (++c.thread.z < c.block_dim.z) return true;
        if (core.cluster > 1 && next_of_cluster(core)) return true;
        c.row_end = 0;
    } else {  // a thread that had waited is done
        --core.live;
        --core.block->live;
        if (core.cluster_barrier.between) {
            --c.thread.x;  // next_thread() has stepped on already
            expect_waited(core);
        }
        if (core.cluster > 1) look_for_end(core, *core.block);
        if (core.unstarted) {
            take_loop(core);
            return next_thread();
        }
    }
    // Every thread has started. This fiber is free for the threads that wait.
    if (core.cluster_barrier.arrived) settle_cluster_barrier(core);
    while (core.live && !core.ready.head && unblock(core)) {
    }
    if (core.ready.head) {
        core.parked.push(core.current);
        Fiber* f = pop_ready(core);
        take_thread(core, *f);
        switch_to(core, f);
        return next_thread();  // taken for the loop again
    }
    if (core.live) {
        note_stuck(core);
        abandon(core);
    }
    if (core.cluster == 1)
        end_block(core, *core.block);
    else
        end_cluster(core);
    return next_block(core) && next_thread();
}

void abandon(Core& core) {
    core.running = false;
    before_switch(nullptr, core.main_stack, core.main_stack_size);
    vgpu_jump(core.main_sp);
}

void note_failure(Core& core, int code, std::string what) {
    core.failed = code;
    core.what = std::move(what);
}

void fail(int code, const char* what, Site site) {
    note_failure(*context.core, code, std::string(what) + " at " + describe_site(site));
    abandon(*context.core);
}

// ---- cores ----------------------------------------------------------------------------------

Block::Block() {
    // A page of guard behind the largest shared memory a block may have.
    void* p = mmap(nullptr, kSharedMax + 4096, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    shared = static_cast<char*>(p);
    mprotect(shared + kSharedMax, 4096, PROT_NONE);
}

Block::~Block() {
#ifdef VGPU_ASAN
    ASAN_UNPOISON_MEMORY_REGION(shared, kSharedMax);  // what is mapped here next is not poisoned
#endif
    munmap(shared, kSharedMax + 4096);
}

Core::Core() {
    blocks.emplace_back(new Block);
    if (Races::wanted()) races.reset(new Races(*this));
    install_alternate_stack(*this);
}

Core::~Core() { remove_alternate_stack(); }

namespace {

Core& this_core() {
    static thread_local std::unique_ptr<Core> core;
    if (!core) core.reset(new Core);
    return *core;
}

// Runs blocks of the grid on this OS thread until there are none, the deadline passes or one fails.
GridFailure work(Core& core, const Grid& grid, BlockSource& source, uint64_t deadline_ns,
                 uint64_t seed) {
    core.grid = &grid;
    core.source = &source;
    core.block_next = core.block_end = 0;
    core.deadline_ns = deadline_ns;
    core.random = core.seed = seed;
    core.ready = core.parked = {};
    core.used = core.live = 0;
    core.threads = grid.block.x * grid.block.y * grid.block.z;
    core.failed = core.signal = 0;
    core.waits = 0;
    core.detail.clear();
    core.reachable.count = 0;
    if (core.broken) {
        forget_cluster(core);
        for (auto& b : core.blocks) {
            reset_barriers(*b);
            reset_warps(*b);
            forget_async(*b);
            forget_warpgroups(*b);
        }
        core.deferred.clear();
        core.broken = false;
    }
    core.cluster = grid.cluster.x * grid.cluster.y * grid.cluster.z;
    core.first_rank = 0;
    while (core.blocks.size() < core.cluster) {
        core.blocks.emplace_back(new Block);
        core.blocks.back()->rank = static_cast<unsigned>(core.blocks.size() - 1);
    }
    for (auto& b : core.blocks) b->live = 0;
    Context& c = context;
    c.core = &core;
    c.block_dim = grid.block;
    c.grid_dim = grid.grid;
    ::blockDim = grid.block;
    ::gridDim = grid.grid;
    enter(core, *core.blocks[0]);
    core.cursor_block = core.block;
    if (core.races) core.races->begin_grid();
    GridFailure failure;
#ifdef VGPU_ASAN
    for (unsigned r = 0; r < core.cluster; ++r) {
        ASAN_UNPOISON_MEMORY_REGION(core.blocks[r]->shared, kSharedMax);
        ASAN_POISON_MEMORY_REGION(core.blocks[r]->shared + grid.shared, kSharedMax - grid.shared);
    }
#endif
    if (next_block(core)) {
        core.current = loop_fiber(core);
        core.running = true;
        before_switch(&core.main_fake_stack, core.current->stack, core.fibers.stack_bytes());
        vgpu_switch(&core.main_sp, core.current->sp);
        core.running = false;
        after_switch(core.main_fake_stack);
        if (core.signal) describe_signal(core);
        if (core.failed && core.races)
            if (std::string found = core.races->describe(); !found.empty())
                core.what = std::move(found);
        core.broken = core.failed != 0;
        if (core.failed)
            failure = {core.failed, where(c, grid) + ": " + core.what, std::move(core.detail)};
    }
    c.core = nullptr;
    source.waits += core.waits;
    return failure;
}

// A legal order of blocks other than the ascending one: an affine permutation.
void shuffle_blocks(BlockSource& s, uint64_t seed) {
    uint64_t state = seed * 0x9e3779b97f4a7c15u | 1;
    next_random(state);
    s.offset = next_random(state) % s.end;
    s.multiplier = next_random(state) % s.end | 1;
    while (std::gcd(s.multiplier, s.end) != 1) ++s.multiplier;
}

std::string refuse(const Grid& g) {
    const uint64_t threads = uint64_t{g.block.x} * g.block.y * g.block.z;
    if (threads == 0 || uint64_t{g.grid.x} * g.grid.y * g.grid.z == 0) return "the grid is empty";
    if (threads > static_cast<unsigned>(kBlockThreads) || g.block.z > 64)
        return "more than 1024 threads in a block (or 64 in z)";
    if (g.grid.x > 0x7fffffffu || g.grid.y > 65535 || g.grid.z > 65535)
        return "a grid may have 2^31-1 x 65535 x 65535 blocks";
    if (g.shared > kSharedMax)
        return std::to_string(g.shared) + " bytes of shared memory; a block may have 227 KiB";
    const dim3& c = g.cluster;
    if (uint64_t{c.x} * c.y * c.z == 0 || uint64_t{c.x} * c.y * c.z > kClusterBlocksNonPortable ||
        g.grid.x % c.x || g.grid.y % c.y || g.grid.z % c.z)
        return "a cluster has 1 to 16 blocks and divides the grid";
    return {};
}

// On hardware such a kernel may read what the one before it has not written yet. Here it never
// starts early, so it would pass every test.
GridFailure check_waits(const Grid& g, const BlockSource& source) {
    const uint64_t threads =
        uint64_t{g.grid.x} * g.grid.y * g.grid.z * g.block.x * g.block.y * g.block.z;
    if (!g.dependent || source.waits >= threads) return {};
    return {719,
            symbol_name(g.kernel) + ": launched as dependent on the kernel before it, but " +
                std::to_string(threads - source.waits) + " of " + std::to_string(threads) +
                " threads do not wait for that (griddep_wait)",
            {}};
}

// Waking the team costs some 5 to 50 us: a grid gets this long on one core first.
constexpr uint64_t kAloneNs = 20000;

}  // namespace

int core_count() {
    static const int n = [] {
        const int all = std::max(1, omp_get_max_threads());
        const char* text = std::getenv("VGPU_THREADS");
        if (!text || !*text) return all;
        char* end = nullptr;
        const long asked = std::strtol(text, &end, 10);
        if (!*end && asked >= 1 && asked <= 1024) return static_cast<int>(asked);
        std::fprintf(stderr, "vgpu: VGPU_THREADS=%s: must be 1 to 1024; %d now\n", text, all);
        return all;
    }();
    return n;
}

GridFailure run_grid(const Grid& grid, uint64_t seed) {
    install_handlers();
    if (std::string reason = refuse(grid); !reason.empty()) {
        context.thread = context.block = {};
        return {9, where(context, grid) + ": " + reason, {}};
    }
    BlockSource source;
    source.end = uint64_t{grid.grid.x} * grid.grid.y * grid.grid.z /
                 (uint64_t{grid.cluster.x} * grid.cluster.y * grid.cluster.z);
    if (seed) shuffle_blocks(source, seed);
    // One core where races are looked for: it sees all blocks.
    const int cores =
        Races::wanted() ? 1 : static_cast<int>(std::min<uint64_t>(core_count(), source.end));
    GridFailure failure =
        work(this_core(), grid, source, cores > 1 ? now_ns() + kAloneNs : 0, seed);
    const uint64_t done = source.next.load();
    if (failure) return failure;
    if (done >= source.end) return check_waits(grid, source);

    source.chunk =
        static_cast<unsigned>(std::clamp<uint64_t>((source.end - done) / (16u * cores), 1, 256));
    std::mutex mutex;
#pragma omp parallel num_threads(cores)
    {
        GridFailure mine = work(this_core(), grid, source, 0, seed);
        if (mine) {
            source.stop = true;
            const std::lock_guard lock(mutex);
            if (!failure) failure = std::move(mine);
        }
    }
    return failure ? failure : check_waits(grid, source);
}

}  // namespace vgpu
