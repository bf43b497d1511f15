// Packs: N consecutive elements in the hands of one thread, for memory-bound kernels: moved as
// 16-byte vectors where the pointers allow it, computed on as floats in a plain array. (vec.h is
// for accumulators of matrix products.)
//
// On a real GPU an aligned load is one or two 16-byte instructions. On a virtual GPU every loop
// over a pack, marked WT_LANES, is one SIMD instruction or two.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

#include "host/cuda/check.h"
#include "kernels/common/dtype.h"
#ifndef VGPU
#include "kernels/ptx/store.h"
#endif

// WT_LANES stands before a loop over the elements of a pack. Without it g++ unrolls the loop first
// and then finds nothing to vectorise: a max-pool or a conversion to bf16 is 3 to 20 times slower.
#ifdef VGPU
#define WT_LANES _Pragma("omp simd")
#else
#define WT_LANES _Pragma("unroll")
#endif

namespace wt {

template <class T, int N>
struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Pack {
    T v[N];
};

#ifdef VGPU
// Packs go through these types as registers: through a loop and a Pack, g++ stores halves of what
// it then loads whole, and waits for them.
template <class E, int N>
using Lanes __attribute__((vector_size(N * sizeof(E)), aligned(alignof(E)), may_alias)) = E;

template <int N>
inline void load_pack(const float* p, float (&out)[N]) {
    *reinterpret_cast<Lanes<float, N>*>(out) = *reinterpret_cast<const Lanes<float, N>*>(p);
}
template <int N>
inline void load_pack(const bf16* p, float (&out)[N]) {  // bf16 is the upper half of a float
    const auto bits = __builtin_convertvector(*reinterpret_cast<const Lanes<uint16_t, N>*>(p),
                                              Lanes<uint32_t, N>);
    *reinterpret_cast<Lanes<uint32_t, N>*>(out) = bits << 16;
}
template <int N>
inline void store_pack(float* p, const float (&in)[N]) {
    *reinterpret_cast<Lanes<float, N>*>(p) = *reinterpret_cast<const Lanes<float, N>*>(in);
}
template <int N>
inline void store_pack(
    bf16* p,
    const float (&in)[N]) {  // to nearest even; a NaN becomes 0x7fff, as __float2bfloat16's
    const auto u = *reinterpret_cast<const Lanes<uint32_t, N>*>(in);
    const auto nearest = (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
    const auto bits = (u & 0x7fffffffu) > 0x7f800000u ? nearest * 0u + 0x7fffu : nearest;
    *reinterpret_cast<Lanes<uint16_t, N>*>(p) = __builtin_convertvector(bits, Lanes<uint16_t, N>);
}
// Bytes go by way of 16-byte vectors: g++ takes an 8-byte one apart.
inline void load_pack(const uint8_t* p, int (&out)[8]) {
    uint64_t eight;
    std::memcpy(&eight, p, 8);
    const Lanes<uint64_t, 2> words = {eight, 0};
    const auto wide = __builtin_convertvector((Lanes<uint8_t, 16>)words, Lanes<uint16_t, 16>);
    const auto low = __builtin_shufflevector(wide, wide, 0, 1, 2, 3, 4, 5, 6, 7);
    *reinterpret_cast<Lanes<int, 8>*>(out) = __builtin_convertvector(low, Lanes<int, 8>);
}
inline void store_pack(uint8_t* p, const int (&in)[8]) {
    const auto low =
        __builtin_convertvector(*reinterpret_cast<const Lanes<int, 8>*>(in), Lanes<uint16_t, 8>);
    const auto wide =
        __builtin_shufflevector(low, low, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7);
    const auto words = (Lanes<uint64_t, 2>)__builtin_convertvector(wide, Lanes<uint8_t, 16>);
    const uint64_t eight = words[0];
    std::memcpy(p, &eight, 8);
}
#else
// p must be aligned as Pack<T, N> is: to its size, at most 16 bytes.
template <int N, class T>
__device__ __forceinline__ void load_pack(const T* p, float (&out)[N]) {
    const Pack<T, N> in = *reinterpret_cast<const Pack<T, N>*>(p);
    WT_LANES
    for (int i = 0; i < N; ++i) out[i] = to_float(in.v[i]);
}
// p is in global memory.
template <int N>
__device__ __forceinline__ void store_pack(float* p, const float (&in)[N]) {
    static_assert(N % 4 == 0);
    WT_LANES
    for (int i = 0; i < N; i += 4)
        ptx::store_16(p + i, make_uint4(__float_as_uint(in[i]), __float_as_uint(in[i + 1]),
                                        __float_as_uint(in[i + 2]), __float_as_uint(in[i + 3])));
}
template <int N>
__device__ __forceinline__ void store_pack(bf16* p, const float (&in)[N]) {
    static_assert(N == 4 || N == 8);
    uint32_t pair[N / 2];
    WT_LANES
    for (int i = 0; i < N; i += 2) {
        const __nv_bfloat162 two = __floats2bfloat162_rn(in[i], in[i + 1]);
        pair[i / 2] = *reinterpret_cast<const uint32_t*>(&two);
    }
    if constexpr (N == 8)
        ptx::store_16(p, make_uint4(pair[0], pair[1], pair[2], pair[3]));
    else
        ptx::store_8(p, make_uint2(pair[0], pair[1]));
}
template <int N>
__device__ __forceinline__ void load_pack(const uint8_t* p, int (&out)[N]) {
    const Pack<uint8_t, N> in = *reinterpret_cast<const Pack<uint8_t, N>*>(p);
    WT_LANES
    for (int i = 0; i < N; ++i) out[i] = in.v[i];
}
template <int N>
__device__ __forceinline__ void store_pack(uint8_t* p, const int (&in)[N]) {
    Pack<uint8_t, N> out;
    WT_LANES
    for (int i = 0; i < N; ++i) out.v[i] = static_cast<uint8_t>(in[i]);
    *reinterpret_cast<Pack<uint8_t, N>*>(p) = out;
}
#endif

// Whether load_pack and store_pack take addresses off the alignment.
#ifdef VGPU
inline constexpr bool kPacksAnywhere = true;
#else
inline constexpr bool kPacksAnywhere = false;
#endif

// These move the first `count` of N elements, more than N counting as N; the rest reads as 0 and is
// not written. `aligned` says that p is aligned for Pack<T, N>; it is the same for all threads, so
// the branch costs nothing.
template <int N, class T>
__device__ __forceinline__ void load_pack(const T* p, int64_t count, bool aligned,
                                          float (&out)[N]) {
    if (count >= N && (aligned || kPacksAnywhere)) {
        load_pack<N>(p, out);
    } else if (count >= N) {
        WT_LANES
        for (int i = 0; i < N; ++i) out[i] = to_float(p[i]);
    } else {
        for (int i = 0; i < N; ++i) out[i] = i < count ? to_float(p[i]) : 0.f;
    }
}

template <int N, class T>
__device__ __forceinline__ void store_pack(T* p, int64_t count, bool aligned,
                                           const float (&in)[N]) {
    if (count >= N && (aligned || kPacksAnywhere)) {
        store_pack<N>(p, in);
    } else if (count >= N) {
        WT_LANES
        for (int i = 0; i < N; ++i) p[i] = from_float<T>(in[i]);
    } else {
        // The loop goes to N and not to count: an array that a variable indexes leaves the
        // registers.
        WT_LANES
        for (int i = 0; i < N; ++i)
            if (i < count) p[i] = from_float<T>(in[i]);
    }
}

// Whether every row's packs of n elements are aligned: rows start at p and lie `ld` elements apart.
inline bool packs_aligned(const void* p, int64_t ld, size_t element, int n = 8) {
    const size_t bytes = n * element, unit = bytes < 16 ? bytes : 16;
    return reinterpret_cast<uintptr_t>(p) % unit == 0 && ld * element % unit == 0;
}

// For a variant that refuses problems which are not `aligned`: throws where one is said to be and
// `p` is not.
inline void require_aligned(const char* variant, const void* p, size_t bytes = 16) {
    if (reinterpret_cast<uintptr_t>(p) % bytes == 0) return;
    throw Error(std::string(variant) + ": a pointer is not on " + std::to_string(bytes) +
                " bytes, and the problem says that all are");
}

}  // namespace wt
