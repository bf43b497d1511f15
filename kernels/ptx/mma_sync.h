// mma.sync: D = A B + D of small tiles by the 32 lanes of a warp (PTX 9.7.14.5). All lanes take
// part. sm_80.
//
// Fragments, with g = lane / 4 and t = lane % 4:
//   bf16 m16n8k16   A element i of 8: row g + 8 (i/2 % 2), k 2t + i%2 + 8 (i/4);
//                   B element i of 4: k 2t + i%2 + 8 (i/2), column g;
//                   two to a register, lower half first
//   tf32 m16n8k8    A element i of 4: row g + 8 (i%2), k t + 4 (i/2);
//                   B element i of 2: k t + 4 i, column g
//   D, both         element i of 4: row g + 8 (i/2), column 2t + i%2
#pragma once

#include "kernels/ptx/ptx.h"

namespace wt::ptx {

__device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2] WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::mma_m16n8k16_bf16(d, a, b, 1, 1, site);
#else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// A and B hold fp32 bits whose low 13 are ignored or truncated: round with to_tf32 first.
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4],
                                                 const uint32_t (&b)[2] WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::mma_m16n8k8_tf32(d, a, b, 1, 1, site);
#else
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// The M x N products of one step along k of a warp's tile. The same instructions; but virtual GPUs
// bring the lanes together once for all of them and not once for each, and that is most of what an
// mma.sync costs there.
template <int M, int N>
__device__ __forceinline__ void mma_tile_m16n8k16_bf16(float (&d)[M][N][4],
                                                       const uint32_t (&a)[M][4],
                                                       const uint32_t (&b)[N][2] WT_COMMA_SITE) {
#ifdef VGPU
    static_assert(M <= vgpu::kMmaTile && N <= vgpu::kMmaTile);
    vgpu::mma_m16n8k16_bf16(d[0][0], a[0], b[0], M, N, site);
#else
#pragma unroll
    for (int m = 0; m < M; ++m)
#pragma unroll
        for (int n = 0; n < N; ++n) mma_m16n8k16_bf16(d[m][n], a[m], b[n]);
#endif
}
template <int M, int N>
__device__ __forceinline__ void mma_tile_m16n8k8_tf32(float (&d)[M][N][4],
                                                      const uint32_t (&a)[M][4],
                                                      const uint32_t (&b)[N][2] WT_COMMA_SITE) {
#ifdef VGPU
    static_assert(M <= vgpu::kMmaTile && N <= vgpu::kMmaTile);
    vgpu::mma_m16n8k8_tf32(d[0][0], a[0], b[0], M, N, site);
#else
#pragma unroll
    for (int m = 0; m < M; ++m)
#pragma unroll
        for (int n = 0; n < N; ++n) mma_m16n8k8_tf32(d[m][n], a[m], b[n]);
#endif
}

// cvt.rna.tf32.f32 (PTX 9.7.9.21): fp32 rounded to 10 bits of fraction, halves away from zero; the
// low 13 bits are 0.
__device__ __forceinline__ uint32_t to_tf32(float f) {
#ifdef VGPU
    return vgpu::to_tf32(f);
#else
    uint32_t r;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(f));
    return r;
#endif
}

}  // namespace wt::ptx
