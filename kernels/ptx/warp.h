// One lane of a warp, and barriers of some of a block's warps (PTX 9.7.13.1, 9.7.14.13).
#pragma once

#include "kernels/ptx/ptx.h"

namespace wt::ptx {

// elect.sync: true in one lane of the warp, always the same one. All 32 lanes call it. sm_90.
// Branch on it at once, `if (warp == 0 && elect_one())` with a warp number that is the same in all
// lanes: then ptxas knows that one lane goes on. Of threadIdx.x == 0, or of a bool kept from
// before, it does not, and puts a loop over lanes around every TMA instruction, which doubles the
// producer's loop.
__device__ __forceinline__ bool elect_one(WT_SITE) {
#ifdef VGPU
    return vgpu::elect_one(site);
#else
    uint32_t r;
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "elect.sync _|p, 0xffffffff;\n"
        "selp.u32 %0, 1, 0, p;\n"
        "}\n"
        : "=r"(r));
    return r != 0;
#endif
}

// Barrier `id` (1 to 15; 0 is __syncthreads) of `threads` threads, whole warps.
__device__ __forceinline__ void bar_sync(uint32_t id, uint32_t threads WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::bar_sync(id, threads, site);
#else
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}
// Arrives at the barrier, and does not wait.
__device__ __forceinline__ void bar_arrive(uint32_t id, uint32_t threads WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::bar_arrive(id, threads, site);
#else
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}

}  // namespace wt::ptx
