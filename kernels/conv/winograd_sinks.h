// Between the tensors of a convolution and Winograd's planes (winograd_transforms.h): which tiles
// of which images, where results go and with what epilogue.
#pragma once

#include "kernels/conv/winograd_transforms.h"

namespace wt::conv_winograd {

// x's tiles of fprop and wgrad, from tile `first` on.
inline Tiles input_tiles(const ConvProblem& p, const void* x, const Plan& plan, int first) {
    return {.images = static_cast<const float*>(x),
            .h = p.h,
            .w = p.w,
            .pitch = p.c,
            .channels = p.cg(),
            .tiles_h = plan.tiles_h,
            .tiles_w = plan.tiles_w,
            .first = first,
            .row0 = -p.pad_h,
            .col0 = -p.pad_w};
}

// dy's tiles, the first of which begins at (row0, col0).
inline Tiles output_tiles(const ConvProblem& p, const void* dy, const Plan& plan, int first,
                          int row0, int col0) {
    return {.images = static_cast<const float*>(dy),
            .h = p.p(),
            .w = p.q(),
            .pitch = p.k,
            .channels = p.kg(),
            .tiles_h = plan.tiles_h,
            .tiles_w = plan.tiles_w,
            .first = first,
            .row0 = row0,
            .col0 = col0};
}

// Where the products of a part go that need no sum: planes of rows x cols, `pitch` floats a row.
inline SplitKOutput<float> planes_output(float* to, int rows, int cols, int64_t pitch, int batch,
                                         int k) {
    const int64_t size = rows * pitch;
    const Epilogue<float> out{.c = to, .ld = pitch, .cols = cols};
    const int steps = static_cast<int>(ceil_div(k, 16));
    return {.out = out.with_alignment(size),
            .rows = rows,
            .groups = batch,
            .group_stride = size,
            .split = {.splits = 1, .steps = steps, .total_steps = steps}};
}

// Tiles of pixels of an image stack of h x w, through an epilogue: y, or dx.
template <EpilogueOp F>
struct Pixels {
    Epilogue<float> out;  // of group 0; a row is a pixel
    int64_t group_stride;
    int h, w, tiles_h, tiles_w, first;

    struct Place {
        Epilogue<float> out;
        int row, col, pixel, channel;
    };
    __device__ __forceinline__ Place place(const Items::At& at) const {
        const int tile = first + at.item, line = tile / tiles_w, image = line / tiles_h,
                  row = (line - image * tiles_h) * kOut, col = (tile - line * tiles_w) * kOut;
        return {out.of_group(at.group, group_stride), row, col, (image * h + row) * w + col,
                at.channel};
    }
    template <int V>
    __device__ __forceinline__ void put(const Place& at, int a, int b, const Vec<V>& v) const {
        if (at.row + a < h && at.col + b < w)
            store_epilogue<F>(at.out, at.pixel + a * w + b, at.channel, v);
    }
};

// Filters of R x R taps: dw.
template <int R>
struct FilterTaps {
    float* dw;
    int filters, channels;  // of a group

    __device__ __forceinline__ float* place(const Items::At& at) const {
        return dw + (static_cast<int64_t>(at.group) * filters + at.item) * R * R * channels +
               at.channel;
    }
    template <int V>
    __device__ __forceinline__ void put(float* first, int a, int b, const Vec<V>& v) const {
        store(first + (a * R + b) * channels, v);
    }
};

}  // namespace wt::conv_winograd
