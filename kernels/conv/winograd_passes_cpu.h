// The passes of Winograd's convolution on a CPU, of square filters of 3 or 5 taps: F(6x6, 3x3) and
// F(4x4, 5x5), in bf16 F(8x8, 3x3) and F(6x6, 5x5). winograd.h has the mathematics and the error.
// fprop and wgrad also of strided problems that are such convolutions when they are folded
// (winograd_fold_cpu.h).
// T is how activations (and the filters that are read) are stored; all sums are fp32.
//
// The tiles of a batch (winograd_tiles_cpu.h) go through memory in blocks: a block's pixels are
// transformed, then multiplied at the points, then transformed to results, while the caches hold
// them. Each result is one sum in one order, so neither the number of threads nor the order of
// their work changes a bit.
#pragma once

#include "kernels/conv/problem.h"
#include "kernels/conv/winograd_cpu.h"
#include "kernels/conv/winograd_fold_cpu.h"
#include "kernels/conv/winograd_tiles_cpu.h"

namespace wt::winograd_cpu {

Tiles tiles_of(const ConvProblem& unstrided);

// Pointers to the pixels of a tile's side x side positions, `zeros` where there is none. Blocks of
// a strided problem whose input is not stored in blocks are gathered into `scratch`.
template <class T>
void read_pixels(const Tiles& tiles, int64_t tile, int side, const T* x, const ConvProblem& strided,
                 int channels, const T* zeros, T* scratch, const T** pixels) {
    const bool gathers = is_strided(strided) && strided.fold == 1;
    const int64_t image_size = gathers ? int64_t(strided.h) * strided.w * strided.c
                                       : int64_t(tiles.down.in) * tiles.across.in * channels;
    tiles.each(tile, true, side, [&](int i, int j, int image, int row, int col) {
        const T*& pixel = pixels[i * side + j];
        const T* first = x + image * image_size;
        if (image < 0) {
            pixel = zeros;
        } else if (gathers) {
            T* block = scratch + (i * side + j) * channels;
            gather_block(strided, first, row, col, block);
            pixel = block;
        } else {
            pixel = first + (int64_t(row) * tiles.across.in + col) * channels;
        }
    });
}

// A number of channels, in whole vectors of either instruction set.
constexpr int64_t padded(int64_t channels) { return ceil_div(channels, 16) * 16; }

// Tiles that have `bytes` when each has so many floats at all points; whole tiles of products of
// both instruction sets.
constexpr int64_t tiles_of_a_block(int64_t all, int64_t bytes, int64_t floats) {
    const int64_t fit = bytes / (int64_t(sizeof(float)) * floats) / 12 * 12;
    return std::min(all, std::max<int64_t>(fit, 24));
}

// fprop or dgrad: `in` channels of every pixel to `out` channels of every pixel.
template <class T>
class Forward {
public:
    static Forward fprop(const ConvProblem&, const Leaves&);
    static Forward dgrad(const ConvProblem&, const Leaves&);

    size_t workspace() const;  // bytes
    struct Operands {
        const T *in, *filters;
        const float* bias;  // may be null
        T* out;
        const T* mask;  // as out, or null: out is 0 where this is not above 0
        bool relu;
    };
    void run(const Operands&, void* workspace) const;

private:
    Forward(const ConvProblem& strided, const ConvProblem& p, const Leaves&, bool turned);
    size_t folded_filters() const { return is_strided(strided_) ? in_ * out_ * taps_ * taps_ : 0; }
    int64_t filter_plane() const;
    int64_t in_plane() const { return block_ * in_pitch_ + kLine; }
    int64_t out_plane() const { return block_ * out_pitch_ + kLine; }
    int64_t buffer() const { return groups_ * points_ * (in_plane() + out_plane()); }
    void multiply(int task, int rows, const float* filters, float* buffer) const;
    void transform_filters(const T* w, int task, float* to) const;
    void transform_input(const T* in, const T* zeros, int64_t tile, float* to) const;
    void transform_output(const float* from, int64_t tile, const Operands&) const;

    static constexpr int kLine = 16;  // floats between planes, so that they do not share cache sets
    const Leaves& leaves_;
    ConvProblem strided_;  // as it was asked for
    Tiles tiles_;
    bool turned_;        // dgrad: filters turned by 180 degrees, from k to c
    int groups_, taps_;  // of a filter, in one direction
    const Transforms<T>& transforms_;
    int points_;    // of a tile
    int in_, out_;  // channels of a group
    int in_pitch_, out_pitch_, panels_;
    bool shared_;    // by all cores: a block; else each core has its own
    int64_t block_;  // tiles
};

template <class T>
class Gradient {
public:
    Gradient(const ConvProblem&, const Leaves&);

    size_t workspace() const;  // bytes
    // db may be null
    void run(const T* x, const T* dy, float* dw, float* db, void* workspace) const;

private:
    int64_t x_plane() const { return block_ * c_pitch_ + kLine; }
    int64_t dy_plane() const { return block_ * k_pitch_ + kLine; }
    int64_t dw_plane() const { return int64_t(k_) * c_pitch_ + kLine; }
    size_t folded_filters() const { return is_strided(strided_) ? c_ * k_ * taps_ * taps_ : 0; }
    void transform(const T* from, bool is_x, const T* zeros, int64_t tile, float* to) const;
    void add_bias(const float* dy, int rows, bool add, float* db) const;

    static constexpr int kLine = 16;
    const Leaves& leaves_;
    ConvProblem strided_;  // as it was asked for
    Tiles tiles_;
    int groups_, taps_;
    const Transforms<T>& transforms_;
    int points_, c_, k_, c_pitch_, k_pitch_;
    int64_t block_;
};

}  // namespace wt::winograd_cpu
