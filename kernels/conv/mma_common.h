// What the three convolutions on mma.sync share on the host: what they refuse, their tiles and
// splits.
#pragma once

#include "kernels/conv/first_layer_fold.h"
#include "kernels/conv/tiled_common.h"
#include "kernels/tile/mma_sm80.h"

namespace wt::conv_mma {

template <class T>
using Big = mma::Tile<T, 128, 128, 2, 2>;
// for 96 and 192 filters; both operands along k
template <class T>
using Wide = mma::Tile<T, 128, 96, 4, 1>;
template <class T>
using Small = mma::Tile<T, 64, 64, 2, 2>;

// Why they cannot do a problem. With of_filters, filters too are read 16 bytes at a time.
inline std::string refuses(const ConvProblem& p, bool of_filters) {
    if (p.dtype == DType::f32 && !p.tf32) return "fp32 operands must not be rounded to tf32";
    if (p.fold > 1 && p.groups > 1) return "folded input of several groups";
    if (p.planes) return "does not read planes";
    const ConvProblem q = p.fold > 1 ? over_blocks(p) : p;
    if (!conv_tiled::whole_vectors(q, q.cg(), of_filters ? q.kg() : 0))
        return of_filters ? "channels and filters of a group must be whole 16 bytes"
                          : "channels of a group must be whole 16 bytes";
    return conv_tiled::too_large(q);
}

// The filters of the convolution over blocks, elements of `size` bytes: they come first in the
// workspace.
inline size_t folded_bytes(const ConvProblem& p, size_t size) {
    return p.fold > 1 ? static_cast<size_t>(ceil_div(over_blocks(p).w_count() * size, 256)) * 256
                      : 0;
}

// A product of one group: rows x cols summed over k.
struct Extents {
    int rows, cols, k;
    DType dtype;
    bool along_k = false;  // both operands
    bool small = false;    // only the small tile will do

    bool wide() const {
        return big() && along_k && ceil_div(cols, 96) * 96 < ceil_div(cols, 128) * 128;
    }
    bool big() const { return !small && rows > 64 && cols > 64; }
    SplitK split(int groups) const {
        const int m = big() ? 128 : 64, n = wide() ? 96 : m;
        return split_k(ceil_div(rows, m) * ceil_div(cols, n) * groups, k,
                       64 / static_cast<int>(size_of(dtype)));
    }
};

// Calls f.operator()<Tile>() with the tile that fits; AlongK: whether both operands may be.
template <class T, bool AlongK, class F>
void by_tile(const Extents& e, F&& f) {
    if constexpr (AlongK)
        if (e.wide()) return f.template operator()<Wide<T>>();
    if (e.big()) return f.template operator()<Big<T>>();
    f.template operator()<Small<T>>();
}

}  // namespace wt::conv_mma
