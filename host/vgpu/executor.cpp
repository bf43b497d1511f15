// Runs grids: blocks over cores, a block's threads on fibers. See vgpu/context.h for the idea.
#include "host/vgpu/executor.h"

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

// The context of the fiber that goes on with the loop after the cursor's thread.
inline void take_loop(Worker& w) {
    w.unstarted = false;
    context.thread = w.cursor;
    context.row_end = w.grid->block.x;
}

// A fiber that is free to go on with the loop.
Fiber* loop_fiber(Worker& w) {
    if (Fiber* f = w.parked.pop()) return f;
    return w.fibers.fresh(w.used++, fiber_entry);
}

// Takes one ready fiber: the first, or one that the seed chooses.
inline Fiber* pop_ready(Worker& w) {
    Fiber* f = w.ready.pop();
    if (!f || !w.random || !w.ready.head) return f;
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
            context.thread = f->thread;
            context.row_end = 0;
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

// The running thread gets this fiber for its own; the loop goes on elsewhere.
inline void leave_loop(Worker& w) {
    Context& c = context;
    w.cursor = c.thread;
    w.unstarted = c.thread.x + 1 < c.block_dim.x || c.thread.y + 1 < c.block_dim.y || c.thread.z + 1 < c.block_dim.z;
    c.row_end = 0;
    ++w.live;
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

// Sets the context for this worker's next block. False when there is none, or when its time is up.
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
    Context& c = context;
    if (const dim3& g = c.grid_dim; g.y == 1 && g.z == 1) {
        c.block = {static_cast<unsigned>(i), 0, 0};
    } else {
        const uint64_t rows = i / g.x;
        c.block = {static_cast<unsigned>(i % g.x), static_cast<unsigned>(rows % g.y), static_cast<unsigned>(rows / g.y)};
    }
    Block& b = *w.block;
    b.index = c.block;
    if (w.seed) seed_block(w, i);
    if (b.stale) reset_barriers(b);
    if (checking() && w.grid->shared) std::memset(b.shared, 0xff, w.grid->shared);
    w.cursor = {~0u, 0, 0};  // next_thread() steps to thread 0
    take_loop(w);
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

void wait_in(Worker& w, FiberList& list) {
    Fiber* f = w.current;
    f->thread = context.thread;
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
        c.row_end = 0;
    } else {  // a thread that had waited is done
        --w.live;
        if (w.unstarted) {
            take_loop(w);
            return next_thread();
        }
    }
    // Every thread has started. This fiber is free for the threads that wait.
    while (w.live && !w.ready.head && unblock(w)) {
    }
    if (w.ready.head) {
        w.parked.push(w.current);
        Fiber* f = pop_ready(w);
        c.thread = f->thread;
        c.row_end = 0;
        switch_to(w, f);
        return next_thread();  // taken for the loop again
    }
    if (w.live) {
        note_stuck(w);
        abandon(w);
    }
    if (w.block->async.used()) end_async(w, *w.block);
    if (w.block->warpgroups.used) end_warpgroups(w, *w.block);
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

Block::~Block() { munmap(shared, kSharedMax + 4096); }

Worker::Worker() {
    blocks.emplace_back(new Block);
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
    w.detail.clear();
    w.reachable.count = 0;
    if (w.broken) {
        for (auto& b : w.blocks) {
            reset_barriers(*b);
            reset_warps(*b);
            forget_async(*b);
            forget_warpgroups(*b);
        }
        w.deferred.clear();
        w.broken = false;
    }
    Block& b = *w.blocks[0];
    w.block = &b;
    w.barriers = b.barriers;
    w.warps = b.warps;
    Context& c = context;
    c.worker = &w;
    c.block_dim = grid.block;
    c.grid_dim = grid.grid;
    ::blockDim = grid.block;
    ::gridDim = grid.grid;
    c.shared = b.shared;
    GridFailure failure;
#ifdef VGPU_ASAN
    ASAN_UNPOISON_MEMORY_REGION(b.shared, kSharedMax);
    ASAN_POISON_MEMORY_REGION(b.shared + grid.shared, kSharedMax - grid.shared);
#endif
    if (next_block(w)) {
        w.current = loop_fiber(w);
        w.running = true;
        before_switch(&w.main_fake_stack, w.current->stack, w.fibers.stack_bytes());
        vgpu_switch(&w.main_sp, w.current->sp);
        w.running = false;
        after_switch(w.main_fake_stack);
        if (w.signal) describe_signal(w);
        w.broken = w.failed != 0;
        if (w.failed) failure = {w.failed, where(c, grid) + ": " + w.what, std::move(w.detail)};
    }
    c.worker = nullptr;
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
    if (g.cluster.x * g.cluster.y * g.cluster.z != 1) return "virtual GPUs run no clusters of several blocks";
    return {};
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
    source.end = uint64_t{grid.grid.x} * grid.grid.y * grid.grid.z;
    if (seed) shuffle_blocks(source, seed);
    const int cores = static_cast<int>(std::min<uint64_t>(core_count(), source.end));
    GridFailure failure = work(this_worker(), grid, source, cores > 1 ? now_ns() + kAloneNs : 0, seed);
    const uint64_t done = source.next.load();
    if (failure || done >= source.end) return failure;

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
    return failure;
}

}  // namespace vgpu
