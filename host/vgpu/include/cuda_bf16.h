// bfloat16 for virtual GPUs: __nv_bfloat16, __nv_bfloat162 and the functions of CUDA's header of
// this name that kernels here use. Conversions are branch-free integer code, which g++ vectorises.
//
// float -> bf16 rounds to nearest, ties to even; every NaN becomes 0x7fff, as cvt.rn.bf16.f32 does.
// bf16 -> float is exact. Arithmetic is done in float and rounded once, as the hardware's bf16
// instructions do.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include "vgpu/device.h"

struct __nv_bfloat16_raw {
    unsigned short x;
};

namespace vgpu {

constexpr unsigned short bf16_bits(float f) {
    const uint32_t u = std::bit_cast<uint32_t>(f);
    const uint32_t rounded = (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
    return static_cast<unsigned short>((u & 0x7fffffffu) > 0x7f800000u ? 0x7fffu : rounded);
}
constexpr float bf16_value(unsigned short b) {
    return std::bit_cast<float>(static_cast<uint32_t>(b) << 16);
}

}  // namespace vgpu

struct __nv_bfloat16 {
    unsigned short bits_;

    __nv_bfloat16() = default;
    constexpr __nv_bfloat16(float f) : bits_(vgpu::bf16_bits(f)) {}
    constexpr __nv_bfloat16(double f) : bits_(vgpu::bf16_bits(static_cast<float>(f))) {}
    constexpr __nv_bfloat16(int i) : bits_(vgpu::bf16_bits(static_cast<float>(i))) {}
    constexpr __nv_bfloat16(const __nv_bfloat16_raw& r) : bits_(r.x) {}
    constexpr operator float() const { return vgpu::bf16_value(bits_); }
    constexpr operator __nv_bfloat16_raw() const { return {bits_}; }
};
static_assert(sizeof(__nv_bfloat16) == 2 && std::is_trivial_v<__nv_bfloat16>);

struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
    __nv_bfloat162() = default;
    constexpr __nv_bfloat162(__nv_bfloat16 a, __nv_bfloat16 b) : x(a), y(b) {}
};
static_assert(sizeof(__nv_bfloat162) == 4);

using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;

// ---- conversions ----
constexpr __nv_bfloat16 __float2bfloat16(float f) { return f; }
constexpr __nv_bfloat16 __float2bfloat16_rn(float f) { return f; }
constexpr __nv_bfloat16 __double2bfloat16(double f) { return f; }
constexpr float __bfloat162float(__nv_bfloat16 b) { return b; }
constexpr unsigned short __bfloat16_as_ushort(__nv_bfloat16 b) { return b.bits_; }
constexpr short __bfloat16_as_short(__nv_bfloat16 b) { return static_cast<short>(b.bits_); }
constexpr __nv_bfloat16 __ushort_as_bfloat16(unsigned short u) { return __nv_bfloat16_raw{u}; }
constexpr __nv_bfloat16 __int2bfloat16_rn(int i) { return i; }

constexpr __nv_bfloat162 make_bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
constexpr __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
constexpr __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 x) { return {x, x}; }
constexpr __nv_bfloat162 __float2bfloat162_rn(float f) { return {f, f}; }
constexpr __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
constexpr __nv_bfloat162 __float22bfloat162_rn(float2 f) { return {f.x, f.y}; }
constexpr float2 __bfloat1622float2(__nv_bfloat162 v) { return {v.x, v.y}; }
constexpr float __low2float(__nv_bfloat162 v) { return v.x; }
constexpr float __high2float(__nv_bfloat162 v) { return v.y; }
constexpr __nv_bfloat16 __low2bfloat16(__nv_bfloat162 v) { return v.x; }
constexpr __nv_bfloat16 __high2bfloat16(__nv_bfloat162 v) { return v.y; }

// ---- arithmetic ----
#define VGPU_BF16_OP(op, name)                                                        \
    constexpr __nv_bfloat16 operator op(__nv_bfloat16 a, __nv_bfloat16 b) {           \
        return static_cast<float>(a) op static_cast<float>(b);                        \
    }                                                                                 \
    constexpr __nv_bfloat16& operator op##=(__nv_bfloat16& a, __nv_bfloat16 b) {      \
        return a = a op b;                                                            \
    }                                                                                 \
    constexpr __nv_bfloat16 name(__nv_bfloat16 a, __nv_bfloat16 b) { return a op b; } \
    constexpr __nv_bfloat162 operator op(__nv_bfloat162 a, __nv_bfloat162 b) {        \
        return {a.x op b.x, a.y op b.y};                                              \
    }                                                                                 \
    constexpr __nv_bfloat162& operator op##=(__nv_bfloat162& a, __nv_bfloat162 b) {   \
        return a = a op b;                                                            \
    }                                                                                 \
    constexpr __nv_bfloat162 name##2(__nv_bfloat162 a, __nv_bfloat162 b) { return a op b; }
VGPU_BF16_OP(+, __hadd)
VGPU_BF16_OP(-, __hsub)
VGPU_BF16_OP(*, __hmul)
#undef VGPU_BF16_OP
constexpr __nv_bfloat16 operator/(__nv_bfloat16 a, __nv_bfloat16 b) {
    return static_cast<float>(a) / static_cast<float>(b);
}
constexpr __nv_bfloat16& operator/=(__nv_bfloat16& a, __nv_bfloat16 b) { return a = a / b; }
constexpr __nv_bfloat162 operator/(__nv_bfloat162 a, __nv_bfloat162 b) {
    return {a.x / b.x, a.y / b.y};
}
constexpr __nv_bfloat16 __hdiv(__nv_bfloat16 a, __nv_bfloat16 b) { return a / b; }
constexpr __nv_bfloat162 __h2div(__nv_bfloat162 a, __nv_bfloat162 b) { return a / b; }
constexpr __nv_bfloat16 operator-(__nv_bfloat16 a) {
    return __nv_bfloat16_raw{static_cast<unsigned short>(a.bits_ ^ 0x8000u)};
}
constexpr __nv_bfloat16 operator+(__nv_bfloat16 a) { return a; }
constexpr __nv_bfloat16 __hneg(__nv_bfloat16 a) { return -a; }
constexpr __nv_bfloat162 __hneg2(__nv_bfloat162 a) { return {-a.x, -a.y}; }
constexpr __nv_bfloat16 __habs(__nv_bfloat16 a) {
    return __nv_bfloat16_raw{static_cast<unsigned short>(a.bits_ & 0x7fffu)};
}
constexpr __nv_bfloat162 __habs2(__nv_bfloat162 a) { return {__habs(a.x), __habs(a.y)}; }
// a * b + c rounded once to float, then once to bf16. The exact product of two bf16 has 16 bits, so
// the double rounding differs from a single one only where the float sum is itself a tie of bf16.
inline __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c) {
    return __builtin_fmaf(static_cast<float>(a), static_cast<float>(b), static_cast<float>(c));
}
inline __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c) {
    return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}

// ---- comparison: false where a NaN is involved, but for != ----
#define VGPU_BF16_COMPARE(op, name)                                \
    constexpr bool operator op(__nv_bfloat16 a, __nv_bfloat16 b) { \
        return static_cast<float>(a) op static_cast<float>(b);     \
    }                                                              \
    constexpr bool name(__nv_bfloat16 a, __nv_bfloat16 b) { return a op b; }
VGPU_BF16_COMPARE(==, __heq)
VGPU_BF16_COMPARE(!=, __hne)
VGPU_BF16_COMPARE(<, __hlt)
VGPU_BF16_COMPARE(<=, __hle)
VGPU_BF16_COMPARE(>, __hgt)
VGPU_BF16_COMPARE(>=, __hge)
#undef VGPU_BF16_COMPARE
constexpr bool __hisnan(__nv_bfloat16 a) { return (a.bits_ & 0x7fffu) > 0x7f80u; }
constexpr int __hisinf(__nv_bfloat16 a) {
    return a.bits_ == 0x7f80u ? 1 : a.bits_ == 0xff80u ? -1 : 0;
}
// The other operand where one is NaN.
constexpr __nv_bfloat16 __hmax(__nv_bfloat16 a, __nv_bfloat16 b) {
    return __hisnan(b) || a > b ? a : b;
}
constexpr __nv_bfloat16 __hmin(__nv_bfloat16 a, __nv_bfloat16 b) {
    return __hisnan(b) || a < b ? a : b;
}
constexpr __nv_bfloat162 __hmax2(__nv_bfloat162 a, __nv_bfloat162 b) {
    return {__hmax(a.x, b.x), __hmax(a.y, b.y)};
}
constexpr __nv_bfloat162 __hmin2(__nv_bfloat162 a, __nv_bfloat162 b) {
    return {__hmin(a.x, b.x), __hmin(a.y, b.y)};
}
