// fprop and dgrad by Winograd on a CPU: dgrad is the convolution of dy with the filters turned.
#include <omp.h>

#include <algorithm>
#include <cstring>

#include "host/vgpu/exec/grid.h"
#include "kernels/conv/winograd_passes_cpu.h"

namespace wt::winograd_cpu {

// Bytes of a block's tiles at the points, before and after the products, and of the filters there
// from which on a block is every core's business. A block is written once and read once, and the
// filters, up to 59 MB, are read once a block: large ones want large blocks, which all cores share;
// small ones want a block of its own for each core, which its second cache holds. conv2 of alexnet
// and of owt, whose filters have 5 to 10 MB, AVX-512, batch 128, ms of a core: shared blocks 306
// (fp32) and 211, and 130 and 123; own ones of 1 MB 257 and 219, 137 and 98; of 2 MB 240 and 193,
// 123 and 86.
static constexpr int64_t kSharedBlock = 16 << 20, kOwnBlock = 2 << 20, kSharedFilters = 12 << 20;
static constexpr int kColumns = 128;  // of a product, at the most: what a thread takes at once

Tiles tiles_of(const ConvProblem& p) {
    const int tile = side_of(p.dtype) + 1 - p.r;
    Tiles t{.n = p.n,
            .down = {.in = p.h, .out = p.p(), .pad = p.pad_h, .tile = tile},
            .across = {.in = p.w, .out = p.q(), .pad = p.pad_w, .tile = tile}};
    t.choose_mosaic();
    return t;
}

// dy is read, dx the result.
static ConvProblem reversed(ConvProblem p) {
    const int rows = p.p(), cols = p.q();
    std::swap(p.c, p.k);
    p.h = rows, p.w = cols;
    p.pad_h = p.r - 1 - p.pad_h, p.pad_w = p.s - 1 - p.pad_w;
    return p;
}

template <class T>
Forward<T>::Forward(const ConvProblem& strided, const ConvProblem& p, const Leaves& leaves,
                    bool turned)
    : leaves_(leaves),
      strided_(strided),
      tiles_(tiles_of(p)),
      turned_(turned),
      groups_(p.groups),
      taps_(p.r),
      transforms_(leaves.of<T>(p.r)),
      points_(transforms_.side * transforms_.side),
      in_(p.cg()),
      out_(p.kg()),
      in_pitch_(int(padded(in_))),
      out_pitch_(int(padded(out_))),
      panels_(int(ceil_div(out_, leaves.panel))),
      shared_(int64_t(sizeof(float)) * points_ * in_ * out_ > kSharedFilters),
      block_(tiles_of_a_block(tiles_.count(), shared_ ? kSharedBlock : kOwnBlock,
                              int64_t(points_) * groups_ * (in_pitch_ + out_pitch_))) {}

template <class T>
Forward<T> Forward<T>::fprop(const ConvProblem& p, const Leaves& l) {
    return {p, unstrided(p), l, false};
}
template <class T>
Forward<T> Forward<T>::dgrad(const ConvProblem& p, const Leaves& l) {
    const ConvProblem r = reversed(p);
    return {r, r, l, true};
}

template <class T>
int64_t Forward<T>::filter_plane() const {
    return int64_t(panels_) * in_ * leaves_.panel + 2 * kLine;
}

template <class T>
size_t Forward<T>::workspace() const {
    return sizeof(float) *
           (padded(groups_ * in_) + padded(folded_filters()) + groups_ * points_ * filter_plane() +
            (shared_ ? 1 : vgpu::core_count()) * buffer());
}

// One panel of one group's filters: of each input channel `panel` filters at the points.
template <class T>
void Forward<T>::transform_filters(const T* w, int task, float* to) const {
    const int group = task / panels_, panel = task % panels_, width = leaves_.panel;
    const int first = panel * width, filters = std::min(width, out_ - first), taps = taps_ * taps_;
    constexpr int kChannels = 16;  // at a time: a line of w
    alignas(64) float held[kChannels][25][32] = {};
    for (int c0 = 0; c0 < in_; c0 += kChannels) {
        const int channels = std::min(kChannels, in_ - c0);
        for (int t = 0; t < taps; ++t) {
            if (turned_) {  // w is k, tap, c: here k is read and c comes out
                for (int c = 0; c < channels; ++c) {
                    const T* line = w + ((int64_t(group) * in_ + c0 + c) * taps + t) * out_ + first;
                    for (int k = 0; k < filters; ++k) held[c][taps - 1 - t][k] = to_float(line[k]);
                }
                continue;
            }
            for (int k = 0; k < filters; ++k) {
                const T* line = w + ((int64_t(group) * out_ + first + k) * taps + t) * in_ + c0;
                for (int c = 0; c < channels; ++c) held[c][t][k] = to_float(line[c]);
            }
        }
        for (int c = 0; c < channels; ++c) {
            const float* in[25];
            for (int t = 0; t < taps; ++t) in[t] = held[c][t];
            float* points =
                to + group * points_ * filter_plane() + (int64_t(panel) * in_ + c0 + c) * width;
            transforms_.filters(in, width, points, filter_plane());
        }
    }
}

template <class T>
void Forward<T>::transform_input(const T* in, const T* zeros, int64_t tile, float* to) const {
    const T* pixels[kMostPoints];
    alignas(64) T blocks[kMostPoints * kMostFolded];
    read_pixels(tiles_, tile, transforms_.side, in, strided_, groups_ * in_, zeros, blocks, pixels);
    for (int g = 0; g < groups_; ++g) {
        transforms_.input(pixels, in_, to + g * points_ * in_plane(), in_plane());
        for (int i = 0; i < points_; ++i) pixels[i] += in_;
    }
}

template <class T>
void Forward<T>::transform_output(const float* from, int64_t tile, const Operands& o) const {
    T* pixels[kMostPoints];
    const int channels = groups_ * out_, side = transforms_.tile();
    tiles_.each(tile, false, side, [&](int i, int j, int image, int row, int col) {
        pixels[i * side + j] =
            image < 0
                ? nullptr
                : o.out + ((int64_t(image) * tiles_.down.out + row) * tiles_.across.out + col) *
                              channels;
    });
    Epilogue<T> e{.bias = o.bias, .relu = o.relu, .results = o.out, .mask = o.mask};
    for (int g = 0; g < groups_; ++g) {
        transforms_.output(from + g * points_ * out_plane(), out_plane(), out_, e, pixels);
        for (int i = 0; i < side * side; ++i)
            if (pixels[i]) pixels[i] += out_;
        if (e.bias) e.bias += out_;
    }
}

// Columns `part` of the product at one point of one group.
template <class T>
void Forward<T>::multiply(int task, int rows, const float* filters, float* buffer) const {
    const int parts = int(ceil_div(out_, kColumns)), col = task % parts * kColumns;
    const int64_t plane = task / parts;
    leaves_.product({.rows = rows,
                     .cols = std::min(kColumns, out_ - col),
                     .depth = in_,
                     .a = buffer + plane * in_plane(),
                     .a_row = in_pitch_,
                     .b = filters + plane * filter_plane() + int64_t(col) * in_,
                     .b_row = 0,
                     .out = buffer + groups_ * points_ * in_plane() + plane * out_plane() + col,
                     .out_row = out_pitch_,
                     .add = false,
                     .across = false});
}

template <class T>
void Forward<T>::run(const Operands& o, void* workspace) const {
    // zeros and folded filters are of T, and have as much room as if they were floats
    T* zeros = static_cast<T*>(workspace);
    float* behind_zeros = static_cast<float*>(workspace) + padded(groups_ * in_);
    T* folded = reinterpret_cast<T*>(behind_zeros);
    float* filters = behind_zeros + padded(folded_filters());
    float* buffers = filters + groups_ * points_ * filter_plane();
    std::fill_n(zeros, padded(groups_ * in_), from_float<T>(0));
    const T* w = o.filters;
    if (is_strided(strided_)) {
        std::fill_n(folded, folded_filters(), from_float<T>(0));
        each_run(strided_, [&](int64_t from, int64_t to) {
            std::copy_n(o.filters + from, strided_.c, folded + to);
        });
        w = folded;
    }
    const int64_t count = tiles_.count();
    const int products = int(groups_ * points_ * ceil_div(out_, kColumns));
    const auto rows_of = [&](int64_t first) { return int(std::min(block_, count - first)); };
    const auto read = [&](int64_t first, int i, float* buffer) {
        transform_input(o.in, zeros, first + i, buffer + int64_t(i) * in_pitch_);
    };
    const auto write = [&](int64_t first, int i, const float* buffer) {
        const float* out = buffer + groups_ * points_ * in_plane();
        transform_output(out + int64_t(i) * out_pitch_, first + i, o);
    };
#pragma omp parallel num_threads(vgpu::core_count())
    {
#pragma omp for schedule(dynamic)
        for (int task = 0; task < groups_ * panels_; ++task) transform_filters(w, task, filters);
        if (shared_) {
            for (int64_t first = 0; first < count; first += block_) {
                const int rows = rows_of(first);
#pragma omp for schedule(dynamic, 2)
                for (int i = 0; i < rows; ++i) read(first, i, buffers);
#pragma omp for schedule(dynamic)
                for (int task = 0; task < products; ++task) multiply(task, rows, filters, buffers);
                    // the next block's pixels may be transformed beside this: they lie elsewhere
#pragma omp for schedule(dynamic, 2) nowait
                for (int i = 0; i < rows; ++i) write(first, i, buffers);
            }
        } else {
            float* own = buffers + omp_get_thread_num() * buffer();
#pragma omp for schedule(dynamic)
            for (int64_t first = 0; first < count; first += block_) {
                const int rows = rows_of(first);
                for (int i = 0; i < rows; ++i) read(first, i, own);
                for (int task = 0; task < products; ++task) multiply(task, rows, filters, own);
                for (int i = 0; i < rows; ++i) write(first, i, own);
            }
        }
    }
}

template class Forward<float>;
template class Forward<bf16>;

}  // namespace wt::winograd_cpu
