// cp.async: copies from global to shared memory that a thread does not wait for (PTX 9.7.9.25).
// sm_80.
//
// A copy of which only the first `src_bytes` exist fills the rest with zeros; with 0 nothing is
// read. Groups belong to the thread that committed them. After the wait the data is visible to that
// thread only: a barrier makes it everybody's.
#pragma once

#include "kernels/ptx/mbarrier.h"

namespace wt::ptx {

__device__ __forceinline__ void cp_async_4(void* shared, const void* global,
                                           int src_bytes = 4 WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::cp_async(shared, global, 4, src_bytes, site);
#else
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(shared)),
                 "l"(global), "r"(src_bytes)
                 : "memory");
#endif
}

__device__ __forceinline__ void cp_async_8(void* shared, const void* global,
                                           int src_bytes = 8 WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::cp_async(shared, global, 8, src_bytes, site);
#else
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(shared_address(shared)),
                 "l"(global), "r"(src_bytes)
                 : "memory");
#endif
}

__device__ __forceinline__ void cp_async_16(void* shared, const void* global,
                                            int src_bytes = 16 WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::cp_async(shared, global, 16, src_bytes, site);
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(global), "r"(src_bytes)
                 : "memory");
#endif
}

__device__ __forceinline__ void cp_async_commit() {
#ifdef VGPU
    vgpu::cp_async_commit();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most the N newest groups of this thread are under way.
template <int N>
__device__ __forceinline__ void cp_async_wait() {
#ifdef VGPU
    vgpu::cp_async_wait(N);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

// Arrives on `bar` when all copies this thread has started so far are done; counted in the
// barrier's count.
__device__ __forceinline__ void cp_async_mbarrier_arrive_noinc(Mbarrier& bar WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::cp_async_mbarrier_arrive_noinc(&bar.state, site);
#else
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_address(&bar))
                 : "memory");
#endif
}

}  // namespace wt::ptx
