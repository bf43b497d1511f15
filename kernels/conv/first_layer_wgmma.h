// What the Hopper kernels of the first layer share (first_layer_*_wgmma_sm90.cu, and
// kernels/conv_pool's), which read folded input as planes. Folded
// by 4 (kernels/conv/problem.h), AlexNet's 11x11/4 convolution of 3 channels is one of 3 x 3 taps,
// stride 1, over 57 x 57 positions of 48 channels: k = 432 for 363.
//
// im2col would copy every position nine times, once a tap: 27 rows of 32 bytes for each output
// pixel, 43 bytes a clock of each SM at the tensor cores' full rate. Instead a tile's positions are
// copied once and the taps are views of them. All images' positions are one long row, output pixel
// (n, p, q) at (n 57 + p) 57 + q; tap (r, s) of a run of outputs is the run r 57 + s further on.
// (The last 2 columns and rows of an image are outputs of nothing: 7% of the products, not stored.)
//
// For views to start anywhere, x lies in shared memory in planes of 8 channels, 16 bytes a position
// (no swizzle): wgmma's unit is 8 positions of a plane, 128 contiguous bytes, and one position
// further is 16 bytes further on. The same planes are a K-major operand (rows positions, k
// channels: fprop) and an MN-major one (rows channels, k positions: wgrad).
//
// They lie so in memory already (kernels/common/planes.h: [plane][position][8], with zeros behind
// the last position), where the augmentation stores them 16 bytes at a time. So a stage is 6 bulk
// copies of contiguous memory, of just the positions that its taps read: 244 for 3 rows of taps of
// AlexNet, 23 KB, 586 clocks at 40 bytes a clock from L2. From positions of 48 channels it would be
// 1,536 rows of 16 bytes that TMA walks through one by one, each half a sector of 32: 1,229 clocks
// of L2. Predicted, not measured.
#pragma once

#include <string>

#include "kernels/common/machine.h"
#include "kernels/common/planes.h"
#include "kernels/conv/problem.h"
#include "kernels/ptx/tma.h"
#include "kernels/tile/wgmma_tile.h"

namespace wt::conv1_wgmma {

constexpr int kFold = 4, kChannels = 48, kPlanes = kChannels / kPlaneChannels;
constexpr int kMostTaps = 9;
constexpr int kRun = kPlaneRun;  // positions of a tile's outputs
constexpr int kSpan = 2 * kRun;  // positions there is room for: a run and what its taps reach
constexpr int kPlaneBytes = kSpan * 16;

// The convolution over blocks of 4 x 4 pixels.
struct Folded {
    int n, h, w;             // images; positions of each, down and across
    int p, q;                // those that are outputs
    int r, s;                // taps, in blocks
    int k;                   // filters
    int filter_r, filter_s;  // taps, in pixels

    explicit Folded(const ConvProblem& a)
        : n(a.n),
          h(a.fold_h()),
          w(a.fold_w()),
          p(a.p()),
          q(a.q()),
          r((a.r + kFold - 1) / kFold),
          s((a.s + kFold - 1) / kFold),
          k(a.k),
          filter_r(a.r),
          filter_s(a.s) {}
    __host__ __device__ int positions() const { return n * h * w; }
    __host__ __device__ int runs() const { return (positions() + kRun - 1) / kRun; }
    __host__ __device__ int taps() const { return r * s; }
    // Positions that so many rows of taps read of a run of outputs.
    __host__ __device__ int span(int tap_rows) const { return kRun + (tap_rows - 1) * w + s - 1; }
    // The pixel of the output at a position; -1 if there is none.
    __device__ __forceinline__ int pixel_of(int position) const {
        const int line = position / w, col = position - line * w, image = line / h,
                  row = line - image * h;
        return image < n && row < p && col < q ? (image * p + row) * q + col : -1;
    }
};

inline std::string refuses_folded(const ConvProblem& p) {
    if (p.dtype != DType::bf16) return "bf16 only";
    if (p.fold != kFold || !p.planes || p.c != 3 || p.groups != 1)
        return "for a first layer of 3 channels, folded by 4 and stored as planes";
    if (p.stride_h != kFold || p.stride_w != kFold) return "folded input needs strides of the fold";
    const Folded f(p);
    if (f.taps() > kMostTaps) return "filters of more than 9 blocks do not fit in shared memory";
    if (f.span(f.r) > kSpan)
        return "images of more than 63 blocks across: a filter's rows lie too far apart";
    if (p.k % 8 || p.k > 96) return "at most 96 filters, a multiple of 8";
    if (int64_t(p.n) * f.h * f.w >= int64_t(1) << 30) return "needs fewer than 2^30 positions";
    return "";
}

// Copies so many positions of every plane, from `first` on, which is in a run of outputs or as far
// behind it as taps reach.
__device__ __forceinline__ void load_planes(uint8_t* to, const bf16* x, const Folded& v,
                                            ptx::Mbarrier& bar, int first, int positions) {
    const int64_t pitch = plane_pitch(v.positions());
    const bf16* from = x + int64_t(first) * kPlaneChannels;
    for (int plane = 0; plane < kPlanes; ++plane, from += pitch * kPlaneChannels)
        ptx::bulk_load(to + plane * kPlaneBytes, from, positions * 16, bar);
}

}  // namespace wt::conv1_wgmma
