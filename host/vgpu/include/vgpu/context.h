// What the running CUDA thread knows of itself, and how a kernel's loop gets its next thread.
//
// A block's threads run as a plain loop on one fiber: `while (next_thread()) kernel(args...)`. When
// a thread has to wait (barrier, shuffle), that fiber becomes the thread's own and another fiber
// goes on with the loop. A kernel that never waits so costs no switch at all.
#pragma once

#include <cstdint>

#include "vgpu/dim3.h"

namespace vgpu {

struct Core;

struct Context {
    uint3 thread{};  // threadIdx
    // next_thread() steps thread.x up to here; 0 in a fiber that hands out no threads
    unsigned row_end = 0;
    uint3 block{};  // blockIdx
    dim3 block_dim, grid_dim;
    void* shared = nullptr;  // the block's shared memory, 1024-byte aligned
    Core* core = nullptr;    // the one that runs this thread; null outside kernels
};

// One per OS thread. Fibers never move between OS threads. initial-exec: an access is one
// fs-relative load.
extern constinit thread_local Context context __attribute__((tls_model("initial-exec")));

bool next_thread_slow();

// Makes `context.thread` the next thread that has not run yet, and says whether there was one.
inline bool next_thread() {
    if (++context.thread.x < context.row_end) [[likely]]
        return true;
    return next_thread_slow();
}

// The dynamic shared memory of this thread's block.
inline void* shared_memory() { return context.shared; }

// Index of this thread in its block, x fastest: warp = / 32, lane = % 32.
inline unsigned linear_thread() {
    const Context& c = context;
    // a branch that 1-D blocks always take: two products less
    if ((c.thread.y | c.thread.z) == 0) return c.thread.x;
    return c.thread.x + c.block_dim.x * (c.thread.y + c.block_dim.y * c.thread.z);
}
inline unsigned lane_id() { return linear_thread() % 32; }

}  // namespace vgpu

#define threadIdx (static_cast<const ::uint3&>(::vgpu::context.thread))
#define blockIdx (static_cast<const ::uint3&>(::vgpu::context.block))
// Variables, not macros: cudaLaunchConfig_t has members of these names.
extern constinit thread_local dim3 blockDim __attribute__((tls_model("initial-exec")));
extern constinit thread_local dim3 gridDim __attribute__((tls_model("initial-exec")));
inline constexpr int warpSize = 32;
