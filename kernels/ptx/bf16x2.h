// Two bf16 at once, in a 32-bit register, the lower half first (PTX 9.7.4 and 9.7.7). sm_90.
#pragma once

#include "kernels/ptx/ptx.h"

#ifdef VGPU
#include <cstring>
#endif

namespace wt::ptx {

#ifdef VGPU
namespace detail {
// The half of a pair, as a float.
inline float half_of(uint32_t pair, int half) {
    const uint32_t bits = half ? pair & 0xffff0000u : pair << 16;
    float f;
    std::memcpy(&f, &bits, sizeof f);
    return f;
}
}  // namespace detail
#endif

// max.NaN.bf16x2: the greater one of each two; NaN (0x7fff) where one of them is. +0 is greater
// than -0.
__device__ __forceinline__ uint32_t max_nan_bf16x2(uint32_t a, uint32_t b) {
#ifdef VGPU
    uint32_t r = 0;
    for (int half = 0; half < 2; ++half) {
        const float x = detail::half_of(a, half), y = detail::half_of(b, half);
        const uint32_t of_a = a >> 16 * half & 0xffff, of_b = b >> 16 * half & 0xffff;
        const bool nan = x != x || y != y;
        // of two equal ones, +0 and -0 alone differ in their bits
        const bool first = x > y || (x == y && of_a < of_b);
        r |= (nan ? 0x7fffu : first ? of_a : of_b) << 16 * half;
    }
    return r;
#else
    uint32_t r;
    asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
#endif
}

// set.gt.u32.bf16x2: all bits of a half set where a > b; none where one of them is NaN.
__device__ __forceinline__ uint32_t greater_bf16x2(uint32_t a, uint32_t b) {
#ifdef VGPU
    uint32_t r = 0;
    for (int half = 0; half < 2; ++half)
        if (detail::half_of(a, half) > detail::half_of(b, half)) r |= 0xffffu << 16 * half;
    return r;
#else
    uint32_t r;
    asm("set.gt.u32.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
#endif
}

}  // namespace wt::ptx
