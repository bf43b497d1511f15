// What the Hopper convolutions can compute, and which tile they take. Host code only.
#pragma once

#include <algorithm>
#include <string>

#include "kernels/common/machine.h"
#include "kernels/conv/problem.h"
#include "kernels/launch.h"

namespace wt::conv_wgmma {

constexpr int kDepth = 64;  // k of a stage

// ---- what fits ----------------------------------------------------------------------------------

// How many channels of a group a box takes; 0 when none fits.
constexpr int box_of(int channels) {
    return channels % 64 == 0 ? 64 : channels % 32 == 0 ? 32 : channels % 16 == 0 ? 16 : 0;
}

// What none of the three passes can do. The limits are im2col's: corners are 8 bits, strides 3,
// offsets of taps 8.
inline std::string refuses_any(const ConvProblem& p) {
    if (p.dtype != DType::bf16) return "bf16 only";
    if (p.fold > 1) return "does not read folded input";
    if (std::max(p.stride_h, p.stride_w) > 8) return "TMA im2col strides at most 8";
    if (std::max({p.r, p.s, p.pad_h, p.pad_w}) > 127)
        return "TMA im2col takes filters and padding up to 127";
    constexpr int64_t kMost = int64_t(1) << 30;
    if (int64_t(p.n) * p.h * p.w >= kMost || int64_t(p.n) * p.p() * p.q() >= kMost ||
        int64_t(p.r) * p.s * p.c >= kMost)
        return "needs fewer than 2^30 pixels and taps";
    return "";
}

// fprop and wgrad gather x.
inline std::string refuses_x(const ConvProblem& p) {
    if (box_of(p.cg()) == 0)
        return "the channels of a group must be a multiple of 16: whole boxes of patches";
    if (p.kg() % 8) return "the filters of a group must be a multiple of 8: rows of whole 16 bytes";
    return refuses_any(p);
}

// ---- tiles --------------------------------------------------------------------------------------

struct TileSize {
    int bm, bn;
    bool operator==(const TileSize&) const = default;
};

// The tiles that the three kernels are compiled for: they fill all of the accumulators' 256 columns
// of 64 rows or half of them, and there are narrow ones for layers with few channels.
inline constexpr TileSize kFpropTiles[] = {
    {128, 256}, {256, 128}, {128, 192}, {128, 128}, {256, 64}};
inline constexpr TileSize kDgradTiles[] = {{128, 256}, {256, 128}, {128, 192},
                                           {128, 128}, {256, 96},  {256, 64}};
inline constexpr TileSize kWgradTiles[] = {
    {128, 256}, {128, 192}, {256, 128}, {128, 128}, {256, 64}};

// The clocks that one SM takes for a stage of a tile: a model, not a measurement. Tensor cores do
// 2048 multiply-adds a clock. From shared memory, at 128 bytes a clock, wgmma reads 64 rows of A
// and all of B for 64 x BN x 16. From L2 come all of A and, in a pair of blocks, half of B, of
// which an SM gets perhaps 40 bytes a clock when all ask.
inline double stage_clocks(TileSize t, int multicast) {
    const double tensor = double(t.bm) * t.bn * kDepth / 2048;
    const double shared = t.bm / 64.0 * (kDepth / 16) * (64 + t.bn) * 32 / 128;
    const double l2 = (t.bm + double(t.bn) / multicast) * kDepth * 2 / 40;
    return std::max({tensor, shared, l2});
}

// The clocks that a product of rows x cols in each of `groups`, `steps` stages deep, takes: waves
// of as many tiles as there are SMs, times the stages and the store of one tile (its conversions
// and stmatrix, about a clock for 32 elements, half of it beside the other warpgroup's products).
inline double product_clocks(TileSize t, int64_t rows, int64_t cols, int groups, int64_t steps) {
    const int64_t m = ceil_div(rows, t.bm);
    const int multicast = m > 1 ? 2 : 1;
    const int64_t units = ceil_div(m, multicast) * ceil_div(cols, t.bn) * groups,
                  waves = ceil_div(units, std::max(1, planned_sms() / multicast));
    return double(waves) *
           (double(steps) * stage_clocks(t, multicast) + double(t.bm) * t.bn / 64 + 500);
}

// The tile that a test asks for (PlanOverrides); 0 x 0: none.
inline TileSize only_tile() { return {plan_overrides.conv_tile_m, plan_overrides.conv_tile_n}; }

template <size_t N>
bool is_only(const TileSize (&candidates)[N]) {
    return std::ranges::find(candidates, only_tile()) != std::end(candidates);
}

// The cheapest of several tiles.
template <size_t N>
TileSize choose_tile(const TileSize (&candidates)[N], int64_t rows, int64_t cols, int groups,
                     int64_t steps) {
    if (is_only(candidates)) return only_tile();
    TileSize best = candidates[0];
    for (const TileSize& t : candidates)
        if (product_clocks(t, rows, cols, groups, steps) <
            product_clocks(best, rows, cols, groups, steps))
            best = t;
    return best;
}

}  // namespace wt::conv_wgmma
