// Winograd's convolution on a CPU: what the passes call, compiled once an instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace wt::winograd_cpu {

inline constexpr int kSide = 8;  // points of a tile, down and across
inline constexpr int kPoints = kSide * kSide;
inline constexpr int kOne = kSide + 1;  // the point (1, 1), and by what G divides there
inline constexpr float kOneScale = 4.5f * 4.5f;

// What is done to a result before it is stored.
struct Epilogue {
    const float* bias = nullptr;  // of the first channel
    bool relu = false;
    // a result is 0 where the element of mask is not above 0 that lies as it does in `results`
    float* results = nullptr;
    const float* mask = nullptr;
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

struct Leaves {
    // n x n pointers to channels of pixels, to 8 x 8 points, `stride` floats apart. Writes whole
    // vectors: zeros behind the channels.
    using ToPoints = void (*)(const float* const* in, int channels, float* out, int64_t stride);
    // 8 x 8 points to n x n pixels; those that are null are left out. Reads whole vectors.
    using FromPoints = void (*)(const float* m, int64_t stride, int channels, const Epilogue&,
                                float* const* pixels);
    int panel;
    ToPoints input, taps3, taps4, taps5, taps6;
    FromPoints output3, output4, output5, output6;
    void (*product)(const Product&);

    ToPoints taps(int n) const { return n == 3 ? taps3 : n == 4 ? taps4 : n == 5 ? taps5 : taps6; }
    FromPoints output(int n) const {
        return n == 3 ? output3 : n == 4 ? output4 : n == 5 ? output5 : output6;
    }
};

const Leaves& avx2_leaves();
const Leaves& avx512_leaves();

}  // namespace wt::winograd_cpu
