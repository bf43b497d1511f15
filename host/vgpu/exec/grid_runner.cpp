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

constexpr int kStackLines = 6;  // that a thread touches when it goes on: of the switch, and of what called it

// AddressSanitizer wants to know of every switch: before it, the stack it goes to; after it, that it came.
inline void before_switch([[maybe_unused]] void** keep, [[maybe_unused]] const void* stack, [[maybe_unused]] size_t bytes) {
#ifdef VGPU_ASAN
    __sanitizer_start_switch_fiber(keep, stack, bytes);
#endif
}
inline void after_switch([[maybe_unused]] void* kept) {
#ifdef VGPU_ASAN
    __sanitizer_finish_switch_fiber(kept, nullptr, nullptr);
#endif
}

inline void switch_to(Worker& w, Fiber* to) {
    Fiber* from = w.current;
    w.current = to;
    before_switch(&from->fake_stack, to->stack, w.fibers.stack_bytes());
    vgpu_switch(&from->sp, to->sp);
    after_switch(from->fake_stack);
}

// The first code of every fiber.
void fiber_entry() {
    Worker& w = *context.worker;
#ifdef VGPU_ASAN
    const void* stack = nullptr;
    size_t bytes = 0;
    __sanitizer_finish_switch_fiber(nullptr, &stack, &bytes);
    if (!w.main_stack) w.main_stack = stack, w.main_stack_size = bytes;
#endif
    w.grid->loop(w.grid->kernel, w.grid->args);
    abandon(w);  // next_thread() said that there is nothing left for this worker
}

inline void enter(Worker& w, Block& b) {
    w.block = &b;
    w.barriers = b.barriers;
    w.warps = b.warps;
    context.block = b.index;
    context.shared = b.shared;
}

// The context of the fiber that goes on with the loop after the cursor's thread.
inline void take_loop(Worker& w) {
    w.unstarted = false;
    context.thread = w.cursor;
    context.row_end = w.grid->block.x;
    if (w.cursor_block != w.block) enter(w, *w.cursor_block);
}

// The context of a fiber that holds a thread.
inline void take_thread(Worker& w, const Fiber& f) {
    context.thread = f.thread;
    context.row_end = 0;
    if (f.block != w.block) enter(w, *f.block);
}

// A fiber that is free to go on with the loop.
Fiber* loop_fiber(Worker& w) {
    if (Fiber* f = w.parked.pop()) return f;
    return w.fibers.fresh(w.used++, fiber_entry);
}

// Takes one ready fiber: the first, or one that the seed chooses.
inline Fiber* pop_ready(Worker& w) {
    Fiber* f = w.ready.pop();
    if (!f || !w.ready.head) return f;
    if (!w.random) {
        // The stacks of a few hundred threads are more than the first cache: while this one runs, the next one's comes nearer.
        const Fiber* next = w.ready.head;
        const char* stack = static_cast<const char*>(next->sp);
        for (int line = 0; line < kStackLines; ++line) __builtin_prefetch(stack + 64 * line);
        __builtin_prefetch(next->next);
        return f;
    }
    for (uint64_t skip = draw(w) % 8; skip; --skip) {
        w.ready.push(f);
        f = w.ready.pop();
    }
    return f;
}

// Another thread goes on; the running fiber comes back when someone switches to it.
inline void run_other(Worker& w) {
    for (;;) {
        if (Fiber* f = pop_ready(w)) {
            take_thread(w, *f);
            if (f != w.current) switch_to(w, f);
            return;
        }
        if (w.unstarted) {
            Fiber* loop = loop_fiber(w);
            take_loop(w);
            return switch_to(w, loop);
        }
        if (!unblock(w)) {
            note_stuck(w);
            abandon(w);
        }
    }
}

// Of the block of the cluster whose threads start after this one's; the first one's when this is the last.
inline unsigned next_rank(const Worker& w) { return w.block->rank + 1 < w.cluster ? w.block->rank + 1 : 0; }

// The running thread gets this fiber for its own; the loop goes on elsewhere.
inline void leave_loop(Worker& w) {
    Context& c = context;
    w.cursor = c.thread;
    w.cursor_block = w.block;
    w.unstarted = c.thread.x + 1 < c.block_dim.x || c.thread.y + 1 < c.block_dim.y || c.thread.z + 1 < c.block_dim.z;
    c.row_end = 0;
    ++w.live;
    ++w.block->live;
    if (!w.unstarted) {
        w.block->handed_out = true;
        w.unstarted = next_rank(w) != w.first_rank;
    }
}

// ---- blocks ---------------------------------------------------------------------------------

bool take_blocks(Worker& w) {
    BlockSource& s = *w.source;
    if (s.stop.load(std::memory_order_relaxed)) return false;
    const uint64_t first = s.next.fetch_add(s.chunk, std::memory_order_relaxed);
    if (first >= s.end) return false;
    w.block_next = first;
    w.block_end = std::min(s.end, first + s.chunk);
    return true;
}

// What is drawn in block i of the grid: the same on whichever core it runs.
void seed_block(Worker& w, uint64_t i) {
    w.random = (w.seed + i) * 0x9e3779b97f4a7c15u | 1;
    draw(w);
    w.defers = 64 * (1 + static_cast<unsigned>(draw(w) % 4));  // in a quarter of the blocks everything
}

// Block i of the grid, or of a grid of clusters.
uint3 coordinates(uint64_t i, const dim3& g) {
    if (g.y == 1 && g.z == 1) return {static_cast<unsigned>(i), 0, 0};
    const uint64_t rows = i / g.x;
    return {static_cast<unsigned>(i % g.x), static_cast<unsigned>(rows % g.y), static_cast<unsigned>(rows / g.y)};
}

void start_block(Worker& w, Block& b, const uint3& index) {
    b.index = index;
    b.started = b.handed_out = b.exited = false;
    if (b.stale) reset_barriers(b);
    if (checking() && w.grid->shared) std::memset(b.shared, 0xff, w.grid->shared);
}

// The cluster's blocks, of which the seed chooses the first to start.
void start_cluster(Worker& w, uint64_t i) {
    const dim3 &g = w.grid->grid, &c = w.grid->cluster;
    const uint3 at = coordinates(i, {g.x / c.x, g.y / c.y, g.z / c.z});
    for (unsigned r = 0; r < w.cluster; ++r) {
        const uint3 in = coordinates(r, c);
        start_block(w, *w.blocks[r], {at.x * c.x + in.x, at.y * c.y + in.y, at.z * c.z + in.z});
    }
    w.first_rank = w.random ? static_cast<unsigned>(draw(w) % w.cluster) : 0;
    w.reaches_out = false;
    w.cursor_block = w.blocks[w.first_rank].get();
    w.cursor_block->started = true;
    enter(w, *w.cursor_block);
}

// Every thread of the block has returned.
void end_block(Worker& w, Block& b) {
    if (b.async.used()) end_async(w, b);
    if (b.warpgroups.used) end_warpgroups(w, b);
    if (w.races) w.races->end_block();
}

// In a cluster: the block may have ended.
void look_for_end(Worker& w, Block& b) {
    if (!b.handed_out || b.live || b.exited) return;
    b.exited = true;
    end_block(w, b);
    if (w.reaches_out) shield(w, b);
}

// Sets the context for this worker's next block or cluster. False when there is none, or when its time is up.
bool next_block(Worker& w) {
    if (w.block_next == w.block_end && !take_blocks(w)) return false;
    BlockSource& s = *w.source;
    uint64_t i = w.block_next++;
    if (w.deadline_ns && i && (i & (i - 1)) == 0 && now_ns() > w.deadline_ns) {
        s.next.store(i, std::memory_order_relaxed);  // not run: the team's first
        w.block_end = w.block_next;
        return false;
    }
    if (s.multiplier != 1 || s.offset)
        i = static_cast<uint64_t>((static_cast<unsigned __int128>(i) * s.multiplier + s.offset) % s.end);
    if (w.seed) seed_block(w, i);
    if (w.cluster == 1) {
        context.block = coordinates(i, context.grid_dim);
        start_block(w, *w.block, context.block);
    } else {
        start_cluster(w, i);
    }
    if (w.races) w.races->begin_block();
    w.cursor = {~0u, 0, 0};  // next_thread() steps to thread 0
    take_loop(w);
    return true;
}

// All threads of the running block have started: those of the cluster's next one. False when this was the last.
bool next_of_cluster(Worker& w) {
    w.block->handed_out = true;
    const unsigned next = next_rank(w);
    look_for_end(w, *w.block);
    if (next == w.first_rank) return false;
    enter(w, *w.blocks[next]);
    w.block->started = true;
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

void own_fiber(Worker& w) {
    if (context.row_end) leave_loop(w);
}

void wait_in(Worker& w, FiberList& list) {
    Fiber* f = w.current;
    f->thread = context.thread;
    f->block = w.block;
    if (context.row_end) leave_loop(w);
    list.push(f);
    run_other(w);
    f->wait.kind = Wait::none;
}

void release(Worker& w, FiberList& list) { w.ready.append(list); }

void yield() {
    Worker& w = *context.worker;
    if (w.random && draw(w) % 16 == 0) complete_any(w);
    if (!w.ready.head && !w.unstarted && !context.row_end && !complete_any(w)) return;
    Fiber* f = w.current;
    f->thread = context.thread;
    f->block = w.block;
    if (context.row_end) leave_loop(w);
    if (!w.ready.head && !w.unstarted) return;
    // Threads that have not started go before this one, else pollers would starve them.
    if (w.unstarted) {
        w.ready.push(f);
        Fiber* loop = loop_fiber(w);
        take_loop(w);
        switch_to(w, loop);
    } else {
        w.ready.push(f);
        run_other(w);
    }
}

bool next_thread_slow() {
    Worker& w = *context.worker;
    Context& c = context;
    if (c.row_end) {  // the loop, at the end of a row
        c.thread.x = 0;
        if (++c.thread.y < c.block_dim.y) return true;
        c.thread.y = 0;
        if (++c.thread.z < c.block_dim.z) return true;
        if (w.cluster > 1 && next_of_cluster(w)) return true;
        c.row_end = 0;
    } else {  // a thread that had waited is done
        --w.live;
        --w.block->live;
        if (w.cluster_barrier.between) {
            --c.thread.x;  // next_thread() has stepped on already
            expect_waited(w);
        }
        if (w.cluster > 1) look_for_end(w, *w.block);
        if (w.unstarted) {
            take_loop(w);
            return next_thread();
        }
    }
    // Every thread has started. This fiber is free for the threads that wait.
    if (w.cluster_barrier.arrived) settle_cluster_barrier(w);
    while (w.live && !w.ready.head && unblock(w)) {
    }
    if (w.ready.head) {
        w.parked.push(w.current);
        Fiber* f = pop_ready(w);
        take_thread(w, *f);
        switch_to(w, f);
        return next_thread();  // taken for the loop again
    }
    if (w.live) {
        note_stuck(w);
        abandon(w);
    }
    if (w.cluster == 1)
        end_block(w, *w.block);
    else
        end_cluster(w);
    return next_block(w) && next_thread();
}

void abandon(Worker& w) {
    w.running = false;
    before_switch(nullptr, w.main_stack, w.main_stack_size);
    vgpu_jump(w.main_sp);
}

void note_failure(Worker& w, int code, std::string what) {
    w.failed = code;
    w.what = std::move(what);
}

void fail(int code, const char* what, Site site) {
    note_failure(*context.worker, code, std::string(what) + " at " + describe_site(site));
    abandon(*context.worker);
}

// ---- workers --------------------------------------------------------------------------------

Block::Block() {
    // A page of guard behind the largest shared memory a block may have.
    void* p = mmap(nullptr, kSharedMax + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
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

Worker::Worker() {
    blocks.emplace_back(new Block);
    if (Races::wanted()) races.reset(new Races(*this));
    install_alternate_stack(*this);
}

Worker::~Worker() { remove_alternate_stack(); }

namespace {

Worker& this_worker() {
    static thread_local std::unique_ptr<Worker> worker;
    if (!worker) worker.reset(new Worker);
    return *worker;
}

// Runs blocks of the grid on this OS thread until there are none, the deadline passes or one fails.
GridFailure work(Worker& w, const Grid& grid, BlockSource& source, uint64_t deadline_ns, uint64_t seed) {
    w.grid = &grid;
    w.source = &source;
    w.block_next = w.block_end = 0;
    w.deadline_ns = deadline_ns;
    w.random = w.seed = seed;
    w.ready = w.parked = {};
    w.used = w.live = 0;
    w.threads = grid.block.x * grid.block.y * grid.block.z;
    w.failed = w.signal = 0;
    w.waits = 0;
    w.detail.clear();
    w.reachable.count = 0;
    if (w.broken) {
        forget_cluster(w);
        for (auto& b : w.blocks) {
            reset_barriers(*b);
            reset_warps(*b);
            forget_async(*b);
            forget_warpgroups(*b);
        }
        w.deferred.clear();
        w.broken = false;
    }
    w.cluster = grid.cluster.x * grid.cluster.y * grid.cluster.z;
    w.first_rank = 0;
    while (w.blocks.size() < w.cluster) {
        w.blocks.emplace_back(new Block);
        w.blocks.back()->rank = static_cast<unsigned>(w.blocks.size() - 1);
    }
    for (auto& b : w.blocks) b->live = 0;
    Context& c = context;
    c.worker = &w;
    c.block_dim = grid.block;
    c.grid_dim = grid.grid;
    ::blockDim = grid.block;
    ::gridDim = grid.grid;
    enter(w, *w.blocks[0]);
    w.cursor_block = w.block;
    if (w.races) w.races->begin_grid();
    GridFailure failure;
#ifdef VGPU_ASAN
    for (unsigned r = 0; r < w.cluster; ++r) {
        ASAN_UNPOISON_MEMORY_REGION(w.blocks[r]->shared, kSharedMax);
        ASAN_POISON_MEMORY_REGION(w.blocks[r]->shared + grid.shared, kSharedMax - grid.shared);
    }
#endif
    if (next_block(w)) {
        w.current = loop_fiber(w);
        w.running = true;
        before_switch(&w.main_fake_stack, w.current->stack, w.fibers.stack_bytes());
        vgpu_switch(&w.main_sp, w.current->sp);
        w.running = false;
        after_switch(w.main_fake_stack);
        if (w.signal) describe_signal(w);
        if (w.failed && w.races)
            if (std::string found = w.races->describe(); !found.empty()) w.what = std::move(found);
        w.broken = w.failed != 0;
        if (w.failed) failure = {w.failed, where(c, grid) + ": " + w.what, std::move(w.detail)};
    }
    c.worker = nullptr;
    source.waits += w.waits;
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
    if (threads > static_cast<unsigned>(kBlockThreads) || g.block.z > 64) return "more than 1024 threads in a block (or 64 in z)";
    if (g.grid.x > 0x7fffffffu || g.grid.y > 65535 || g.grid.z > 65535) return "a grid may have 2^31-1 x 65535 x 65535 blocks";
    if (g.shared > kSharedMax) return std::to_string(g.shared) + " bytes of shared memory; a block may have 227 KiB";
    const dim3& c = g.cluster;
    if (uint64_t{c.x} * c.y * c.z == 0 || uint64_t{c.x} * c.y * c.z > kClusterBlocksNonPortable || g.grid.x % c.x || g.grid.y % c.y || g.grid.z % c.z)
        return "a cluster has 1 to 16 blocks and divides the grid";
    return {};
}

// On hardware such a kernel may read what the one before it has not written yet. Here it never starts early, so it would
// pass every test.
GridFailure check_waits(const Grid& g, const BlockSource& source) {
    const uint64_t threads = uint64_t{g.grid.x} * g.grid.y * g.grid.z * g.block.x * g.block.y * g.block.z;
    if (!g.dependent || source.waits >= threads) return {};
    return {719, symbol_name(g.kernel) + ": launched as dependent on the kernel before it, but " + std::to_string(threads - source.waits) + " of " +
                                std::to_string(threads) + " threads do not wait for that (griddep_wait)",
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
    source.end = uint64_t{grid.grid.x} * grid.grid.y * grid.grid.z / (uint64_t{grid.cluster.x} * grid.cluster.y * grid.cluster.z);
    if (seed) shuffle_blocks(source, seed);
    // One worker where races are looked for: it sees all blocks.
    const int cores = Races::wanted() ? 1 : static_cast<int>(std::min<uint64_t>(core_count(), source.end));
    GridFailure failure = work(this_worker(), grid, source, cores > 1 ? now_ns() + kAloneNs : 0, seed);
    const uint64_t done = source.next.load();
    if (failure) return failure;
    if (done >= source.end) return check_waits(grid, source);

    source.chunk = static_cast<unsigned>(std::clamp<uint64_t>((source.end - done) / (16u * cores), 1, 256));
    std::mutex mutex;
#pragma omp parallel num_threads(cores)
    {
        GridFailure mine = work(this_worker(), grid, source, 0, seed);
        if (mine) {
            source.stop = true;
            const std::lock_guard lock(mutex);
            if (!failure) failure = std::move(mine);
        }
    }
    return failure ? failure : check_waits(grid, source);
}

}  // namespace vgpu
