// N floats that move and compute together. On a GPU they are registers and a 16-byte memory access;
// on a virtual GPU one SIMD register: left to itself, g++ keeps an accumulator array in memory,
// which costs a tiled product three quarters of its speed.
#pragma once

#include <cuda_runtime.h>

#include <cstring>
#include <type_traits>
#include <utility>

#include "kernels/common/dtype.h"

namespace wt {

#ifdef VGPU
template <class E, int N>
struct Simd {
    typedef E type __attribute__((vector_size(N * sizeof(E))));
};
#endif

template <int N>
struct Vec {
#ifdef VGPU
    typename Simd<float, N>::type lanes;
    // Copied as one register: copied as a struct, g++ takes it apart and leaves it in memory.
    Vec() = default;
    Vec(const Vec& o) : lanes(o.lanes) {}
    Vec& operator=(const Vec& o) {
        lanes = o.lanes;
        return *this;
    }
#else
    float lanes[N];
#endif
    __device__ __forceinline__ float operator[](int i) const { return lanes[i]; }
    __device__ __forceinline__ void set(int i, float v) { lanes[i] = v; }
};

template <>
struct Vec<1> {
    float lanes[1];
    __device__ __forceinline__ float operator[](int) const { return lanes[0]; }
    __device__ __forceinline__ void set(int, float v) { lanes[0] = v; }
};

// WT_UNROLL_K stands before a loop over k. Were it unrolled further, ptxas would fetch more
// operands ahead than the accumulators leave registers for, and g++ would hoist loads and spill.
#ifdef VGPU
#define WT_UNROLL_K _Pragma("GCC unroll 4")
#else
#define WT_UNROLL_K _Pragma("unroll 2")
#endif

// Calls f(0) ... f(N-1), each index a constant: unrolled for certain, under any compiler.
template <int N, class F>
__device__ __forceinline__ void unroll(F&& f) {
    [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
        (f(std::integral_constant<int, I>{}), ...);
    }
    (std::make_integer_sequence<int, N>{});
}

template <int N>
__device__ __forceinline__ Vec<N> splat(float v) {
    Vec<N> r;
#ifdef VGPU
    if constexpr (N > 1) {
        r.lanes = typename Simd<float, N>::type{} + v;
        return r;
    }
#endif
#pragma unroll
    for (int i = 0; i < N; ++i) r.set(i, v);
    return r;
}

// acc + a * b
template <int N>
__device__ __forceinline__ Vec<N> fma(float a, const Vec<N>& b, const Vec<N>& acc) {
    Vec<N> r;
#ifdef VGPU
    if constexpr (N > 1) {
        r.lanes = acc.lanes + a * b.lanes;
        return r;
    }
#endif
#pragma unroll
    for (int i = 0; i < N; ++i) r.set(i, acc[i] + a * b[i]);
    return r;
}

template <int N>
__device__ __forceinline__ Vec<N> operator+(const Vec<N>& a, const Vec<N>& b) {
    return fma(1.0f, a, b);
}

// N elements of storage type T as floats. p must be aligned to the N elements, at most 16 bytes.
template <int N>
__device__ __forceinline__ Vec<N> load(const float* p) {
    Vec<N> r;
#ifdef VGPU
    std::memcpy(&r.lanes, p, sizeof r);
#else
    if constexpr (N % 4 == 0) {
#pragma unroll
        for (int i = 0; i < N / 4; ++i) {
            const float4 v = reinterpret_cast<const float4*>(p)[i];
            r.lanes[4 * i] = v.x, r.lanes[4 * i + 1] = v.y, r.lanes[4 * i + 2] = v.z,
                        r.lanes[4 * i + 3] = v.w;
        }
    } else if constexpr (N == 2) {
        const float2 v = *reinterpret_cast<const float2*>(p);
        r.lanes[0] = v.x, r.lanes[1] = v.y;
    } else {
#pragma unroll
        for (int i = 0; i < N; ++i) r.lanes[i] = p[i];
    }
#endif
    return r;
}

template <int N>
__device__ __forceinline__ Vec<N> load(const bf16* p) {
    Vec<N> r;  // bf16 is the upper half of a float
#ifdef VGPU
    if constexpr (N > 1) {
        typename Simd<uint16_t, N>::type h;
        std::memcpy(&h, p, sizeof h);
        const auto w = __builtin_convertvector(h, typename Simd<uint32_t, N>::type) << 16;
        std::memcpy(&r.lanes, &w, sizeof r);
        return r;
    }
    for (int i = 0; i < N; ++i) r.set(i, to_float(p[i]));
#else
    if constexpr (N % 4 == 0) {
#pragma unroll
        for (int i = 0; i < N / 4; ++i) {
            const uint2 v = reinterpret_cast<const uint2*>(p)[i];
            r.lanes[4 * i] = __uint_as_float(v.x << 16),
                        r.lanes[4 * i + 1] = __uint_as_float(v.x & 0xffff0000u);
            r.lanes[4 * i + 2] = __uint_as_float(v.y << 16),
                            r.lanes[4 * i + 3] = __uint_as_float(v.y & 0xffff0000u);
        }
    } else if constexpr (N == 2) {
        const uint32_t word = *reinterpret_cast<const uint32_t*>(p);
        r.lanes[0] = __uint_as_float(word << 16), r.lanes[1] = __uint_as_float(word & 0xffff0000u);
    } else {
#pragma unroll
        for (int i = 0; i < N; ++i) r.set(i, to_float(p[i]));
    }
#endif
    return r;
}

// N elements between their load and their use: 8 bf16 stay packed, in half the registers.
template <class T, int N>
struct PackedFragment {
    Vec<N> v;
    __device__ __forceinline__ static PackedFragment load(const T* p) { return {wt::load<N>(p)}; }
    __device__ __forceinline__ static PackedFragment zero() { return {splat<N>(0)}; }
};

template <class T, int N>
__device__ __forceinline__ Vec<N> unpack(const PackedFragment<T, N>& h) {
    return h.v;
}

#ifndef VGPU
template <>
struct PackedFragment<bf16, 8> {
    uint4 v;
    __device__ __forceinline__ static PackedFragment load(const bf16* p) {
        return {*reinterpret_cast<const uint4*>(p)};
    }
    __device__ __forceinline__ static PackedFragment zero() { return {make_uint4(0, 0, 0, 0)}; }
};

__device__ __forceinline__ Vec<8> unpack(const PackedFragment<bf16, 8>& h) {
    const uint32_t words[4] = {h.v.x, h.v.y, h.v.z, h.v.w};
    Vec<8> r;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        r.lanes[2 * i] = __uint_as_float(words[i] << 16);
        r.lanes[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
    return r;
}
#endif

// Stores N floats as T, rounded to nearest even. Same alignment as load.
template <int N>
__device__ __forceinline__ void store(float* p, const Vec<N>& v) {
#ifdef VGPU
    std::memcpy(p, &v.lanes, sizeof v);
#else
    if constexpr (N % 4 == 0) {
#pragma unroll
        for (int i = 0; i < N / 4; ++i)
            reinterpret_cast<float4*>(p)[i] = make_float4(v.lanes[4 * i], v.lanes[4 * i + 1],
                                                          v.lanes[4 * i + 2], v.lanes[4 * i + 3]);
    } else if constexpr (N == 2) {
        *reinterpret_cast<float2*>(p) = make_float2(v.lanes[0], v.lanes[1]);
    } else {
#pragma unroll
        for (int i = 0; i < N; ++i) p[i] = v.lanes[i];
    }
#endif
}

template <int N>
__device__ __forceinline__ void store(bf16* p, const Vec<N>& v) {
#ifdef VGPU
    for (int i = 0; i < N; ++i) p[i] = from_float<bf16>(v[i]);
#else
    if constexpr (N % 4 == 0) {
#pragma unroll
        for (int i = 0; i < N / 4; ++i) {
            const __nv_bfloat162 lo = __floats2bfloat162_rn(v[4 * i], v[4 * i + 1]);
            const __nv_bfloat162 hi = __floats2bfloat162_rn(v[4 * i + 2], v[4 * i + 3]);
            reinterpret_cast<uint2*>(p)[i] = make_uint2(*reinterpret_cast<const uint32_t*>(&lo),
                                                        *reinterpret_cast<const uint32_t*>(&hi));
        }
    } else if constexpr (N == 2) {
        *reinterpret_cast<__nv_bfloat162*>(p) = __floats2bfloat162_rn(v[0], v[1]);
    } else {
#pragma unroll
        for (int i = 0; i < N; ++i) p[i] = from_float<bf16>(v[i]);
    }
#endif
}

// Two vectors side by side.
template <int N>
__device__ __forceinline__ Vec<2 * N> join(const Vec<N>& lo, const Vec<N>& hi) {
    Vec<2 * N> r;
#ifdef VGPU
    [&]<int... I>(std::integer_sequence<int, I...>) {
        r.lanes = __builtin_shufflevector(lo.lanes, hi.lanes, I...);
    }
    (std::make_integer_sequence<int, 2 * N>{});
#else
#pragma unroll
    for (int i = 0; i < N; ++i) r.lanes[i] = lo.lanes[i], r.lanes[N + i] = hi.lanes[i];
#endif
    return r;
}

// The first half, and the second.
template <int N>
__device__ __forceinline__ Vec<N / 2> low(const Vec<N>& v) {
    Vec<N / 2> r;
    unroll<N / 2>([&](auto i) { r.set(i, v[i]); });
    return r;
}

template <int N>
__device__ __forceinline__ Vec<N / 2> high(const Vec<N>& v) {
    Vec<N / 2> r;
    unroll<N / 2>([&](auto i) { r.set(i, v[N / 2 + i]); });
    return r;
}

}  // namespace wt
