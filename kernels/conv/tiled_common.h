// What the three tiled convolutions share on the host: limits, tile and vector choice.
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
    if (std::max({p.h, p.w, p.r, p.s, p.pad_h, p.pad_w}) >= 1 << 13) return "needs images, filters and padding below 8192";
    return "";
}

inline std::string refuses(const ConvProblem& p) {
    const std::string why = refuses_fusions(p);
    return why.empty() ? too_large(p) : why;
}

// A product of one group: rows x cols summed over k, and whether its operands can be read 16 bytes at a time
// (channels of a group, and where filters are contiguous those, in whole vectors).
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
