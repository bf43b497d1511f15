// Which tile, cluster and grid the wgmma matrix product uses for a problem. Host arithmetic only:
// what the machine can do at most, in clocks of an SM of an H100 or H200 (132 SMs, 1.755 GHz).
//
//   tensor cores   2048 multiply-adds a clock, of which power leaves 0.83 (790 TFLOP/s measured): a
//                  step of 128 x BN x 64 takes 4.8 BN
//   L2 to SM       40 bytes a clock (a published matrix product without multicast got 37): a step
//                  takes (16 KB + 128 BN) / 40; half of B's bytes where a pair of blocks shares
//                  them
//   DRAM           18.5 bytes a clock and SM (4.3 TB/s)
//   between SMs    13 bytes a clock (about 3 TB/s over all): what splits of k read of each other's
//                  sums
//   a unit's start and end   1500 clocks
//
// Waves: units over the clusters that fit at once. Clusters stay within a part of the chip of 16 or
// 18 SMs, so of 132 SMs clusters of 4 or 8 reach 128. What comes out for the fc layers of AlexNet
// (bf16; fc8 with 1000 units):
//
//   batch 128    fc6 fprop  m 128 n 4096 k 9216  32 tiles of 128 x 128, k in 4: 128 blocks, one
//                                              wave
//                fc6 dgrad  m 128 n 9216 k 4096  48 tiles of 128 x 192, k in 2: 96 blocks; 72 tiles
//                                                of 128 would need two waves
//                fc7        m 128 n 4096 k 4096  32 tiles of 128 x 128, k in 4
//                fc8 fprop  m 128 n 1000 k 4096  few tiles: narrow ones, k in 8
//   batch 1024   fc6 fprop  m 1024               128 tiles of 128 x 256 in pairs that share the
//                                                weights: one wave of 128
//                fc6 dgrad  m 1024 n 9216        384 tiles of 128 x 192: 2.9 waves, where 288 of
//                                                256 would be 2.2
//   wgrad        m units, n inputs, k batch      thousands of tiles; with SGD its 18 bytes an
//                                                element of C are the time
#pragma once

#include <algorithm>

#include "kernels/common/machine.h"
#include "kernels/gemm/problem.h"
#include "kernels/launch.h"
#include "kernels/tile/scheduler.h"
#include "kernels/tile/wgmma_tile.h"

namespace wt::gemm_wgmma {

inline constexpr int kBM = 128, kBK = 64;

struct Plan {
    int bn = 0;
    TileSchedule schedule;
    int blocks = 0;     // in the grid
    double clocks = 0;  // the estimate
};

// How many clusters of `cluster_size` blocks run at the same time, one block an SM.
inline int clusters_at_once(int sms, int cluster_size) {
    if (sms >= kReferenceSms && cluster_size >= 4)
        return 128 * (sms / kReferenceSms) / cluster_size;
    return sms / cluster_size;
}

// The fewest steps of k in a split: less is not worth adding up.
inline constexpr int kStepsOfSplit = 4;

inline Plan plan_with(const GemmProblem& p, int sms, int bn, int multicast, int splits) {
    Plan plan;
    plan.bn = bn;
    TileSchedule& t = plan.schedule;
    t.tiles_m = static_cast<int>(ceil_div(p.m, kBM));
    t.tiles_n = static_cast<int>(ceil_div(p.n, bn));
    t.total_steps = static_cast<int>(std::max<int64_t>(1, ceil_div(p.k, kBK)));
    t.split_steps = static_cast<int>(ceil_div(t.total_steps, splits));
    t.splits = t.cluster_splits = splits;
    t.multicast = multicast;
    const int at_once = clusters_at_once(sms, t.cluster_size());
    // too big a cluster; an empty split
    if (at_once == 0 || splits != ceil_div(t.total_steps, t.split_steps)) return {};
    plan.blocks = std::min(at_once, t.units()) * t.cluster_size();

    const double stage_bytes = 2.0 * kBK * (kBM + double(bn) / multicast),
                 c_bytes = p.sgd ? 18 : double(size_of(p.out));
    const double step = std::max(4.8 * bn, stage_bytes / 40);
    const double sums = splits > 1 ? 4.0 * kBM * bn * (splits - 1) / splits / 13 : 0;
    // stores alone run beside the next products
    const double epilogue = p.sgd ? kBM * bn * c_bytes / 18.5 : 0;
    const double blocks =
        double(ceil_div(t.units(), at_once)) * (t.split_steps * step + sums + epilogue + 1500);
    const double dram = p.sgd ? 0 : p.bytes() / 18.5 / sms;
    // they overlap, but not to the last
    plan.clocks = std::max(blocks, dram) + 0.25 * std::min(blocks, dram);
    return plan;
}

// Whether there is a kernel of this width: of all where it matters.
inline bool has_width(const GemmProblem& p, int bn) {
    if (bn == 128) return true;
    if (p.sgd) return false;
    return p.layout == GemmLayout::tn ? bn == 256 && p.out == DType::f32 : p.out == DType::bf16;
}

inline Plan choose_tile(const GemmProblem& p, int sms) {
    Plan best;
    for (int bn : {256, 192, 128, 64})
        for (int multicast : {1, kMaxMulticast})
            for (int splits : {1, 2, 4, 8}) {
                if (!has_width(p, bn) || (multicast > 1 && p.m <= kBM) || multicast * splits > 8)
                    continue;
                if (splits > 1 && (p.sgd || p.k < kStepsOfSplit * splits * kBK)) continue;
                const Plan plan = plan_with(p, sms, bn, multicast, splits);
                if (plan.bn && (!best.bn || plan.clocks < best.clocks)) best = plan;
            }
    return best;
}

}  // namespace wt::gemm_wgmma
