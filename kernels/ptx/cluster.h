// Thread block clusters: blocks that run together and reach each other's shared memory (PTX
// 9.7.13.4, 9.7.9.23). sm_90.
#pragma once

#include "kernels/ptx/ptx.h"

namespace wt::ptx {

// This block's number in its cluster, and how many blocks that has.
__device__ __forceinline__ uint32_t cluster_rank() {
#ifdef VGPU
    return vgpu::cluster_rank();
#else
    uint32_t r;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
    return r;
#endif
}
__device__ __forceinline__ uint32_t cluster_size() {
#ifdef VGPU
    return vgpu::cluster_size();
#else
    uint32_t r;
    asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(r));
    return r;
#endif
}

// Cluster barrier in two halves; every thread of every block does both, in turn. arrive releases
// this thread's writes, wait acquires the others'. Asynchronous operations are not covered.
__device__ __forceinline__ void cluster_arrive(WT_SITE) {
#ifdef VGPU
    vgpu::cluster_arrive(site);
#else
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}
// The same without the release, which is a fence that waits for all that the thread has in memory:
// nothing written so far is promised to the others. What this thread has read, they may overwrite.
__device__ __forceinline__ void cluster_arrive_relaxed(WT_SITE) {
#ifdef VGPU
    vgpu::cluster_arrive(site, true);
#else
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void cluster_wait(WT_SITE) {
#ifdef VGPU
    vgpu::cluster_wait(site);
#else
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

// Makes mbarrier_init visible to the cluster's other blocks and to asynchronous copies; then a
// cluster barrier.
__device__ __forceinline__ void fence_mbarrier_init() {
#ifndef VGPU
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

// mapa: the address in block `rank` of what `shared` is in this one. For mbarrier_arrive_cluster.
__device__ __forceinline__ uint32_t map_shared(const void* shared, uint32_t rank) {
#ifdef VGPU
    return vgpu::map_shared(shared, rank);
#else
    uint32_t r;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
                 : "=r"(r)
                 : "r"(shared_address(shared)), "r"(rank));
    return r;
#endif
}
// The same as a pointer, for ordinary loads and stores (distributed shared memory).
template <class T>
__device__ __forceinline__ T* map_shared_pointer(T* shared, uint32_t rank) {
#ifdef VGPU
    return static_cast<T*>(vgpu::map_shared_pointer(shared, rank));
#else
    uint64_t r;
    asm volatile("mapa.u64 %0, %1, %2;"
                 : "=l"(r)
                 : "l"(reinterpret_cast<uint64_t>(shared)), "r"(rank));
    return reinterpret_cast<T*>(r);
#endif
}

}  // namespace wt::ptx
