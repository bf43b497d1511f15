// What the Hopper convolutions can compute, and which tile they take. Host code only.
#pragma once

#include <algorithm>
#include <string>

#include "kernels/common/machine.h"
#include "kernels/conv/problem.h"
#include "kernels/launch.h"
#include "kernels/tile/stream_k.h"
#include "kernels/tile/wgmma_clocks.h"

namespace wt::conv_wgmma {

constexpr int kDepth = 64;      // k of a stage
constexpr int kMostStages = 8;  // of a pipeline
// Stages by which the second consumer of a tile is behind the first (kernels/tile/wgmma_tile.h): as
// many again are left of four for copies that are under way, 1.4 us of the largest tiles.
constexpr int kLagStages = 2;

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

// A last wave of tiles that leaves clusters idle, where fprop and dgrad may cut it along k
// (wgmma_tail.h): as the model finds cheaper, never, or always.
enum class TailChoice { model, whole, split };

// The tile and the blocks that share B, as a row of the table fixes them; 0: what the model finds
// cheapest.
struct TileChoice {
    TileSize tile{0, 0};
    int multicast = 0;  // 1: none share; else pairs do where there are two tiles along m
    TailChoice tail = TailChoice::model;
    bool level = false;  // fprop, dgrad: both consumers at the same stage
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
    StreamKPlan tail = {};  // of the last wave's units; none: it is as the others
    int lag = 0;            // stages by which consumer 1 is behind

    int whole() const { return static_cast<int>(units) - tail.units; }
    // Bytes of the tail's partial sums; the blocks of a cluster have a tile each.
    size_t workspace() const {
        return sizeof(float) * tail.units * tail.max_partials() * multicast * tile.bm * tile.bn;
    }
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

// Of an epilogue between two tiles: what the other consumer's products hide.
inline double hidden_clocks(TileSize t, int lag) {
    const double tensor = double(t.bm) * t.bn * kDepth / wgmma_clocks::kMultiplyAdds;
    return std::min(wgmma_clocks::epilogue(t.bm, t.bn), lag / 2.0 * tensor);
}

// What a tail of so many units takes, cut into parts for `clusters` of them: its busiest cluster's
// stages, and the parts' sums.
inline double tail_clocks(const StreamKPlan& tail, TileSize t, int multicast, int sms) {
    return tail.longest() * stage_clocks(t, multicast) +
           wgmma_clocks::parts(4.0 * t.bm * t.bn * tail.all_partials() * multicast, sms);
}

// The cheapest way to cut a tail of `units` units, of those that give each cluster few stages.
inline StreamKPlan cheapest_tail(int units, int steps, int clusters, TileSize t, int multicast,
                                 int sms) {
    StreamKPlan best;
    double least = 0;
    const int64_t all = int64_t(units) * steps, fewest = ceil_div(all, clusters);
    for (int64_t most = fewest; most <= 4 * fewest && most < steps; most += fewest) {
        const StreamKPlan tail(units, steps, static_cast<int>(ceil_div(all, most)));
        const double cost = tail_clocks(tail, t, multicast, sms);
        if (best.units && cost >= least) continue;
        least = cost;
        best = tail;
    }
    return best;
}

// Waves of as many tiles as there are SMs, times the stages and the epilogue of one tile; of the
// last, if it is cut, the parts of one.
inline TilePlan plan_with(TileSize t, const TileChoice& only, const Extents& e, int sms) {
    const int64_t m = ceil_div(e.rows, t.bm);
    TilePlan plan{.tile = t,
                  .multicast = m > 1 && only.multicast != 1 ? kMostSharers : 1,
                  .lag = only.level || e.steps < kMostStages ? 0 : kLagStages};
    const int clusters = std::max(1, sms / plan.multicast);
    plan.units = ceil_div(m, plan.multicast) * ceil_div(e.cols, t.bn) * e.groups;
    plan.waves = ceil_div(plan.units, clusters);
    plan.filled = double(plan.units) / double(plan.waves * clusters);
    const double products = double(e.steps) * stage_clocks(t, plan.multicast),
                 epilogue = wgmma_clocks::epilogue(t.bm, t.bn), hidden = hidden_clocks(t, plan.lag);
    plan.clocks = double(plan.waves) * (products + epilogue) - double(plan.waves - 1) * hidden;
    const int last = static_cast<int>(plan.units % clusters);
    if (only.tail == TailChoice::whole || last == 0) return plan;
    const StreamKPlan tail =
        cheapest_tail(last, static_cast<int>(e.steps), clusters, t, plan.multicast, sms);
    if (!tail.units) return plan;
    const double cut = double(plan.waves - 1) * (products + epilogue - hidden) +
                       tail_clocks(tail, t, plan.multicast, sms);
    if (only.tail == TailChoice::model && cut >= plan.clocks) return plan;
    plan.tail = tail;
    plan.clocks = cut;
    return plan;
}

// The cheapest of several tiles, or the one that is chosen.
template <size_t N>
TilePlan choose_tile(const TileSize (&candidates)[N], const Extents& e, int sms,
                     TileChoice only = {}) {
    TilePlan best;
    for (const TileSize& t : candidates) {
        if (only.tile.bm && t != only.tile) continue;
        const TilePlan plan = plan_with(t, only, e, sms);
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
// The same of fprop and dgrad.
template <size_t N>
std::string refuses_choice(TileChoice only, const TileSize (&tiles)[N], const Extents& e) {
    if (only.tail == TailChoice::split && !choose_tile(tiles, e, planned_sms(), only).tail.units)
        return "no last wave to cut: it is full, or its tiles are of one stage";
    return refuses_choice(only, e.rows, e.cols);
}

}  // namespace wt::conv_wgmma
