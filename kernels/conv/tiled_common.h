// What the three tiled convolutions share on the host: limits, tile and vector choice, and where
// their products go.
#pragma once

#include <algorithm>
#include <string>

#include "kernels/conv/gemm_map.h"
#include "kernels/tile/simt.h"
#include "kernels/tile/split_k.h"

namespace wt::conv_tiled {

using Big = simt::Tile<128, 128>;
using Small = simt::Tile<64, 64>;

// Pixels and filter elements are counted in 32 bits, positions in an image in 16.
inline std::string too_large(const ConvProblem& p) {
    constexpr int64_t kMost = int64_t(1) << 30;
    const int64_t in = int64_t(p.n) * p.h * p.w, out = int64_t(p.n) * p.p() * p.q();
    if (in >= kMost || out >= kMost || p.w_count() >= kMost || int64_t(p.h) * p.w * p.c >= kMost)
        return "needs fewer than 2^30 pixels, filter elements and elements in an image";
    if (std::max({p.h, p.w, p.r, p.s, p.pad_h, p.pad_w}) >= 1 << 13)
        return "needs images, filters and padding below 8192";
    return "";
}

inline std::string refuses(const ConvProblem& p) {
    const std::string why = refuses_fusions(p);
    return why.empty() ? too_large(p) : why;
}

// A product of one group: rows x cols summed over k, and whether its operands can be read 16 bytes
// at a time (channels of a group, and where filters are contiguous those, in whole vectors).
struct Extents {
    int rows, cols, k;
    bool vectors;
    bool small = false;  // only the small tile will do

    bool big() const { return vectors && !small && rows > 64 && cols > 64; }
    int edge() const { return big() ? 128 : 64; }
    SplitK split(int groups) const {
        return split_k(ceil_div(rows, edge()) * ceil_div(cols, edge()) * groups, k, Big::BK);
    }
};

// Where the products of the three passes go, with their epilogues; on ordinary threads and on
// mma.sync alike. `workspace` is the part of it that partial sums may have.
template <class T>
SplitKOutput<T> fprop_output(const ConvProblem& p, const ConvFpropArgs& a, const SplitK& split,
                             void* workspace) {
    const Epilogue<T> out{.c = static_cast<T*>(a.y),
                          .ld = p.k,
                          .cols = p.kg(),
                          .bias = p.bias ? a.bias : nullptr,
                          .relu = p.relu};
    return {.out = out.with_alignment(p.kg()),
            .rows = p.n * p.p() * p.q(),
            .groups = p.groups,
            .group_stride = p.kg(),
            .split = split,
            .partials = static_cast<float*>(workspace)};
}

template <class T>
SplitKOutput<T> dgrad_output(const ConvProblem& p, const ConvDgradArgs& a, const SplitK& split) {
    Epilogue<T> out{.c = static_cast<T*>(a.dx), .ld = p.c, .cols = p.cg()};
    if (p.drelu) {
        out.mask = static_cast<const T*>(a.x);
        out.ld_mask = p.c;
    }
    return {.out = out.with_alignment(p.cg()),
            .rows = p.n * p.h * p.w,
            .groups = p.groups,
            .group_stride = p.cg(),
            .split = split,
            .partials = static_cast<float*>(a.workspace)};
}

inline SplitKOutput<float> wgrad_output(const ConvProblem& p, float* dw, float* db,
                                        const SplitK& split, void* workspace) {
    const int taps = p.r * p.s * p.cg();
    const int64_t stride = int64_t(p.kg()) * taps;
    const Epilogue<float> out{.c = dw, .ld = taps, .cols = taps};
    return {.out = out.with_alignment(stride),
            .rows = p.kg(),
            .groups = p.groups,
            .group_stride = stride,
            .row_sums = p.bias ? db : nullptr,
            .split = split,
            .partials = static_cast<float*>(workspace)};
}

// Calls f.operator()<F>() with the epilogue of a data gradient.
template <class Fn>
void by_drelu(const ConvProblem& p, Fn&& f) {
    if (p.drelu) return f.template operator()<EpilogueOp::drelu>();
    f.template operator()<EpilogueOp::plain>();
}

inline bool whole_vectors(const ConvProblem& p, int a, int b) {
    const int v = 16 / static_cast<int>(size_of(p.dtype));
    return a % v == 0 && b % v == 0;
}

// Calls f.operator()<Tile, V>() with the tile and the vector width that fit.
template <class T, class F>
void by_tile(const Extents& e, F&& f) {
    if (!e.vectors) return f.template operator()<Small, 1>();
    if (e.big()) return f.template operator()<Big, 16 / sizeof(T)>();
    f.template operator()<Small, 16 / sizeof(T)>();
}

}  // namespace wt::conv_tiled
