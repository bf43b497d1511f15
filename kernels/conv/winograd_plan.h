// How the convolutions by Winograd's transforms (fprop_winograd.cu, dgrad_winograd.cu,
// wgrad_winograd.cu) divide their work and their workspace.
//
// A pass is three steps: both operands' tiles to planes, the products of the planes, results back.
// A plane is one of the n x n places of a tile: for each group a matrix of tiles (or filters) by
// channels, so that all planes and groups are one batch of matrix products. Channels are padded to
// whole 16 bytes with zeros. Tiles are done in parts, so that the workspace does not grow with the
// batch.
//
// Tiles are 4 x 4 outputs for 3x3 filters and for 5x5 ones. For 5x5, 2 x 2 would have less error
// (growth 5.4 instead of 19) but multiply 2.8 times less than a direct sum where 4 x 4 multiplies
// 6.25 times less; and in fp32 19 is no more than a few times the plain variant's error, whose sums
// are 25 times as long.
#pragma once

#include <algorithm>
#include <string>

#include "kernels/conv/gemm_map.h"
#include "kernels/conv/tiled_common.h"
#include "kernels/conv/winograd.h"

namespace wt::conv_winograd {

inline constexpr int kOut = 4;  // edge of a tile of outputs (dgrad: of dx)

// Bytes of the planes of one part, both operands (or operand and result): a GPU's launches need
// full waves, a CPU its caches. Tests set it, and set it back.
inline constexpr int64_t kPartBytesOfGpu = int64_t(256) << 20;
#ifdef VGPU
inline int64_t part_bytes = int64_t(16) << 20;
#else
inline int64_t part_bytes = kPartBytesOfGpu;
#endif

inline std::string refuses(const ConvProblem& p) {
    if (p.dtype != DType::f32) return "fp32 only";
    if (p.fold > 1) return "does not read folded input";
    if (p.stride_h != 1 || p.stride_w != 1) return "stride 1 only";
    if (p.r != p.s || (p.r != 3 && p.r != 5)) return "3x3 and 5x5 filters only";
    const int64_t padded_image = (p.h + 2 * p.pad_h + 16) * int64_t(p.w + 2 * p.pad_w + 16);
    if (padded_image * std::max(p.c, p.k) >= int64_t(1) << 30)
        return "needs fewer than 2^30 elements in an image with its padding";
    if (p.groups > 1000) return "at most 1000 groups";  // blockIdx.z counts planes and groups
    return conv_tiled::too_large(p);
}

// Why tensor cores cannot do the products.
inline const std::string kNotRounded = "fp32 operands must not be rounded to tf32";

// Calls f.operator()<R>() with the filter's edge.
template <class F>
decltype(auto) by_filter(const ConvProblem& p, F&& f) {
    if (p.r == 3) return f.template operator()<3>();
    return f.template operator()<5>();
}

inline int64_t padded(int channels) { return ceil_div(channels, 4) * 4; }

// Of fprop and wgrad tiles cover the outputs, of dgrad the inputs.
struct Plan {
    int groups = 1, planes = 0;               // n x n
    int tiles_h = 0, tiles_w = 0, tiles = 0;  // of an image; of all
    int at_once = 0;                          // tiles of a part
    int64_t filters = 0, taps = 0;  // of a group: filters; padded channels of x, dx, w and dw
    int64_t outputs = 0;            // padded channels of y and dy
    int parts() const { return static_cast<int>(ceil_div(tiles, at_once)); }
    // Floats of the planes of a part's tiles of so many padded channels; of the filters.
    int64_t part(int64_t channels) const { return int64_t(planes) * groups * at_once * channels; }
    int64_t filter_planes() const { return int64_t(planes) * groups * filters * taps; }
};

inline Plan plan_of(const ConvProblem& p, int rows, int cols, int64_t bytes) {
    const int edge = kOut + p.r - 1;
    Plan plan{.groups = p.groups,
              .planes = edge * edge,
              .tiles_h = static_cast<int>(ceil_div(rows, kOut)),
              .tiles_w = static_cast<int>(ceil_div(cols, kOut)),
              .filters = p.kg(),
              .taps = padded(p.cg()),
              .outputs = padded(p.kg())};
    plan.tiles = p.n * plan.tiles_h * plan.tiles_w;
    const int64_t of_tile = int64_t(4) * plan.planes * p.groups * (plan.taps + plan.outputs);
    // Whole tiles of the products, parts of about the same size.
    const int64_t most = std::max<int64_t>(bytes / of_tile / 128 * 128, 128),
                  parts = ceil_div(plan.tiles, most);
    plan.at_once = static_cast<int>(
        std::min<int64_t>(ceil_div(ceil_div(plan.tiles, parts), 128) * 128, plan.tiles));
    return plan;
}

inline Plan fprop_plan(const ConvProblem& p, int64_t bytes = part_bytes) {
    return plan_of(p, p.p(), p.q(), bytes);
}
inline Plan dgrad_plan(const ConvProblem& p, int64_t bytes = part_bytes) {
    return plan_of(p, p.h, p.w, bytes);
}

// Whether fewer multiplications are worth the transforms. A float of a plane, which is computed,
// written and read, costs as much as some 40 multiply-adds of a tiled product: on an H200 8 bytes
// at 3.7 TB/s against 39 TFLOP/s, on a CPU the transform's arithmetic and the caches.
inline bool pays(const ConvProblem& p, const Plan& plan) {
    constexpr double kFloat = 40;
    const double tiles = double(ceil_div(plan.tiles, 64)) * 64,
                 multiplied = tiles * p.cg() * p.kg() * p.groups * plan.planes,
                 floats = plan.planes * (double(plan.tiles) * (p.c + p.k) + double(p.k) * p.cg());
    return multiplied + kFloat * floats < p.flops() / 2;
}

inline bool fprop_pays(const ConvProblem& p) { return pays(p, fprop_plan(p)); }
inline bool dgrad_pays(const ConvProblem& p) { return pays(p, dgrad_plan(p)); }

}  // namespace wt::conv_winograd
