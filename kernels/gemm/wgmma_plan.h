// Which tile, cluster and grid the wgmma matrix product uses for a problem. Host arithmetic only:
// what the machine can do at most, in clocks of an SM of an H100 or H200 (132 SMs, 1.755 GHz).
//
//   tensor cores   of their rate (kernels/tile/wgmma_clocks.h) power leaves 0.83 (790 TFLOP/s
//                  measured): a step of 128 x BN x 64 takes 4.8 BN
//   L2 to SM       a step takes (16 KB + 128 BN) / 40; half of B's bytes where a pair of blocks
//                  shares them
//   DRAM           18.5 bytes a clock and SM (4.3 TB/s)
//   between SMs    13 bytes a clock (about 3 TB/s over all): what splits of k read of each other's
//                  sums
//
// Waves: units over the clusters that fit at once, which the device says
// (kernels/common/clusters.h). Where the parts of the chip have 16 or 18 SMs each, that is 32
// clusters of 4 and 16 of 8, and the plans for the fc layers at small batches fill these exactly;
// where it is 31 and 14 they would take two waves, and others are taken. What comes out for the fc
// layers of AlexNet (bf16; fc8 with 1000 units; `bin/unit -tc="wgmma plans*" -s` prints all of it):
//
//   batch 128    fc6 fprop  m 128 n 4096 k 9216  16 tiles of 128 x 256, k in 8: one wave of 128
//                                                blocks (with 14 clusters of 8: of 128 x 192 in 4)
//                fc6 dgrad  m 128 n 9216 k 4096  58 tiles of 128 x 160, k in 2: 116 blocks; 48 of
//                                                192 are 96, 72 of 128 would need two waves
//                fc7        m 128 n 4096 k 4096  32 tiles of 128 x 128, k in 4 (with 31 clusters
//                                                of 4 fprop: 64 of 128 x 64, k in 2)
//                fc8 fprop  m 128 n 1000 k 4096  16 tiles of 128 x 64, k in 8
//   batch 1024   fc6 fprop  m 1024               128 tiles of 128 x 256: one wave
//                fc6 dgrad  m 1024 n 9216        384 tiles of 128 x 192: 2.9 waves, where 288 of
//                                                256 would be 2.2
//   wgrad        m units, n inputs, k batch      thousands of tiles; with SGD its 18 bytes an
//                                                element of C are the time
#pragma once

#include <algorithm>
#include <functional>
#include <string>

#include "kernels/gemm/problem.h"
#include "kernels/launch.h"
#include "kernels/tile/scheduler.h"
#include "kernels/tile/wgmma_clocks.h"
#include "kernels/tile/wgmma_tile.h"

namespace wt::gemm_wgmma {

inline constexpr int kBM = 128, kBK = 64;
inline constexpr int kWidths[] = {256, 192, 160, 128, 64};

struct Plan {
    int bn = 0;
    TileSchedule schedule;
    int blocks = 0;     // in the grid
    int waves = 0;      // turns of all clusters that run at once
    double filled = 0;  // of all the waves' places for blocks, idle SMs counted
    double clocks = 0;  // the estimate
};

// How many clusters of `cluster_size` blocks run at once, one block an SM, of the kernel with tiles
// `bn` wide. 0: such a cluster does not fit.
using ClustersAtOnce = std::function<int(int bn, int cluster_size)>;

// What a row of the table fixes of the plan; 0: what is cheapest.
struct Choice {
    int bn = 0;
    int multicast = 0;  // 1: no blocks share B
};

// The fewest steps of k in a split: less is not worth adding up.
inline constexpr int kStepsOfSplit = 4;
// A kernel's start: barriers, and the first stage on its way.
inline constexpr double kStartClocks = 1500;

inline Plan plan_with(const GemmProblem& p, const ClustersAtOnce& clusters, int bn, int multicast,
                      int splits) {
    Plan plan;
    plan.bn = bn;
    TileSchedule& t = plan.schedule;
    t.tiles_m = static_cast<int>(ceil_div(p.m, kBM));
    t.tiles_n = static_cast<int>(ceil_div(p.n, bn));
    t.total_steps = static_cast<int>(std::max<int64_t>(1, ceil_div(p.k, kBK)));
    t.split_steps = static_cast<int>(ceil_div(t.total_steps, splits));
    t.splits = t.cluster_splits = splits;
    t.multicast = multicast;
    const int sms = clusters(bn, 1), at_once = clusters(bn, t.cluster_size());
    // too big a cluster; an empty split
    if (at_once == 0 || splits != ceil_div(t.total_steps, t.split_steps)) return {};
    plan.blocks = std::min(at_once, t.units()) * t.cluster_size();
    plan.waves = static_cast<int>(ceil_div(t.units(), at_once));
    plan.filled = double(t.units()) * t.cluster_size() / (double(plan.waves) * sms);

    using namespace wgmma_clocks;
    const double stage_bytes = 2.0 * kBK * (kBM + double(bn) / multicast);
    const double step = std::max(4.8 * bn, stage_bytes / kL2Bytes);
    const double sums = splits > 1 ? 4.0 * kBM * bn * (splits - 1) / splits / 13 : 0;
    // Each split stores its part of the columns. With SGD, whose consumers take turns, it is the
    // stream of weights that takes time.
    const double end = p.sgd ? kBM * bn * 18 / 18.5 : epilogue(kBM, bn) / splits;
    const double blocks = plan.waves * (t.split_steps * step + sums + end) + kStartClocks;
    const double dram = p.sgd ? 0 : p.bytes() / 18.5 / sms;
    // they overlap, but not to the last
    plan.clocks = std::max(blocks, dram) + 0.25 * std::min(blocks, dram);
    return plan;
}

// Whether there is a kernel of this width: of all where it matters.
inline bool has_width(const GemmProblem& p, int bn) {
    if (bn == 128) return true;
    if (p.sgd) return false;
    if (p.layout == GemmLayout::tn) return bn == 256 && p.out == DType::f32;
    if (p.out == DType::f32)  // logits, of few columns
        return bn == 64 && p.layout == GemmLayout::nt && p.dropout == 0;
    return bn != 160 || p.layout == GemmLayout::nn;
}

inline Plan choose_tile(const GemmProblem& p, const ClustersAtOnce& clusters, Choice only = {}) {
    Plan best;
    for (int bn : kWidths)
        for (int multicast : {1, kMaxMulticast})
            for (int splits : {1, 2, 4, 8}) {
                if (!has_width(p, bn) || (multicast > 1 && p.m <= kBM) || multicast * splits > 8)
                    continue;
                if ((only.bn && bn != only.bn) || (only.multicast == 1 && multicast > 1)) continue;
                if (splits > 1 && (p.sgd || p.k < kStepsOfSplit * splits * kBK)) continue;
                const Plan plan = plan_with(p, clusters, bn, multicast, splits);
                if (plan.bn && (!best.bn || plan.clocks < best.clocks)) best = plan;
            }
    return best;
}

// Why a row with a fixed choice is of no use for a problem, "" where it is.
inline std::string refuses_choice(const GemmProblem& p, Choice only) {
    if (only.bn && !has_width(p, only.bn)) return "no kernel of this width for such a product";
    if (only.bn && std::ranges::count_if(kWidths, [&](int bn) { return has_width(p, bn); }) == 1)
        return "the only width for such a product: as wgmma_sm90";
    if (only.bn >= 2 * p.n) return std::to_string(p.n) + " columns fill half of its tile or less";
    if (only.multicast == 1 && p.m <= kBM) return "one tile of rows: no blocks would share";
    return "";
}

// The plan that a launch on the current device makes (wgmma_sm90.cu).
Plan plan_of(const GemmProblem& p, Choice only = {});

}  // namespace wt::gemm_wgmma
