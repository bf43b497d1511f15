// LRN of five channels on 8 that a thread holds, with the two on either side loaded beside them
// from the lines that its neighbours load: two small loads, where a shuffle to and fro is four
// instructions and their selects, and wants the ends of a warp computed twice.
//
// s is kept as s / alpha = k / alpha + sum of squares: the constant enters the sums as the first
// addend, which costs nothing, and alpha's power is in the exponent that ex2 gets.
#pragma once

#include <cmath>
#include <string>

#include "kernels/common/vec.h"
#include "kernels/lrn/problem.h"
#include "kernels/ptx/approx.h"

namespace wt::lrn {

// Two neighbouring channels between their load and their use.
template <class T>
struct TwoChannels {
    float v[2];
    __device__ __forceinline__ static TwoChannels load(const T* p) {
        return {{to_float(p[0]), to_float(p[1])}};
    }
    __device__ __forceinline__ float operator[](int i) const { return v[i]; }
};

#ifndef VGPU
template <>
struct TwoChannels<float> {
    float2 v;
    __device__ __forceinline__ static TwoChannels load(const float* p) {
        return {*reinterpret_cast<const float2*>(p)};
    }
    __device__ __forceinline__ float operator[](int i) const { return i ? v.y : v.x; }
};
template <>
struct TwoChannels<bf16> {
    uint32_t v;
    __device__ __forceinline__ static TwoChannels load(const bf16* p) {
        return {*reinterpret_cast<const uint32_t*>(p)};
    }
    __device__ __forceinline__ float operator[](int i) const {
        return __uint_as_float(i ? v & 0xffff0000u : v << 16);
    }
};
#endif

// 8 channels of a pixel and, with kHalo, the two below and the two above them, which are 0 beyond
// the pixel's ends.
template <class T, bool kHalo>
struct Channels {
    PackedFragment<T, 8> own;
    TwoChannels<T> below, above;

    __device__ __forceinline__ static Channels zero() {
        return {PackedFragment<T, 8>::zero(), {}, {}};
    }
    // p is where the 8 begin, on 16 bytes; first and last say that they are the pixel's.
    __device__ __forceinline__ static Channels load(const T* p, bool first, bool last) {
        Channels r{PackedFragment<T, 8>::load(p), {}, {}};
        if constexpr (kHalo) {
            if (!first) r.below = TwoChannels<T>::load(p - 2);
            if (!last) r.above = TwoChannels<T>::load(p + 8);
        }
        return r;
    }
    __device__ __forceinline__ void all(float (&v)[12]) const {
        const Vec<8> mid = unpack(own);
#pragma unroll
        for (int i = 0; i < 2; ++i) v[i] = below[i], v[10 + i] = above[i];
#pragma unroll
        for (int i = 0; i < 8; ++i) v[2 + i] = mid[i];
    }
};

// What a kernel is told of the normalization.
struct Scale {
    float half_offset;  // k / alpha / 2
    float exponent;     // -beta
    float log2_alpha;   // times -beta: what ex2's argument gets for s having been divided by alpha
};

inline Scale scale_of(float alpha, float beta, float k) {
    return {.half_offset = static_cast<float>(double(k) / alpha / 2),
            .exponent = -beta,
            .log2_alpha = static_cast<float>(-double(beta) * std::log2(double(alpha)))};
}

// "" where scale_of() gives finite numbers.
inline std::string scale_refuses(float alpha, float k) {
    return alpha > 0 && double(k) / alpha < 1e30 ? "" : "alpha must be above k / 1e30";
}

// s / alpha of the 8 channels of v[2] ... v[9]. Windows of 5 in 22 multiply-adds and additions
// instead of 40: a pair of neighbouring windows shares the middle four, and those are pairs.
__device__ __forceinline__ void scaled_sums(const float (&v)[12], float half_offset,
                                            float (&s)[8]) {
    float pair[5];  // of v[2 i + 1] and v[2 i + 2]
#pragma unroll
    for (int i = 0; i < 5; ++i)
        pair[i] = v[2 * i + 2] * v[2 * i + 2] + (v[2 * i + 1] * v[2 * i + 1] + half_offset);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const float middle = pair[i] + pair[i + 1];
        s[2 * i] = v[2 * i] * v[2 * i] + middle;
        s[2 * i + 1] = v[2 * i + 5] * v[2 * i + 5] + middle;
    }
}

// s^-beta of s / alpha, for any beta: two instructions of the special function unit and a
// multiply-add. lg2 is within 2^-22 of its own value, which is 14.3 to 18 for the paper's alpha and
// k and sums up to 2.4e5: so this is within 18 x 2^-22 x 0.75 x ln 2 = 2.2e-6 of s^-3/4.
__device__ __forceinline__ float power(float scaled, const Scale& c) {
    return ptx::ex2_approx(ptx::lg2_approx(scaled) * c.exponent + c.log2_alpha);
}

}  // namespace wt::lrn
