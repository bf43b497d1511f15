// fprop and dgrad by Winograd on a CPU: dgrad is the convolution of dy with the filters turned.
#include <omp.h>

#include <algorithm>
#include <cstring>

#include "host/vgpu/exec/grid.h"
#include "kernels/conv/winograd_passes_cpu.h"

namespace wt::winograd_cpu {

// Bytes of a block's tiles at the points, before and after the products, and of the filters there
// from which on a block is every core's business. A block is written once and read once, and the
// filters, up to 25 MB, are read once a block: large ones want large blocks, which all cores share;
// small ones want a block of its own for each core, which its second cache holds.
static constexpr int64_t kSharedBlock = 16 << 20, kOwnBlock = 1 << 20, kSharedFilters = 4 << 20;
static constexpr int kColumns = 128;  // of a product, at the most: what a thread takes at once

Tiles tiles_of(const ConvProblem& p) {
    const int tile = kSide + 1 - p.r;
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

void read_pixels(const Tiles& tiles, int64_t tile, const float* x, const ConvProblem& strided,
                 int channels, const float* zeros, float* scratch, const float** pixels) {
    const bool gathers = is_strided(strided) && strided.fold == 1;
    const int64_t image_size = gathers ? int64_t(strided.h) * strided.w * strided.c
                                       : int64_t(tiles.down.in) * tiles.across.in * channels;
    tiles.each(tile, true, kSide, [&](int i, int j, int image, int row, int col) {
        const float*& pixel = pixels[i * kSide + j];
        const float* first = x + image * image_size;
        if (image < 0) {
            pixel = zeros;
        } else if (gathers) {
            float* block = scratch + (i * kSide + j) * channels;
            gather_block(strided, first, row, col, block);
            pixel = block;
        } else {
            pixel = first + (int64_t(row) * tiles.across.in + col) * channels;
        }
    });
}

Forward::Forward(const ConvProblem& strided, const ConvProblem& p, const Leaves& leaves,
                 bool turned)
    : leaves_(leaves),
      strided_(strided),
      tiles_(tiles_of(p)),
      turned_(turned),
      groups_(p.groups),
      taps_(p.r),
      in_(p.cg()),
      out_(p.kg()),
      in_pitch_(int(padded(in_))),
      out_pitch_(int(padded(out_))),
      panels_(int(ceil_div(out_, leaves.panel))),
      shared_(int64_t(sizeof(float)) * kPoints * in_ * out_ > kSharedFilters),
      block_(tiles_of_a_block(tiles_.count(), shared_ ? kSharedBlock : kOwnBlock,
                              groups_ * (in_pitch_ + out_pitch_))) {}

Forward Forward::fprop(const ConvProblem& p, const Leaves& l) {
    return {p, unstrided(p), l, false};
}
Forward Forward::dgrad(const ConvProblem& p, const Leaves& l) {
    const ConvProblem r = reversed(p);
    return {r, r, l, true};
}

int64_t Forward::filter_plane() const { return int64_t(panels_) * in_ * leaves_.panel + 2 * kLine; }

size_t Forward::workspace() const {
    return sizeof(float) *
           (padded(groups_ * in_) + padded(folded_filters()) + groups_ * kPoints * filter_plane() +
            (shared_ ? 1 : vgpu::core_count()) * buffer());
}

// One panel of one group's filters: of each input channel `panel` filters at the points.
void Forward::transform_filters(const float* w, int task, float* to) const {
    const int group = task / panels_, panel = task % panels_, width = leaves_.panel;
    const int first = panel * width, filters = std::min(width, out_ - first), taps = taps_ * taps_;
    constexpr int kChannels = 16;  // at a time: a line of w
    alignas(64) float held[kChannels][25][32] = {};
    for (int c0 = 0; c0 < in_; c0 += kChannels) {
        const int channels = std::min(kChannels, in_ - c0);
        for (int t = 0; t < taps; ++t) {
            if (turned_) {  // w is k, tap, c: here k is read and c comes out
                for (int c = 0; c < channels; ++c)
                    std::memcpy(held[c][taps - 1 - t],
                                w + ((int64_t(group) * in_ + c0 + c) * taps + t) * out_ + first,
                                filters * sizeof(float));
                continue;
            }
            for (int k = 0; k < filters; ++k) {
                const float* line = w + ((int64_t(group) * out_ + first + k) * taps + t) * in_ + c0;
                for (int c = 0; c < channels; ++c) held[c][t][k] = line[c];
            }
        }
        for (int c = 0; c < channels; ++c) {
            const float* in[25];
            for (int t = 0; t < taps; ++t) in[t] = held[c][t];
            float* points =
                to + group * kPoints * filter_plane() + (int64_t(panel) * in_ + c0 + c) * width;
            leaves_.taps(taps_)(in, width, points, filter_plane());
        }
    }
}

void Forward::transform_input(const float* in, const float* zeros, int64_t tile, float* to) const {
    const float* pixels[kPoints];
    alignas(64) float blocks[kPoints * kMostFolded];
    read_pixels(tiles_, tile, in, strided_, groups_ * in_, zeros, blocks, pixels);
    for (int g = 0; g < groups_; ++g) {
        leaves_.input(pixels, in_, to + g * kPoints * in_plane(), in_plane());
        for (const float*& p : pixels) p += in_;
    }
}

void Forward::transform_output(const float* from, int64_t tile, const Operands& o) const {
    float* pixels[kPoints];
    const int channels = groups_ * out_, side = tiles_.down.tile;
    tiles_.each(tile, false, side, [&](int i, int j, int image, int row, int col) {
        pixels[i * side + j] =
            image < 0
                ? nullptr
                : o.out + ((int64_t(image) * tiles_.down.out + row) * tiles_.across.out + col) *
                              channels;
    });
    Epilogue e{.bias = o.bias, .relu = o.relu, .results = o.out, .mask = o.mask};
    for (int g = 0; g < groups_; ++g) {
        leaves_.output(side)(from + g * kPoints * out_plane(), out_plane(), out_, e, pixels);
        for (float*& p : pixels)
            if (p) p += out_;
        if (e.bias) e.bias += out_;
    }
}

// Columns `part` of the product at one point of one group.
void Forward::multiply(int task, int rows, const float* filters, float* buffer) const {
    const int parts = int(ceil_div(out_, kColumns)), col = task % parts * kColumns;
    const int64_t plane = task / parts;
    leaves_.product({.rows = rows,
                     .cols = std::min(kColumns, out_ - col),
                     .depth = in_,
                     .a = buffer + plane * in_plane(),
                     .a_row = in_pitch_,
                     .b = filters + plane * filter_plane() + int64_t(col) * in_,
                     .b_row = 0,
                     .out = buffer + groups_ * kPoints * in_plane() + plane * out_plane() + col,
                     .out_row = out_pitch_,
                     .add = false,
                     .across = false});
}

void Forward::run(const Operands& o, void* workspace) const {
    float* zeros = static_cast<float*>(workspace);
    float* folded = zeros + padded(groups_ * in_);
    float* filters = folded + padded(folded_filters());
    float* buffers = filters + groups_ * kPoints * filter_plane();
    std::fill_n(zeros, padded(groups_ * in_), 0.f);
    const float* w = o.filters;
    if (is_strided(strided_)) {
        std::fill_n(folded, folded_filters(), 0.f);
        each_run(strided_, [&](int64_t from, int64_t to) {
            std::copy_n(o.filters + from, strided_.c, folded + to);
        });
        w = folded;
    }
    const int64_t count = tiles_.count();
    const int products = int(groups_ * kPoints * ceil_div(out_, kColumns));
    const auto rows_of = [&](int64_t first) { return int(std::min(block_, count - first)); };
    const auto read = [&](int64_t first, int i, float* buffer) {
        transform_input(o.in, zeros, first + i, buffer + int64_t(i) * in_pitch_);
    };
    const auto write = [&](int64_t first, int i, const float* buffer) {
        const float* out = buffer + groups_ * kPoints * in_plane();
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

}  // namespace wt::winograd_cpu
