// CUDA's arithmetic intrinsics. The fast ones (__expf, __logf, __powf, ...) are branch-free
// polynomials that g++ vectorises when a loop calls them; libm's expf is an opaque call.
#pragma once

#include <math.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>

#include "vgpu/vector_types.h"

// ---- bits ----
constexpr int __float_as_int(float f) { return std::bit_cast<int>(f); }
constexpr unsigned __float_as_uint(float f) { return std::bit_cast<unsigned>(f); }
constexpr float __int_as_float(int i) { return std::bit_cast<float>(i); }
constexpr float __uint_as_float(unsigned i) { return std::bit_cast<float>(i); }
constexpr long long __double_as_longlong(double d) { return std::bit_cast<long long>(d); }
constexpr double __longlong_as_double(long long i) { return std::bit_cast<double>(i); }
constexpr int __popc(unsigned x) { return std::popcount(x); }
constexpr int __popcll(unsigned long long x) { return std::popcount(x); }
constexpr int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
constexpr int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
constexpr int __ffs(int x) { return x ? std::countr_zero(static_cast<unsigned>(x)) + 1 : 0; }
constexpr int __ffsll(long long x) {
    return x ? std::countr_zero(static_cast<unsigned long long>(x)) + 1 : 0;
}
constexpr unsigned __brev(unsigned x) {
    x = (x >> 1 & 0x55555555u) | (x & 0x55555555u) << 1;
    x = (x >> 2 & 0x33333333u) | (x & 0x33333333u) << 2;
    x = (x >> 4 & 0x0f0f0f0fu) | (x & 0x0f0f0f0fu) << 4;
    return __builtin_bswap32(x);
}
constexpr unsigned __byte_perm(unsigned a, unsigned b, unsigned s) {
    const unsigned long long both = static_cast<unsigned long long>(b) << 32 | a;
    unsigned r = 0;
    for (int i = 0; i < 4; ++i)
        r |= static_cast<unsigned>(both >> 8 * (s >> 4 * i & 7) & 255) << 8 * i;
    return r;
}
constexpr unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned n) {
    return static_cast<unsigned>(((static_cast<unsigned long long>(hi) << 32 | lo) << (n & 31)) >>
                                 32);
}
constexpr unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned n) {
    return static_cast<unsigned>((static_cast<unsigned long long>(hi) << 32 | lo) >> (n & 31));
}

// ---- integers ----
constexpr int __mulhi(int a, int b) {
    return static_cast<int>((static_cast<long long>(a) * b) >> 32);
}
constexpr unsigned __umulhi(unsigned a, unsigned b) {
    return static_cast<unsigned>((static_cast<unsigned long long>(a) * b) >> 32);
}
constexpr long long __mul64hi(long long a, long long b) {
    return static_cast<long long>((static_cast<__int128>(a) * b) >> 64);
}
constexpr unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned long long>((static_cast<unsigned __int128>(a) * b) >> 64);
}
constexpr int __mul24(int a, int b) { return (a << 8 >> 8) * (b << 8 >> 8); }

#define VGPU_MIN_MAX(T)                                 \
    constexpr T min(T a, T b) { return b < a ? b : a; } \
    constexpr T max(T a, T b) { return a < b ? b : a; }
VGPU_MIN_MAX(int)
VGPU_MIN_MAX(unsigned)
VGPU_MIN_MAX(long)
VGPU_MIN_MAX(unsigned long)
VGPU_MIN_MAX(long long)
VGPU_MIN_MAX(unsigned long long)
#undef VGPU_MIN_MAX
constexpr unsigned min(int a, unsigned b) { return min(static_cast<unsigned>(a), b); }
constexpr unsigned min(unsigned a, int b) { return min(a, static_cast<unsigned>(b)); }
constexpr unsigned max(int a, unsigned b) { return max(static_cast<unsigned>(a), b); }
constexpr unsigned max(unsigned a, int b) { return max(a, static_cast<unsigned>(b)); }
// As fminf and fmaxf: the other operand when one is NaN.
inline float min(float a, float b) { return a < b || b != b ? a : b; }
inline float max(float a, float b) { return a > b || b != b ? a : b; }
inline double min(double a, double b) { return a < b || b != b ? a : b; }
inline double max(double a, double b) { return a > b || b != b ? a : b; }

// ---- floats ----
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / ::sqrt(x); }
inline float rcbrtf(float x) { return 1.0f / cbrtf(x); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __frsqrt_rn(float a) { return rsqrtf(a); }
inline float __saturatef(float x) {
    return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f;
}  // NaN gives 0
inline int __float2int_rn(float x) { return static_cast<int>(rintf(x)); }
inline int __float2int_rz(float x) { return static_cast<int>(x); }
inline int __float2int_rd(float x) { return static_cast<int>(floorf(x)); }
inline int __float2int_ru(float x) { return static_cast<int>(ceilf(x)); }
inline unsigned __float2uint_rn(float x) { return static_cast<unsigned>(rintf(x)); }
inline unsigned __float2uint_rz(float x) { return static_cast<unsigned>(x); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline float __ull2float_rn(unsigned long long x) { return static_cast<float>(x); }

// Never contracted into an fma, as the _rn intrinsics of CUDA are not.
inline float __fadd_rn(float a, float b) {
    float r = a + b;
    asm("" : "+x"(r));
    return r;
}
inline float __fmul_rn(float a, float b) {
    float r = a * b;
    asm("" : "+x"(r));
    return r;
}
inline float __fsub_rn(float a, float b) { return __fadd_rn(a, -b); }

namespace vgpu {

// p * 2^n for n in [-252, 254]: two factors, so that subnormal results come out right.
inline float scale2(float p, float n) {
    const int i = static_cast<int>(n), half = i >> 1;
    return p * std::bit_cast<float>((half + 127) << 23) *
           std::bit_cast<float>((i - half + 127) << 23);
}

// 2^f for f in [-0.505, 0.505]: (2^f - 1) / f interpolated at Chebyshev's nodes, error below
// 2^-27.7.
inline float exp2_small(float f) {
    float p = 1.545416208e-4f;
    p = fmaf(p, f, 1.339201741e-3f);
    p = fmaf(p, f, 9.618080665e-3f);
    p = fmaf(p, f, 5.550354929e-2f);
    p = fmaf(p, f, 2.402265076e-1f);
    p = fmaf(p, f, 6.931471885e-1f);
    return fmaf(p, f, 1.0f);
}

// 2^x within 2 ulp (CUDA's ex2.approx: 2^-22 relative). NaN stays NaN.
inline float exp2_fast(float x) {
    const float y = x < -151.0f ? -151.0f : x > 129.0f ? 129.0f : x;
    const float n = rintf(y == y ? y : 0.0f);
    return scale2(exp2_small(y - n), n);
}

// e^x within 2 ulp. log2(e) in two parts: rounding x * log2(e) once would cost |x| * 2^-24 of
// relative error.
inline float exp_fast(float x) {
    const float y = x < -104.0f ? -104.0f : x > 89.5f ? 89.5f : x;
    const float n = rintf(1.44269504f * (y == y ? y : 0.0f));
    return scale2(exp2_small(fmaf(y, 1.92596299e-8f, fmaf(y, 1.44269502f, -n))), n);
}

// log2(x), absolute error below 2^-21 near 1 and relative error below 2^-21 elsewhere. x = m 2^e
// with m in [sqrt(1/2), sqrt(2)); log(m) = 2 atanh((m-1)/(m+1)) by its odd series. Subnormal x is
// scaled first.
inline float log2_fast(float x) {
    const bool small = x < 1.17549435e-38f;
    const float s = small ? x * 8388608.0f : x;
    const unsigned bits = std::bit_cast<unsigned>(s);
    const int e = static_cast<int>((bits - 0x3f3504f3u) & 0xff800000u) >> 23;
    const float m = std::bit_cast<float>(bits - (static_cast<unsigned>(e) << 23));
    const float t = (m - 1.0f) / (m + 1.0f), t2 = t * t;
    float p = 0.3205989f;            // 2 / (9 ln 2)
    p = fmaf(p, t2, 0.4121985831f);  // 2 / (7 ln 2)
    p = fmaf(p, t2, 0.5770780164f);  // 2 / (5 ln 2)
    p = fmaf(p, t2, 0.9617966940f);  // 2 / (3 ln 2)
    p = fmaf(p, t2, 2.8853900818f);  // 2 / ln 2
    float r = fmaf(p, t, static_cast<float>(small ? e - 23 : e));
    r = x == 0.0f ? -HUGE_VALF : r;
    r = x == HUGE_VALF ? x : r;
    return x < 0.0f || x != x ? NAN : r;
}

inline float pow_fast(float x, float y) {
    return exp2_fast(y * log2_fast(x));
}  // as CUDA defines __powf

}  // namespace vgpu

// Macros: glibc declares functions of these names.
#define __expf(x) (::vgpu::exp_fast(x))
#define __exp10f(x) (::vgpu::exp2_fast((x)*3.32192809f))
#define __logf(x) (::vgpu::log2_fast(x) * 0.693147181f)
#define __log2f(x) (::vgpu::log2_fast(x))
#define __log10f(x) (::vgpu::log2_fast(x) * 0.301029996f)
#define __powf(x, y) (::vgpu::pow_fast(x, y))
#define __sinf(x) (::sinf(x))
#define __cosf(x) (::cosf(x))
#define __tanf(x) (::tanf(x))
#define __sincosf(x, s, c) (*(s) = ::sinf(x), *(c) = ::cosf(x), (void)0)
inline float sinpif(float x) { return static_cast<float>(::sin(3.14159265358979324 * x)); }
inline float cospif(float x) { return static_cast<float>(::cos(3.14159265358979324 * x)); }
inline void sincospif(float x, float* s, float* c) { *s = sinpif(x), *c = cospif(x); }
