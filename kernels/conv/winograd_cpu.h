// Winograd's convolution on a CPU: what the passes call, compiled once an instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/common/dtype.h"

namespace wt::winograd_cpu {

// Points of a tile, down and across, at the most.
inline constexpr int kMostSide = 10, kMostPoints = kMostSide * kMostSide;

// What is done to a result before it is stored.
template <class T>
struct Epilogue {
    const float* bias = nullptr;  // of the first channel
    bool relu = false;
    // a result is 0 where the element of mask is not above 0 that lies as it does in `results`
    T* results = nullptr;
    const T* mask = nullptr;
};

// out[row, col] (+)= sum over i of a[row, i] * b[i, col]. b lies in panels of `Leaves::panel`
// columns, one panel behind the other, the last filled up with zeros; out has room for whole
// vectors. across: a[i, row] is given, and b in rows `b_row` apart, with room for whole vectors.
struct Product {
    int rows, cols, depth;
    const float* a;
    int64_t a_row;
    const float* b;
    int64_t b_row;
    float* out;
    int64_t out_row;
    bool add;
    bool across;
};

// n x n pointers to channels of pixels, to side x side points, `stride` floats apart. Writes whole
// vectors: zeros behind the channels.
template <class T>
using ToPoints = void (*)(const T* const* in, int channels, float* out, int64_t stride);
// side x side points to n x n pixels; those that are null are left out. Reads whole vectors.
template <class T>
using FromPoints = void (*)(const float* m, int64_t stride, int channels, const Epilogue<T>&,
                            T* const* pixels);

// The transforms of one size of tile and of filters, for activations that are stored as T. What is
// at the points is fp32 always.
template <class T>
struct Transforms {
    int side, taps;
    // the sum of a tile of dy is `one_scale` times what the gradient has at point number `one`
    float one_scale;
    int one;
    ToPoints<T> input;             // side x side of x (dgrad: of dy)
    ToPoints<float> filters;       // taps x taps
    FromPoints<T> output;          // side + 1 - taps, squared
    ToPoints<T> gradient;          // of so many of dy
    FromPoints<float> of_filters;  // taps x taps of dw
    int tile() const { return side + 1 - taps; }
};

struct Leaves {
    int panel;
    Transforms<float> f32[2];  // of 3 taps and of 5
    Transforms<bf16> b16[2];
    void (*product)(const Product&);

    template <class T>
    const Transforms<T>& of(int taps) const {
        if constexpr (std::is_same_v<T, float>)
            return f32[taps == 5];
        else
            return b16[taps == 5];
    }
};

const Leaves& avx2_leaves();
const Leaves& avx512_leaves();

// Points of a tile in one direction: those of the transforms above. F(6x6, 3x3) and F(4x4, 5x5),
// and where results are rounded to bf16 F(8x8, 3x3) and F(6x6, 5x5); winograd_cpu.cpp tells why.
constexpr int side_of(DType t) { return t == DType::bf16 ? 10 : 8; }

}  // namespace wt::winograd_cpu
