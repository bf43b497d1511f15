// Plain matrices as operands of a tiled product (kernels/tile/simt.h).
#pragma once

#include "kernels/tile/vec.h"

namespace wt {

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
    __device__ __forceinline__ Held<T, V> read(Row r) const {
        return r < rows && k < k_end ? Held<T, V>::load(base + r * ld + k) : Held<T, V>::zero();
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
    __device__ __forceinline__ Held<T, V> read() const { return k < k_end ? Held<T, V>::load(base + k * ld + column) : Held<T, V>::zero(); }
    __device__ __forceinline__ void advance(int step) { k += step; }
};

}  // namespace wt
