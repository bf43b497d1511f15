#include "kernels/product_plan.h"

#include "kernels/conv/dgrad_views.h"
#include "kernels/conv/mma_common.h"
#include "kernels/conv/tiled_common.h"
#include "kernels/conv/wgmma_common.h"
#include "kernels/conv/winograd_plan.h"
#include "kernels/conv/winograd_products.h"
#include "kernels/tile/stream_k.h"

namespace wt {

namespace {

// rows x cols of each group, summed over k.
struct Product {
    int64_t rows, cols, k;
};

Product product_of(ConvPass pass, const ConvProblem& p) {
    const int64_t taps = int64_t(p.r) * p.s, outputs = int64_t(p.n) * p.p() * p.q();
    switch (pass) {
        case ConvPass::fprop: return {outputs, p.kg(), taps * p.cg()};
        case ConvPass::dgrad: return {int64_t(p.n) * p.h * p.w, p.cg(), taps * p.kg()};
        default: return {p.kg(), taps * p.cg(), outputs};
    }
}

// As wgrad_wgmma_sm90.cu divides k: taps x channels by filters, the tile with the least work.
ProductPlan wgrad_plan(const ConvProblem& p, conv_wgmma::TileChoice only) {
    using namespace conv_wgmma;
    const WgradTiles tiles = choose_wgrad_tiles(p, only);
    ProductPlan plan;
    plan.bm = tiles.tile.bm;
    plan.bn = tiles.tile.bn;
    plan.multicast = tiles.multicast;
    plan.units = tiles.pairs() * tiles.tiles_n * p.groups;
    plan.steps = static_cast<int>(ceil_div(int64_t(p.n) * p.p() * p.q(), kDepth));
    plan.at_once = wgrad_clusters(plan.units, plan.steps, plan.multicast, planned_sms());
    const StreamKPlan k(plan.units, plan.steps, plan.at_once);
    plan.longest = k.longest();
    plan.partial_tiles = k.all_partials() * plan.multicast;
    plan.blocks = plan.at_once * plan.multicast;
    return plan;
}

ProductPlan blocks_plan(int bm, int bn, int bk, int an_sm, const SplitK& split, const Product& p,
                        int groups) {
    ProductPlan plan;
    plan.bm = bm, plan.bn = bn, plan.bk = bk;
    plan.splits = split.splits, plan.steps = split.steps;
    plan.units =
        static_cast<int>(ceil_div(p.rows, bm) * ceil_div(p.cols, bn) * groups) * split.splits;
    plan.blocks = plan.units;
    plan.at_once = an_sm * planned_sms();
    return plan;
}

}  // namespace

ProductPlan conv_wgmma_plan(ConvPass pass, const ConvProblem& p, FixedTile fixed) {
    using namespace conv_wgmma;
    const TileChoice only{.tile = {fixed.bm, fixed.bn},
                          .multicast = fixed.multicast,
                          .tail = fixed.whole   ? TailChoice::whole
                                  : fixed.split ? TailChoice::split
                                                : TailChoice::model,
                          .level = fixed.level};
    ProductPlan plan;
    if (pass == ConvPass::wgrad) {
        plan = wgrad_plan(p, only);
    } else {
        const Extents e = pass == ConvPass::fprop ? fprop_extents(p) : dgrad_extents(p);
        const TilePlan chosen = pass == ConvPass::fprop
                                    ? choose_tile(kFpropTiles, e, planned_sms(), only)
                                    : choose_tile(kDgradTiles, e, planned_sms(), only);
        const TileSchedule s = schedule_of(chosen, e);
        plan.bm = chosen.tile.bm;
        plan.bn = chosen.tile.bn;
        plan.multicast = s.multicast;
        plan.units = s.units();
        plan.steps = s.split_steps;
        plan.at_once = std::max(1, planned_sms() / s.cluster_size());
        plan.lag = chosen.lag;
        plan.tail = chosen.tail.units;
        plan.longest = chosen.tail.longest();
        plan.partial_tiles = chosen.tail.all_partials() * plan.multicast;
        plan.blocks = std::min(std::max(chosen.whole(), chosen.tail.clusters), plan.at_once) *
                      s.cluster_size();
    }
    plan.bk = kDepth;
    plan.box = box_of(pass == ConvPass::dgrad ? p.kg() : p.cg());
    return plan;
}

double conv_wgmma_seconds(ConvPass pass, const ConvProblem& p) {
    using namespace conv_wgmma;
    if (pass == ConvPass::fprop)
        return choose_tile(kFpropTiles, fprop_extents(p), planned_sms()).clocks /
               wgmma_clocks::kHertz;
    if (pass == ConvPass::dgrad)
        return choose_tile(kDgradTiles, dgrad_extents(p), planned_sms()).clocks /
               wgmma_clocks::kHertz;
    const ProductPlan plan = conv_wgmma_plan(pass, p);
    const TileSize tile{plan.bm, plan.bn};
    return (plan.longest * stage_clocks(tile, plan.multicast) +
            wgmma_clocks::parts(4.0 * plan.partial_tiles * plan.bm * plan.bn, planned_sms())) /
           wgmma_clocks::kHertz;
}

double conv_views_seconds(const ConvProblem& p) {
    using namespace conv_views;
    return views_clocks(p, views_width(p)) / wgmma_clocks::kHertz;
}

ProductPlan conv_views_plan(const ConvProblem& p, bool level) {
    using namespace conv_views;
    const int width = views_width(p);
    const ViewsSchedule s(p, width);
    const Positions at(p);
    ProductPlan plan;
    plan.bm = kTileRows, plan.bn = width, plan.bk = kDepth;
    plan.multicast = s.tiles.multicast;
    plan.units = s.tiles.units();
    plan.steps = static_cast<int>(at.taps() * (p.kg() / kDepth));
    plan.at_once = std::max(1, planned_sms() / s.tiles.cluster_size());
    plan.blocks = s.clusters * s.tiles.cluster_size();
    plan.halved = s.halved;
    plan.lag = level ? 0 : views_lag(width);
    plan.positions = kTileRows + at.reach(), plan.taps = at.taps();
    return plan;
}

ProductPlan conv_blocks_plan(ConvPass pass, const ConvProblem& problem, bool mma) {
    const ConvProblem p = mma && problem.fold > 1 ? over_blocks(problem) : problem;
    const Product v = product_of(pass, p);
    const bool strided = pass == ConvPass::dgrad && p.stride_h * p.stride_w > 1;
    const int rows = static_cast<int>(v.rows), cols = static_cast<int>(v.cols),
              k = static_cast<int>(v.k);
    if (mma) {
        const conv_mma::Extents e{.rows = rows,
                                  .cols = cols,
                                  .k = k,
                                  .dtype = p.dtype,
                                  .along_k = pass == ConvPass::fprop,
                                  .small = strided};
        const int bm = e.big() ? 128 : 64, bn = e.wide() ? 96 : bm;
        return blocks_plan(bm, bn, 64 / static_cast<int>(size_of(p.dtype)), e.big() ? 2 : 4,
                           e.split(p.groups), v, p.groups);
    }
    const bool vectors = pass == ConvPass::fprop   ? conv_tiled::whole_vectors(p, p.cg(), p.cg())
                         : pass == ConvPass::dgrad ? conv_tiled::whole_vectors(p, p.cg(), p.kg())
                                                   : conv_tiled::whole_vectors(p, p.kg(), p.cg());
    const conv_tiled::Extents e{
        .rows = rows, .cols = cols, .k = k, .vectors = vectors, .small = strided};
    return blocks_plan(e.edge(), e.edge(), conv_tiled::Big::BK, e.big() ? 2 : 4, e.split(p.groups),
                       v, p.groups);
}

WinogradPlan conv_winograd_plan(ConvPass pass, const ConvProblem& p) {
    using namespace conv_winograd;
    const Plan plan =
        pass == ConvPass::dgrad ? dgrad_plan(p, kPartBytesOfGpu) : fprop_plan(p, kPartBytesOfGpu);
    const int batch = plan.planes * p.groups;
    const bool sums = pass == ConvPass::wgrad;
    const int64_t rows = sums ? p.kg() : plan.at_once,
                  cols = pass == ConvPass::fprop ? p.kg() : p.cg(),
                  k = sums                      ? plan.at_once
                      : pass == ConvPass::fprop ? p.cg()
                                                : p.kg();
    const bool big = wants_big(static_cast<int>(rows), static_cast<int>(cols));
    const int edge = big ? 128 : 64;
    const int steps = static_cast<int>(ceil_div(k, 16));
    const SplitK split = sums ? split_of_products(static_cast<int>(rows), static_cast<int>(cols),
                                                  plan.at_once, batch)
                              : SplitK{.splits = 1, .steps = steps, .total_steps = steps};
    const double tiles = double(batch) * plan.tiles;
    return {.products = blocks_plan(edge, edge, 16, big ? 2 : 4, split, {rows, cols, k}, batch),
            .out = kOut,
            .edge = kOut + p.r - 1,
            .parts = plan.parts(),
            .x = tiles * plan.taps,
            .y = tiles * plan.outputs,
            .filters = sums ? double(batch) * rows * partial_columns(static_cast<int>(cols)) *
                                  split.splits * plan.parts()
                            : double(plan.filter_planes())};
}

}  // namespace wt
