// ldmatrix and stmatrix: 8x8 matrices of 16-bit elements between shared memory and a warp's
// registers (PTX 9.7.14.5.15, 9.7.14.5.16). Lane 8 j + r brings the address of row r of matrix j,
// 16 bytes, aligned to 16. Register j of a lane holds elements [g][2t] and [g][2t + 1] of matrix j
// (g = lane / 4, t = lane % 4), with _trans [2t][g] and [2t + 1][g]. sm_75; stmatrix sm_90.
#pragma once

#include "kernels/ptx/ptx.h"

namespace wt::ptx {

__device__ __forceinline__ void ldmatrix_x1(uint32_t (&r)[1], const void* row WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::ldmatrix(r, &row, 1, 1, false, site);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
                 : "=r"(r[0])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}

__device__ __forceinline__ void ldmatrix_x1_trans(uint32_t (&r)[1], const void* row WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::ldmatrix(r, &row, 1, 1, true, site);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                 : "=r"(r[0])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}

__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void* row WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::ldmatrix(r, &row, 1, 2, false, site);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}

__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::ldmatrix(r, &row, 1, 2, true, site);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}

__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::ldmatrix(r, &row, 1, 4, false, site);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}

__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::ldmatrix(r, &row, 1, 4, true, site);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}

// Count of ldmatrix_x4, or of ldmatrix_x4_trans. The same instructions; but virtual GPUs bring the
// lanes together once for all of them, which is most of what they cost there.
template <bool Transpose, int Count>
__device__ __forceinline__ void ldmatrix_x4_tile(uint32_t (&r)[Count][4],
                                                 const void* const (&rows)[Count] WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::ldmatrix(r[0], rows, Count, 4, Transpose, site);
#else
#pragma unroll
    for (int i = 0; i < Count; ++i) {
        if constexpr (Transpose)
            ldmatrix_x4_trans(r[i], rows[i]);
        else
            ldmatrix_x4(r[i], rows[i]);
    }
#endif
}

__device__ __forceinline__ void stmatrix_x2(void* row, const uint32_t (&r)[2] WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::stmatrix(&row, 1, 2, false, r, site);
#else
    asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1,%2};"
                 :
                 : "r"(shared_address(row)), "r"(r[0]), "r"(r[1])
                 : "memory");
#endif
}

__device__ __forceinline__ void stmatrix_x2_trans(void* row, const uint32_t (&r)[2] WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::stmatrix(&row, 1, 2, true, r, site);
#else
    asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1,%2};"
                 :
                 : "r"(shared_address(row)), "r"(r[0]), "r"(r[1])
                 : "memory");
#endif
}

__device__ __forceinline__ void stmatrix_x4(void* row, const uint32_t (&r)[4] WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::stmatrix(&row, 1, 4, false, r, site);
#else
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};"
                 :
                 : "r"(shared_address(row)), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
                 : "memory");
#endif
}

__device__ __forceinline__ void stmatrix_x4_trans(void* row, const uint32_t (&r)[4] WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::stmatrix(&row, 1, 4, true, r, site);
#else
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};"
                 :
                 : "r"(shared_address(row)), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
                 : "memory");
#endif
}

// Count of stmatrix_x4; see ldmatrix_x4_tile.
template <int Count>
__device__ __forceinline__ void stmatrix_x4_tile(void* const (&rows)[Count],
                                                 const uint32_t (&r)[Count][4] WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::stmatrix(rows, Count, 4, false, r[0], site);
#else
#pragma unroll
    for (int i = 0; i < Count; ++i) stmatrix_x4(rows[i], r[i]);
#endif
}

}  // namespace wt::ptx
