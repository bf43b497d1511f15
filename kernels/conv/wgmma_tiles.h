// What the Hopper convolutions can compute, and which tile they take. Host code only.
#pragma once

#include <algorithm>
#include <string>

#include "kernels/conv/problem.h"
#include "kernels/launch.h"
#include "kernels/tile/wgmma_clocks.h"

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

// Blocks of a cluster that share B (kMaxMulticast of kernels/tile/wgmma_tile.h).
inline constexpr int kMostSharers = 2;

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

// The tile and the blocks that share B, as a row of the table fixes them; 0: what the model finds
// cheapest.
struct TileChoice {
    TileSize tile{0, 0};
    int multicast = 0;  // 1: none share; else pairs do where there are two tiles along m
};

// A product of rows x cols in each of `groups`, `steps` stages deep.
struct Extents {
    int64_t rows, cols;
    int groups;
    int64_t steps;
};

inline Extents fprop_extents(const ConvProblem& p) {
    return {.rows = int64_t(p.n) * p.p() * p.q(),
            .cols = p.kg(),
            .groups = p.groups,
            .steps = ceil_div(int64_t(p.r) * p.s * p.cg(), kDepth)};
}
inline Extents dgrad_extents(const ConvProblem& p) {
    return {.rows = int64_t(p.n) * p.h * p.w,
            .cols = p.cg(),
            .groups = p.groups,
            .steps = ceil_div(int64_t(p.r) * p.s * p.kg(), kDepth)};
}

// What a product takes by the model, not by measurement.
struct TilePlan {
    TileSize tile{0, 0};
    int multicast = 1;
    int64_t units = 0, waves = 0;  // clusters' work; turns of all clusters at once
    double filled = 0;             // of all the waves' places
    double clocks = 0;
};

// The clocks that one SM takes for a stage of a tile. From shared memory wgmma reads 64 rows of A
// and all of B for 64 x BN x 16. From L2 come all of A and, in a pair of blocks, half of B.
inline double stage_clocks(TileSize t, int multicast) {
    const double tensor = double(t.bm) * t.bn * kDepth / wgmma_clocks::kMultiplyAdds;
    const double shared =
        t.bm / 64.0 * (kDepth / 16) * (64 + t.bn) * 32 / wgmma_clocks::kSharedBytes;
    const double l2 = (t.bm + double(t.bn) / multicast) * kDepth * 2 / wgmma_clocks::kL2Bytes;
    return std::max({tensor, shared, l2});
}

// Waves of as many tiles as there are SMs, times the stages and the epilogue of one tile.
inline TilePlan plan_with(TileSize t, int multicast, const Extents& e, int sms) {
    const int64_t m = ceil_div(e.rows, t.bm);
    TilePlan plan{.tile = t, .multicast = m > 1 && multicast != 1 ? kMostSharers : 1};
    const int clusters = std::max(1, sms / plan.multicast);
    plan.units = ceil_div(m, plan.multicast) * ceil_div(e.cols, t.bn) * e.groups;
    plan.waves = ceil_div(plan.units, clusters);
    plan.filled = double(plan.units) / double(plan.waves * clusters);
    plan.clocks = double(plan.waves) * (double(e.steps) * stage_clocks(t, plan.multicast) +
                                        wgmma_clocks::epilogue(t.bm, t.bn));
    return plan;
}

// The cheapest of several tiles, or the one that is chosen.
template <size_t N>
TilePlan choose_tile(const TileSize (&candidates)[N], const Extents& e, int sms,
                     TileChoice only = {}) {
    TilePlan best;
    for (const TileSize& t : candidates) {
        if (only.tile.bm && t != only.tile) continue;
        const TilePlan plan = plan_with(t, only.multicast, e, sms);
        if (!best.units || plan.clocks < best.clocks) best = plan;
    }
    return best;
}

// wgrad's product, taps x channels by filters: k, the pixels, is divided over all clusters
// (kernels/tile/stream_k.h), so the tile with the least work is taken, padding included.
struct WgradTiles {
    TileSize tile{0, 0};
    int tiles_m = 0, tiles_n = 0, multicast = 1;
    constexpr int pairs() const { return static_cast<int>(ceil_div(tiles_m, multicast)); }
};
inline WgradTiles choose_wgrad_tiles(const ConvProblem& p, TileChoice only = {}) {
    WgradTiles best;
    double least = 0;
    for (const TileSize& t : kWgradTiles) {
        if (only.tile.bm && t != only.tile) continue;
        WgradTiles w{.tile = t,
                     .tiles_m = static_cast<int>(ceil_div(int64_t(p.r) * p.s * p.cg(), t.bm)),
                     .tiles_n = static_cast<int>(ceil_div(p.kg(), t.bn))};
        if (w.tiles_m > 1 && only.multicast != 1) w.multicast = kMostSharers;
        const double work =
            double(w.pairs()) * w.multicast * w.tiles_n * stage_clocks(t, w.multicast);
        if (least > 0 && work >= least) continue;
        least = work;
        best = w;
    }
    return best;
}

// The clusters that divide so many units of so many stages: below 8 stages writing and adding
// partial sums costs more than idle SMs. SMs come in pairs, so no device needs to be asked how many
// clusters fit; and the workspace is sized before the kernel is known.
inline int wgrad_clusters(int units, int steps, int multicast, int sms) {
    const int64_t useful = std::max<int64_t>(units, int64_t(units) * steps / 8);
    return static_cast<int>(std::min<int64_t>(std::max(1, sms / multicast), useful));
}

// Why a row with a fixed choice is of no use for a product of rows x cols, "" where it is.
inline std::string refuses_choice(TileChoice only, int64_t rows, int64_t cols) {
    if (only.tile.bn >= 2 * cols)
        return std::to_string(cols) + " columns fill half of its tile or less";
    if (only.multicast == 1 && rows <= 128) return "one tile of rows: no blocks would share";
    return "";
}

}  // namespace wt::conv_wgmma
