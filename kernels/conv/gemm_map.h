// Convolution as matrix product ("implicit GEMM"): which tensor element a matrix coordinate means.
// The matrices are never in memory; kernels read through these maps.
//
//          M (rows)           N (columns)         K (summed)         A(m,k)        B(k,n)
//   fprop  pixels (n,p,q)     filters of a group  taps (r,s,c)       x at the tap  w[n][k]
//   dgrad  pixels (n,h,w)     channels of a group taps (r,s,filter)  dy it hit     w[filter][r,s,n]
//   wgrad  filters of a group taps (r,s,c)        pixels (n,p,q)     dy[k][m]      x at the tap
//
// wgrad_wgmma_sm90 computes wgrad's transpose: its M are taps, its N filters.
//
// Pixels and taps are numbered as they lie in memory, the last name fastest. Each group is a
// product of its own. (wgrad_wgmma_sm90.cu and its first-layer sibling compute the transpose of
// wgrad: M are taps, N filters.) Kernels step through K with the cursors below, which need no
// division.
#pragma once

#include "kernels/conv/problem.h"

namespace wt {

// ConvProblem with everything derived, as kernels take it.
struct ConvShape {
    int n, h, w, c, k, r, s, p, q;
    int stride_h, stride_w, pad_h, pad_w;
    int groups, cg, kg;        // cg, kg: channels and filters of one group
    int fold, fold_h, fold_w;  // how x is stored: kernels/conv/problem.h
    int64_t plane_pitch;       // 0: not as planes

    ConvShape(const ConvProblem& a)
        : n(a.n),
          h(a.h),
          w(a.w),
          c(a.c),
          k(a.k),
          r(a.r),
          s(a.s),
          p(a.p()),
          q(a.q()),
          stride_h(a.stride_h),
          stride_w(a.stride_w),
          pad_h(a.pad_h),
          pad_w(a.pad_w),
          groups(a.groups),
          cg(a.cg()),
          kg(a.kg()),
          fold(a.fold),
          fold_h(a.fold_h()),
          fold_w(a.fold_w()),
          plane_pitch(a.planes ? wt::plane_pitch(a.positions()) : 0) {}
};

// A pixel of an image stack: n, row, column.
struct Pixel {
    int n, row, col;
};

// Tap of a filter: row, column, channel (fprop, wgrad: input channel of the group; dgrad: filter of
// the group).
struct Tap {
    int r, s, c;
};

__host__ __device__ inline Pixel pixel_at(int64_t m, int rows, int cols) {
    const int64_t line = m / cols;
    return {static_cast<int>(line / rows), static_cast<int>(line % rows),
            static_cast<int>(m % cols)};
}

__host__ __device__ inline Tap tap_at(int k, int s, int channels) {
    const int column = k / channels;
    return {column / s, column % s, k % channels};
}

// Offset of x[n, row, col, channel of the group] or of dx.
__host__ __device__ inline int64_t input_offset(const ConvShape& v, int n, int row, int col,
                                                int group, int c) {
    return ((static_cast<int64_t>(n) * v.h + row) * v.w + col) * v.c + group * v.cg + c;
}

// Offset of the input that tap (r, s) of output pixel `out` reads, where x is stored folded: row
// stride * p - pad + r of the image is row a of block p + i, r = fold * i + a. Inside for every
// tap: the padding is stored.
__host__ __device__ inline int64_t folded_offset(const ConvShape& v, const Pixel& out, int group,
                                                 const Tap& tap) {
    const int row = out.row + tap.r / v.fold, col = out.col + tap.s / v.fold;
    const int place = tap.r % v.fold * v.fold + tap.s % v.fold;
    return (((static_cast<int64_t>(out.n) * v.fold_h + row) * v.fold_w + col) * v.fold * v.fold +
            place) *
               v.c +
           group * v.cg + tap.c;
}

// The same where x is stored as planes.
__host__ __device__ inline int64_t planes_offset(const ConvShape& v, const Pixel& out, int group,
                                                 const Tap& tap) {
    const int channels = v.fold * v.fold * v.c;
    const int64_t offset = folded_offset(v, out, group, tap);
    return plane_offset(offset / channels, static_cast<int>(offset % channels), v.plane_pitch);
}

// Offset of y[n, p, q, filter of the group] or of dy.
__host__ __device__ inline int64_t output_offset(const ConvShape& v, int n, int p, int q, int group,
                                                 int k) {
    return ((static_cast<int64_t>(n) * v.p + p) * v.q + q) * v.k + group * v.kg + k;
}

// Offset of w[filter of the group, r, s, channel of the group] or of dw.
__host__ __device__ inline int64_t filter_offset(const ConvShape& v, int group, int k, int r, int s,
                                                 int c) {
    return ((static_cast<int64_t>(group * v.kg + k) * v.r + r) * v.s + s) * v.cg + c;
}

// The input row that tap r of output row p reads. May lie in the padding: outside [0, h).
__host__ __device__ inline int input_row(const ConvShape& v, int p, int r) {
    return p * v.stride_h - v.pad_h + r;
}
__host__ __device__ inline int input_col(const ConvShape& v, int q, int s) {
    return q * v.stride_w - v.pad_w + s;
}

// The output row (column) whose tap t reads input row (column) i, or -1 when there is none.
__host__ __device__ inline int output_index(int i, int t, int pad, int stride, int outputs) {
    const int d = i + pad - t;
    if (d < 0 || d % stride) return -1;
    return d / stride < outputs ? d / stride : -1;
}

// A Tap that steps forward through k by additions.
struct TapCursor {
    Tap at;
    int s, channels;  // extents

    __host__ __device__ TapCursor(int k, int s_extent, int channel_extent)
        : at(tap_at(k, s_extent, channel_extent)), s(s_extent), channels(channel_extent) {}
    __host__ __device__ void advance(int step) {
        at.c += step;
        while (at.c >= channels) {
            at.c -= channels;
            if (++at.s == s) at.s = 0, ++at.r;
        }
    }
};

// A Pixel that steps forward through m by additions.
struct PixelCursor {
    Pixel at;
    int rows, cols;  // extents

    __host__ __device__ PixelCursor(int64_t m, int row_extent, int col_extent)
        : at(pixel_at(m, row_extent, col_extent)), rows(row_extent), cols(col_extent) {}
    __host__ __device__ void advance(int step) {
        at.col += step;
        while (at.col >= cols) {
            at.col -= cols;
            if (++at.row == rows) at.row = 0, ++at.n;
        }
    }
};

}  // namespace wt
