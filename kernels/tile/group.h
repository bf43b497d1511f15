// Groups of N consecutive elements in the hands of one thread, for memory-bound kernels: moved as 16-byte vectors
// where the pointers allow it, computed on as floats in a plain array. (vec.h is for accumulators of matrix products.)
//
// On a real GPU an aligned load is one or two 16-byte instructions. On a virtual GPU the loops have a constant trip
// count, so the host compiler makes SIMD instructions of them.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace wt {

template <class T, int N>
struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Group {
    T v[N];
};

// p must be aligned for Group<T, N>: to its size, at most 16 bytes.
template <int N, class T>
__device__ __forceinline__ void load_group(const T* p, float (&out)[N]) {
    const Group<T, N> in = *reinterpret_cast<const Group<T, N>*>(p);
    for (int i = 0; i < N; ++i) out[i] = to_float(in.v[i]);
}

template <int N, class T>
__device__ __forceinline__ void store_group(T* p, const float (&in)[N]) {
    Group<T, N> out;
    for (int i = 0; i < N; ++i) out.v[i] = from_float<T>(in[i]);
    *reinterpret_cast<Group<T, N>*>(p) = out;
}

// The first `count` of N elements, more than N counting as N; the rest reads as 0 and is not written. `aligned` says
// that p is aligned for Group<T, N>; it is the same for all threads, so the branch costs nothing.
template <int N, class T>
__device__ __forceinline__ void load_group(const T* p, int64_t count, bool aligned, float (&out)[N]) {
    if (count >= N && aligned) {
        load_group<N>(p, out);
    } else if (count >= N) {
        for (int i = 0; i < N; ++i) out[i] = to_float(p[i]);
    } else {
        for (int i = 0; i < N; ++i) out[i] = i < count ? to_float(p[i]) : 0.f;
    }
}

template <int N, class T>
__device__ __forceinline__ void store_group(T* p, int64_t count, bool aligned, const float (&in)[N]) {
    if (count >= N && aligned) {
        store_group<N>(p, in);
    } else if (count >= N) {
        for (int i = 0; i < N; ++i) p[i] = from_float<T>(in[i]);
    } else {
        for (int i = 0; i < count; ++i) p[i] = from_float<T>(in[i]);
    }
}

// Whether every row's groups of n elements are aligned: rows start at p and lie `ld` elements apart.
inline bool groups_aligned(const void* p, int64_t ld, size_t element, int n = 8) {
    const size_t group = n * element, unit = group < 16 ? group : 16;
    return reinterpret_cast<uintptr_t>(p) % unit == 0 && ld * element % unit == 0;
}

}  // namespace wt
