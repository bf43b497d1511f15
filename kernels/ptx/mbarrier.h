// mbarrier: a barrier in shared memory that counts arrivals of threads and bytes of asynchronous
// copies (PTX 9.7.13.15). A phase ends when the count of arrivals is met and no bytes are
// outstanding. A wait names the parity of the phase it waits for; a fresh barrier lets parity 1
// pass and holds parity 0. sm_90 (expect_tx, try_wait).
#pragma once

#include "kernels/ptx/ptx.h"

namespace wt::ptx {

struct alignas(8) Mbarrier {
    uint64_t state;
};

// One thread; then fence_mbarrier_init (clusters) or a block barrier before others use it.
__device__ __forceinline__ void mbarrier_init(Mbarrier& bar, uint32_t count WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::mbarrier_init(&bar.state, count, site);
#else
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&bar)), "r"(count)
                 : "memory");
#endif
}

// Makes the barrier's memory ordinary memory again.
__device__ __forceinline__ void mbarrier_inval(Mbarrier& bar WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::mbarrier_inval(&bar.state, site);
#else
    asm volatile("mbarrier.inval.shared::cta.b64 [%0];" ::"r"(shared_address(&bar)) : "memory");
#endif
}

__device__ __forceinline__ void mbarrier_arrive(Mbarrier& bar WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::mbarrier_arrive(&bar.state, site);
#else
    asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(shared_address(&bar))
                 : "memory");
#endif
}

// The phase also waits for so many bytes; does not arrive.
__device__ __forceinline__ void mbarrier_expect_tx(Mbarrier& bar, uint32_t bytes WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::mbarrier_expect_tx(&bar.state, bytes, site);
#else
    asm volatile(
        "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&bar)),
        "r"(bytes)
        : "memory");
#endif
}

__device__ __forceinline__ void mbarrier_arrive_expect_tx(Mbarrier& bar,
                                                          uint32_t bytes WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::mbarrier_arrive_expect_tx(&bar.state, bytes, site);
#else
    asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(
                     shared_address(&bar)),
                 "r"(bytes)
                 : "memory");
#endif
}

// Arrives at a barrier of a block of the cluster, and hands over what this thread has written;
// `address` from map_shared (cluster.h). The release at the cluster's scope is a fence: it waits
// for all that the thread has in memory, a round trip to the L2 cache.
__device__ __forceinline__ void mbarrier_arrive_cluster(uint32_t address WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::mbarrier_arrive_cluster(address, site);
#else
    asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(address)
                 : "memory");
#endif
}

// The same where nothing is handed over: says that this thread has read, that its loads' values
// are there and its wgmmas waited for, so that those may be overwritten. What it has written may
// not be seen yet. One instruction without a fence: the release is this block's, as CUTLASS has it.
__device__ __forceinline__ void mbarrier_arrive_cluster_read(uint32_t address WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::mbarrier_arrive_cluster_read(address, site);
#else
    asm volatile("mbarrier.arrive.release.cta.shared::cluster.b64 _, [%0];" ::"r"(address)
                 : "memory");
#endif
}

// Whether the phase of this parity is over. May wait a while, and may say no early: ask in a loop.
__device__ __forceinline__ bool mbarrier_try_wait(Mbarrier& bar, uint32_t parity WT_COMMA_SITE) {
#ifdef VGPU
    return vgpu::mbarrier_try_wait(&bar.state, parity, site);
#else
    uint32_t done;
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n"
        "}\n"
        : "=r"(done)
        : "r"(shared_address(&bar)), "r"(parity)
        : "memory");
    return done != 0;
#endif
}

// The loop: returns when the phase of this parity is over.
__device__ __forceinline__ void mbarrier_wait(Mbarrier& bar, uint32_t parity WT_COMMA_SITE) {
#ifdef VGPU
    while (!mbarrier_try_wait(bar, parity, site)) {
    }
#else
    while (!mbarrier_try_wait(bar, parity)) {
    }
#endif
}

}  // namespace wt::ptx
