// What the first layer's two specials share. The first layer has 3 input channels and large filters:
// channels are no whole 16 bytes, but a row of a patch (s, c) is one run of memory, and so is a row of
// the image. The specials keep whole image rows in shared memory and index them by (column, channel)
// together; no patch is ever gathered. The input of the first layer needs no gradient.
#pragma once

#include <string>

#include "kernels/conv/gemm_map.h"
#include "kernels/launch.h"
#include "kernels/tile/vec.h"

namespace wt::conv1_direct {

constexpr int kFilters = 32;   // of a block: 4 threads, 8 each
constexpr int kOutRows = 4;    // output rows worked on at a time
constexpr int kInRows = 23;    // input rows those read: 3 x stride + 11
constexpr int kRowFloats = 704;  // of an input row that a block reads: 56 outputs at stride 4 read 693
constexpr int kMaxTaps = 384;  // AlexNet: 11 x 11 x 3 = 363

using InputRows = float[kInRows][kRowFloats];


inline std::string refuses_shape(const ConvProblem& p) {
    if (p.c > 4 || p.groups != 1) return "for a first layer: at most 4 channels, one group";
    if (p.r * p.s * p.c > kMaxTaps) return "filters of more than 384 elements do not fit shared memory";
    if ((kOutRows - 1) * p.stride_h + p.r > kInRows) return "4 output rows must read at most 23 input rows";
    if (int64_t(p.n) * p.p() * p.q() >= int64_t(1) << 30 || int64_t(p.h) * p.w * p.c >= int64_t(1) << 30)
        return "needs fewer than 2^30 pixels";
    return "";
}

// Copies `rows` rows x `length` floats of image n into shared memory, from input row h and element `start`
// of that row (column * c + channel) on, zeros outside the image. A warp takes a row at a time: whole lines.
template <class T>
__device__ __forceinline__ void stage_input(InputRows& to, const ConvShape& v, const T* x, int n, int h, int start, int rows,
                                            int length) {
    const int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32, line = v.w * v.c;
    for (int r = warp; r < rows; r += warps) {
        const bool inside = h + r >= 0 && h + r < v.h;
        const T* from = x + (static_cast<int64_t>(n) * v.h + (inside ? h + r : 0)) * line;
        for (int e = lane; e < length; e += 32) {
            const int i = start + e;
            to[r][e] = inside && i >= 0 && i < line ? to_float(from[i]) : 0.0f;
        }
    }
}

}  // namespace wt::conv1_direct
