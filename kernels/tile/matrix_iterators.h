// Plain matrices as operands of a tiled product (kernels/tile/simt.h, kernels/tile/mma_sm80.h).
#pragma once

#include "kernels/common/vec.h"

namespace wt {

// V adjacent elements of an operand, of which `count` exist and the rest counts as zeros.
template <class T>
struct Span {
    const T* p;  // an address even where there are none
    int count;
};

// Whole vectors only: what the products on ordinary threads read.
template <class T, int V>
__device__ __forceinline__ PackedFragment<T, V> load_fragment(const Span<T>& s) {
    return s.count > 0 ? PackedFragment<T, V>::load(s.p) : PackedFragment<T, V>::zero();
}

// Element (row, k) at base[row * ld + k].
template <class T_, int V_>
struct ContiguousK {
    using T = T_;
    static constexpr int V = V_;
    const T* base;
    int64_t ld;
    int rows, k_end;
    int k = 0;

    using Row = int;  // a number, not an address: half the registers
    __device__ __forceinline__ Row row(int r) const { return r; }
    __device__ __forceinline__ void seek(int k0) { k = k0; }
    __device__ __forceinline__ Span<T> span(Row r) const {
        const bool inside = r < rows && k < k_end;
        return {inside ? base + r * ld + k : base, inside ? k_end - k : 0};
    }
    __device__ __forceinline__ PackedFragment<T, V> read(Row r) const {
        return load_fragment<T, V>(span(r));
    }
    __device__ __forceinline__ void advance(int step) { k += step; }
};

// Element (column, k) at base[k * ld + column].
template <class T_, int V_>
struct ContiguousMN {
    using T = T_;
    static constexpr int V = V_;
    const T* base;
    int64_t ld;
    int columns, k_end;
    int k = 0, column = 0;

    __device__ __forceinline__ void seek(int column0, int k0) {
        column = column0;
        k = column < columns ? k0 : k_end;
    }
    __device__ __forceinline__ Span<T> span() const {
        return {k < k_end ? base + k * ld + column : base, k < k_end ? columns - column : 0};
    }
    __device__ __forceinline__ PackedFragment<T, V> read() const {
        return load_fragment<T, V>(span());
    }
    __device__ __forceinline__ void advance(int step) { k += step; }
};

}  // namespace wt
