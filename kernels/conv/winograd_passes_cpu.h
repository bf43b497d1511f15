// The passes of Winograd's convolution on a CPU, of square filters of 3 or 5 taps: F(6x6, 3x3) and
// F(4x4, 5x5). winograd.h has the mathematics and the error. fprop and wgrad also of strided
// problems that are such convolutions when they are folded (winograd_fold_cpu.h).
//
// The tiles of a batch (winograd_tiles_cpu.h) go through memory in blocks: a block's pixels are
// transformed, then multiplied at the 64 points, then transformed to results, while the caches hold
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
void read_pixels(const Tiles&, int64_t tile, const float* x, const ConvProblem& strided,
                 int channels, const float* zeros, float* scratch, const float** pixels);

// A number of channels, in whole vectors of either instruction set.
constexpr int64_t padded(int64_t channels) { return ceil_div(channels, 16) * 16; }

// Tiles that have `bytes` when each has `channels` floats at every point; whole tiles of products
// of both instruction sets.
constexpr int64_t tiles_of_a_block(int64_t all, int64_t bytes, int64_t channels) {
    const int64_t fit = bytes / (int64_t(sizeof(float)) * kPoints * channels) / 12 * 12;
    return std::min(all, std::max<int64_t>(fit, 24));
}

// fprop or dgrad: `in` channels of every pixel to `out` channels of every pixel.
class Forward {
public:
    static Forward fprop(const ConvProblem&, const Leaves&);
    static Forward dgrad(const ConvProblem&, const Leaves&);

    size_t workspace() const;  // bytes
    struct Operands {
        const float *in, *filters, *bias;  // bias may be null
        float* out;
        const float* mask;  // as out, or null: out is 0 where this is not above 0
        bool relu;
    };
    void run(const Operands&, void* workspace) const;

private:
    Forward(const ConvProblem& strided, const ConvProblem& p, const Leaves&, bool turned);
    size_t folded_filters() const { return is_strided(strided_) ? in_ * out_ * taps_ * taps_ : 0; }
    int64_t filter_plane() const;
    int64_t in_plane() const { return block_ * in_pitch_ + kLine; }
    int64_t out_plane() const { return block_ * out_pitch_ + kLine; }
    int64_t buffer() const { return groups_ * kPoints * (in_plane() + out_plane()); }
    void multiply(int task, int rows, const float* filters, float* buffer) const;
    void transform_filters(const float* w, int task, float* to) const;
    void transform_input(const float* in, const float* zeros, int64_t tile, float* to) const;
    void transform_output(const float* from, int64_t tile, const Operands&) const;

    static constexpr int kLine = 16;  // floats between planes, so that they do not share cache sets
    const Leaves& leaves_;
    ConvProblem strided_;  // as it was asked for
    Tiles tiles_;
    bool turned_;        // dgrad: filters turned by 180 degrees, from k to c
    int groups_, taps_;  // of a filter, in one direction
    int in_, out_;       // channels of a group
    int in_pitch_, out_pitch_, panels_;
    bool shared_;    // by all cores: a block; else each core has its own
    int64_t block_;  // tiles
};

class Gradient {
public:
    Gradient(const ConvProblem&, const Leaves&);

    size_t workspace() const;  // bytes
    // db may be null
    void run(const float* x, const float* dy, float* dw, float* db, void* workspace) const;

private:
    int64_t x_plane() const { return block_ * c_pitch_ + kLine; }
    int64_t dy_plane() const { return block_ * k_pitch_ + kLine; }
    int64_t dw_plane() const { return int64_t(k_) * c_pitch_ + kLine; }
    size_t folded_filters() const { return is_strided(strided_) ? c_ * k_ * taps_ * taps_ : 0; }
    void transform(const float* from, bool is_x, const float* zeros, int64_t tile, float* to) const;
    void add_bias(const float* dy, int rows, bool add, float* db) const;

    static constexpr int kLine = 16;
    const Leaves& leaves_;
    ConvProblem strided_;  // as it was asked for
    Tiles tiles_;
    int groups_, taps_, c_, k_, c_pitch_, k_pitch_;
    int64_t block_;
};

}  // namespace wt::winograd_cpu
