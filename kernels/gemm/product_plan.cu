#include "kernels/gemm/wgmma_plan.h"
#include "kernels/tile/mma_sm80.h"
#include "kernels/product_plan.h"
#include "kernels/tile/simt.h"
#include "kernels/tile/split_k.h"

namespace wt {

ProductPlan gemm_wgmma_plan(const GemmProblem& p, FixedTile only) {
    using namespace gemm_wgmma;
    const Plan chosen = plan_of(p, {.bn = only.bn, .multicast = only.multicast});
    const TileSchedule& s = chosen.schedule;
    ProductPlan plan;
    plan.bm = kBM, plan.bn = chosen.bn, plan.bk = kBK;
    plan.multicast = s.multicast;
    plan.splits = s.cluster_splits;
    plan.units = s.units(), plan.steps = s.split_steps;
    plan.blocks = chosen.blocks;
    // Where all units run at once, the grid does not say how many more would.
    plan.at_once = chosen.waves > 1 ? chosen.blocks / s.cluster_size()
                                    : std::max(s.units(), planned_sms() / s.cluster_size());
    return plan;
}

ProductPlan gemm_blocks_plan(const GemmProblem& p, bool mma) {
    // As mma_sm80.cu and tiled.cu choose.
    const int v = 16 / static_cast<int>(size_of(p.dtype));
    const int a = p.layout == GemmLayout::tn ? p.m : p.k,
              b = p.layout == GemmLayout::nt ? p.k : p.n;
    const bool vectors = p.lda % v == 0 && p.ldb % v == 0 && a % v == 0 && b % v == 0;
    const bool big = p.m > 64 && p.n > 64 && (mma || vectors);
    const int edge = big ? 128 : 64,
              bk = mma ? 64 / static_cast<int>(size_of(p.dtype)) : simt::Tile<128, 128>::BK;
    const int64_t tiles = ceil_div(p.m, edge) * ceil_div(p.n, edge);
    const SplitK split = split_k(tiles, p.k, bk);
    ProductPlan plan;
    plan.bm = plan.bn = edge, plan.bk = bk;
    plan.splits = split.splits, plan.steps = split.steps;
    plan.units = plan.blocks = static_cast<int>(tiles) * split.splits;
    plan.at_once = (big ? 2 : 4) * planned_sms();
    return plan;
}

}  // namespace wt
