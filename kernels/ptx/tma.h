// TMA: the unit that copies boxes of a tensor between global and shared memory (PTX 5.5, 9.7.9.25
// to 9.7.9.27). One thread starts a copy. Loads complete on an mbarrier, which must expect the
// bytes of the whole box, the part outside the tensor (zeros) too. Stores are committed to groups
// of the thread, as cp.async's are. Coordinates: the dimension that is contiguous in memory first.
// Tensor maps: kernels/tile/tensor_map.h; kernels take them as `const __grid_constant__
// CUtensorMap`. Shared addresses aligned to 128 bytes (1024 with the 128-byte swizzle). sm_90.
#pragma once

#include <cuda.h>

#include "kernels/ptx/mbarrier.h"

namespace wt::ptx {

__device__ __forceinline__ void prefetch_tensor_map([[maybe_unused]] const CUtensorMap& map) {
#ifndef VGPU
    asm volatile("prefetch.tensormap [%0];" ::"l"(reinterpret_cast<uint64_t>(&map)) : "memory");
#endif
}

// Orders this thread's ordinary accesses to shared memory before later asynchronous ones (TMA
// stores, wgmma operands).
__device__ __forceinline__ void fence_proxy_async() {
#ifdef VGPU
    vgpu::fence_proxy_async();
#else
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

__device__ __forceinline__ void tma_load(void* shared, const CUtensorMap& map, Mbarrier& bar,
                                         int32_t c0, int32_t c1 WT_COMMA_SITE) {
#ifdef VGPU
    const int32_t at[] = {c0, c1};
    vgpu::tma_load(shared, map, &bar.state, 1u << vgpu::cluster_rank(), at, 2, site);
#else
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::
            "r"(shared_address(shared)),
        "l"(reinterpret_cast<uint64_t>(&map)), "r"(shared_address(&bar)), "r"(c0), "r"(c1)
        : "memory");
#endif
}
// The same, to that address in every block of the cluster whose bit is set; each one's own barrier
// counts the bytes.
__device__ __forceinline__ void tma_load_multicast(void* shared, const CUtensorMap& map,
                                                   Mbarrier& bar, uint16_t blocks, int32_t c0,
                                                   int32_t c1 WT_COMMA_SITE) {
#ifdef VGPU
    const int32_t at[] = {c0, c1};
    vgpu::tma_load(shared, map, &bar.state, blocks, at, 2, site);
#else
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%4, %5}], [%2], %3;" ::
            "r"(shared_address(shared)),
        "l"(reinterpret_cast<uint64_t>(&map)), "r"(shared_address(&bar)), "h"(blocks), "r"(c0),
        "r"(c1)
        : "memory");
#endif
}
__device__ __forceinline__ void tma_store(const CUtensorMap& map, const void* shared, int32_t c0,
                                          int32_t c1 WT_COMMA_SITE) {
#ifdef VGPU
    const int32_t at[] = {c0, c1};
    vgpu::tma_store(map, shared, at, 2, site);
#else
    asm volatile(
        "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(
            reinterpret_cast<uint64_t>(&map)),
        "r"(shared_address(shared)), "r"(c0), "r"(c1)
        : "memory");
#endif
}

__device__ __forceinline__ void tma_load(void* shared, const CUtensorMap& map, Mbarrier& bar,
                                         int32_t c0, int32_t c1, int32_t c2 WT_COMMA_SITE) {
#ifdef VGPU
    const int32_t at[] = {c0, c1, c2};
    vgpu::tma_load(shared, map, &bar.state, 1u << vgpu::cluster_rank(), at, 3, site);
#else
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::
            "r"(shared_address(shared)),
        "l"(reinterpret_cast<uint64_t>(&map)), "r"(shared_address(&bar)), "r"(c0), "r"(c1), "r"(c2)
        : "memory");
#endif
}
// The same, to that address in every block of the cluster whose bit is set; each one's own barrier
// counts the bytes.
__device__ __forceinline__ void tma_load_multicast(void* shared, const CUtensorMap& map,
                                                   Mbarrier& bar, uint16_t blocks, int32_t c0,
                                                   int32_t c1, int32_t c2 WT_COMMA_SITE) {
#ifdef VGPU
    const int32_t at[] = {c0, c1, c2};
    vgpu::tma_load(shared, map, &bar.state, blocks, at, 3, site);
#else
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%4, %5, %6}], [%2], %3;" ::
            "r"(shared_address(shared)),
        "l"(reinterpret_cast<uint64_t>(&map)), "r"(shared_address(&bar)), "h"(blocks), "r"(c0),
        "r"(c1), "r"(c2)
        : "memory");
#endif
}
__device__ __forceinline__ void tma_store(const CUtensorMap& map, const void* shared, int32_t c0,
                                          int32_t c1, int32_t c2 WT_COMMA_SITE) {
#ifdef VGPU
    const int32_t at[] = {c0, c1, c2};
    vgpu::tma_store(map, shared, at, 3, site);
#else
    asm volatile(
        "cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(
            reinterpret_cast<uint64_t>(&map)),
        "r"(shared_address(shared)), "r"(c0), "r"(c1), "r"(c2)
        : "memory");
#endif
}

__device__ __forceinline__ void tma_load(void* shared, const CUtensorMap& map, Mbarrier& bar,
                                         int32_t c0, int32_t c1, int32_t c2,
                                         int32_t c3 WT_COMMA_SITE) {
#ifdef VGPU
    const int32_t at[] = {c0, c1, c2, c3};
    vgpu::tma_load(shared, map, &bar.state, 1u << vgpu::cluster_rank(), at, 4, site);
#else
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];" ::
            "r"(shared_address(shared)),
        "l"(reinterpret_cast<uint64_t>(&map)), "r"(shared_address(&bar)), "r"(c0), "r"(c1), "r"(c2),
        "r"(c3)
        : "memory");
#endif
}
// The same, to that address in every block of the cluster whose bit is set; each one's own barrier
// counts the bytes.
__device__ __forceinline__ void tma_load_multicast(void* shared, const CUtensorMap& map,
                                                   Mbarrier& bar, uint16_t blocks, int32_t c0,
                                                   int32_t c1, int32_t c2,
                                                   int32_t c3 WT_COMMA_SITE) {
#ifdef VGPU
    const int32_t at[] = {c0, c1, c2, c3};
    vgpu::tma_load(shared, map, &bar.state, blocks, at, 4, site);
#else
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%4, %5, %6, %7}], [%2], %3;" ::
            "r"(shared_address(shared)),
        "l"(reinterpret_cast<uint64_t>(&map)), "r"(shared_address(&bar)), "h"(blocks), "r"(c0),
        "r"(c1), "r"(c2), "r"(c3)
        : "memory");
#endif
}
__device__ __forceinline__ void tma_store(const CUtensorMap& map, const void* shared, int32_t c0,
                                          int32_t c1, int32_t c2, int32_t c3 WT_COMMA_SITE) {
#ifdef VGPU
    const int32_t at[] = {c0, c1, c2, c3};
    vgpu::tma_store(map, shared, at, 4, site);
#else
    asm volatile(
        "cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(
            reinterpret_cast<uint64_t>(&map)),
        "r"(shared_address(shared)), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
        : "memory");
#endif
}

// im2col (PTX 5.5.4): pixels from (w, h, n) on, as the map's bounding box orders them, each
// `channels per pixel` from c on, every pixel moved by the tap's offset. Coordinates of the box's
// corner, not of the image.
__device__ __forceinline__ void tma_load_im2col(void* shared, const CUtensorMap& map, Mbarrier& bar,
                                                int32_t c, int32_t w, int32_t h, int32_t n,
                                                uint16_t offset_w,
                                                uint16_t offset_h WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::tma_load_im2col(shared, map, &bar.state, 1u << vgpu::cluster_rank(), c, w, h, n, offset_w,
                          offset_h, site);
#else
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2], {%7, %8};" ::
            "r"(shared_address(shared)),
        "l"(reinterpret_cast<uint64_t>(&map)), "r"(shared_address(&bar)), "r"(c), "r"(w), "r"(h),
        "r"(n), "h"(offset_w), "h"(offset_h)
        : "memory");
#endif
}

// Copies contiguous bytes, without a tensor map: both ends aligned to 16, bytes a multiple of 16.
__device__ __forceinline__ void bulk_load(void* shared, const void* global, uint32_t bytes,
                                          Mbarrier& bar WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::bulk_load(shared, global, bytes, &bar.state, site);
#else
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
            "r"(shared_address(shared)),
        "l"(global), "r"(bytes), "r"(shared_address(&bar))
        : "memory");
#endif
}
__device__ __forceinline__ void bulk_store(void* global, const void* shared,
                                           uint32_t bytes WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::bulk_store(global, shared, bytes, site);
#else
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(global),
                 "r"(shared_address(shared)), "r"(bytes)
                 : "memory");
#endif
}

// Closes a group of this thread's stores.
__device__ __forceinline__ void bulk_commit() {
#ifdef VGPU
    vgpu::bulk_commit();
#else
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
#endif
}
// Waits until at most the N newest groups are under way: the others' writes are done.
template <int N>
__device__ __forceinline__ void bulk_wait() {
#ifdef VGPU
    vgpu::bulk_wait(N, false);
#else
    asm volatile("cp.async.bulk.wait_group %0;" ::"n"(N) : "memory");
#endif
}
// Waits until the others' sources have been read: their shared memory may be written again.
template <int N>
__device__ __forceinline__ void bulk_wait_read() {
#ifdef VGPU
    vgpu::bulk_wait(N, true);
#else
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(N) : "memory");
#endif
}

}  // namespace wt::ptx
