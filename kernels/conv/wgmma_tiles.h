// What the Hopper convolutions can compute, and how their work is divided over the machine. Host code only.
#pragma once

#include <algorithm>
#include <string>

#include "kernels/common/machine.h"
#include "kernels/conv/problem.h"
#include "kernels/launch.h"

namespace wt::conv_wgmma {

constexpr int kDepth = 64;  // k of a stage

// ---- what fits ----------------------------------------------------------------------------------------------------------

// Channels of a box of one group: 0 when none fits.
constexpr int box_of(int channels) { return channels % 64 == 0 ? 64 : channels % 32 == 0 ? 32 : channels % 16 == 0 ? 16 : 0; }

// Of all three passes. The limits are im2col's: corners are 8 bits, strides 3, offsets of taps 8.
inline std::string refuses_any(const ConvProblem& p) {
    if (p.dtype != DType::bf16) return "bf16 only";
    if (p.fold > 1) return "does not read folded input";
    if (std::max(p.stride_h, p.stride_w) > 8) return "TMA im2col strides at most 8";
    if (std::max({p.r, p.s, p.pad_h, p.pad_w}) > 127) return "TMA im2col takes filters and padding up to 127";
    constexpr int64_t kMost = int64_t(1) << 30;
    if (int64_t(p.n) * p.h * p.w >= kMost || int64_t(p.n) * p.p() * p.q() >= kMost || int64_t(p.r) * p.s * p.c >= kMost)
        return "needs fewer than 2^30 pixels and taps";
    return "";
}

// fprop and wgrad gather x.
inline std::string refuses_x(const ConvProblem& p) {
    if (box_of(p.cg()) == 0) return "the channels of a group must be a multiple of 16: whole boxes of patches";
    if (p.kg() % 8) return "the filters of a group must be a multiple of 8: rows of whole 16 bytes";
    return refuses_any(p);
}

// ---- tiles --------------------------------------------------------------------------------------------------------------

struct TileSize {
    int bm, bn;
    bool operator==(const TileSize&) const = default;
};

// Of the three kernels: half of the accumulators' 256 columns of 64 rows or all of them, and what narrow layers need.
inline constexpr TileSize kFpropTiles[] = {{128, 256}, {256, 128}, {128, 192}, {128, 128}, {256, 64}};
inline constexpr TileSize kDgradTiles[] = {{128, 256}, {256, 128}, {128, 192}, {128, 128}, {256, 96}, {256, 64}};
inline constexpr TileSize kWgradTiles[] = {{128, 256}, {128, 192}, {256, 128}, {128, 128}, {256, 64}};

// A model, not a measurement: clocks that one SM takes for a stage of a tile. Tensor cores: 2048 multiply-adds a clock;
// shared memory: wgmma reads 64 rows of A and all of B for 64 x BN x 16, 128 bytes a clock; L2: all of A and, in a
// pair of blocks, half of B, of which an SM gets perhaps 40 bytes a clock when all ask.
inline double stage_clocks(TileSize t, int multicast) {
    const double tensor = double(t.bm) * t.bn * kDepth / 2048;
    const double shared = t.bm / 64.0 * (kDepth / 16) * (64 + t.bn) * 32 / 128;
    const double l2 = (t.bm + double(t.bn) / multicast) * kDepth * 2 / 40;
    return std::max({tensor, shared, l2});
}

// Of a product of rows x cols in each of `groups`, `steps` stages deep: waves of as many tiles as there are SMs times the stages and the store
// of one (its conversions and stmatrix, about a clock for 32 elements, half of it beside the other warpgroup's products).
inline double product_clocks(TileSize t, int64_t rows, int64_t cols, int groups, int64_t steps) {
    const int64_t m = ceil_div(rows, t.bm);
    const int multicast = m > 1 ? 2 : 1;
    const int64_t units = ceil_div(m, multicast) * ceil_div(cols, t.bn) * groups, waves = ceil_div(units, std::max(1, planned_sms() / multicast));
    return double(waves) * (double(steps) * stage_clocks(t, multicast) + double(t.bm) * t.bn / 64 + 500);
}

// The tile that a test asks for (PlanOverrides); 0 x 0: none.
inline TileSize only_tile() { return {plan_overrides.conv_tile_m, plan_overrides.conv_tile_n}; }

template <size_t N>
bool is_only(const TileSize (&candidates)[N]) {
    return std::ranges::find(candidates, only_tile()) != std::end(candidates);
}

// The cheapest of several tiles.
template <size_t N>
TileSize choose_tile(const TileSize (&candidates)[N], int64_t rows, int64_t cols, int groups, int64_t steps) {
    if (is_only(candidates)) return only_tile();
    TileSize best = candidates[0];
    for (const TileSize& t : candidates)
        if (product_clocks(t, rows, cols, groups, steps) < product_clocks(best, rows, cols, groups, steps)) best = t;
    return best;
}

// ---- wgrad --------------------------------------------------------------------------------------------------------------

// How units of `steps` steps of k are divided over clusters.
struct Division {
    int units, steps, clusters;
    int ranges;  // that every unit has a cluster for
    int share;   // steps of each
    int rest;    // steps of each unit that are left
    int rest_share;  // steps of all rests, one after the other, for each of the clusters that are left

    Division() = default;
    Division(int units_, int steps_, int clusters_) : units(units_), steps(steps_), clusters(clusters_) {
        const int64_t all = int64_t(units) * steps;
        ranges = clusters / units;
        share = static_cast<int>(ceil_div(all, clusters));
        if (ranges > 0) share = std::min(share, static_cast<int>(ceil_div(steps, ranges)));
        if (ranges > 0) ranges = static_cast<int>(std::min<int64_t>(ranges, ceil_div(steps, share)));  // none empty
        rest = std::max(0, steps - ranges * share);
        rest_share = rest ? static_cast<int>(ceil_div(int64_t(units) * rest, clusters - with_ranges())) : 1;
    }
    // Clusters that may have a range; the others have rests.
    __host__ __device__ int with_ranges() const { return clusters / units * units; }
    // Slabs that unit u is spread over, in the order of k.
    __host__ __device__ int first_remainder_cluster(int u) const { return u * rest / rest_share; }
    __host__ __device__ int partials(int u) const { return ranges + (rest ? ((u + 1) * rest - 1) / rest_share - first_remainder_cluster(u) + 1 : 0); }
    int max_partials() const {
        int most = 1;
        for (int u = 0; u < units; ++u) most = std::max(most, partials(u));
        return most;
    }
};

}  // namespace wt::conv_wgmma
