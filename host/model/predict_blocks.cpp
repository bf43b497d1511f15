// Products of tiles of 64 or 128 rows whose blocks are resident together: mma_sm80 (mma.sync) and
// tiled (fp32 lanes). The blocks of an SM share it, so the SM that has most of them takes the sum
// of their stages, each at the slowest of
//   tensor   multiply-adds of the unit that does them
//   shared   both operands written once, and read by every warp that needs them
//   L2       both operands
//   issue    the loop's instructions of all warps
#include <algorithm>
#include <cstdio>

#include "host/model/issue_slots_table.h"
#include "host/model/predict.h"

namespace wt::model {

namespace {

const char* type_name(DType t) { return t == DType::bf16 ? "__nv_bfloat16" : "float"; }

std::string numbers(const char* form, int a, int b) {
    char text[64];
    std::snprintf(text, sizeof text, form, a, b);
    return text;
}

}  // namespace

void add_blocks(const Gpu& g, const ProductPlan& plan, const IssueSlots* slots, DType dtype,
                bool mma, double result_bytes, Prediction& p) {
    const double clock = mma ? g.feed_ghz : g.stream_ghz,
                 macs = double(plan.bm) * plan.bn * plan.bk,
                 operands = double(plan.bm + plan.bn) * plan.bk;
    double tensor, shared, warps, repeats = 1;
    if (mma) {
        tensor = macs / (g.tensor_macs * g.mma_share * (dtype == DType::bf16 ? 1 : 0.5));
        // four warps: 2 x 2 of half the tile each, or 4 x 1 of a quarter of its rows
        const double rows =
            plan.bm == plan.bn ? 4 * (plan.bm + plan.bn) / 2.0 : 4 * (plan.bm / 4.0 + plan.bn);
        warps = 4;
        shared = (operands + rows * plan.bk) * size_of(dtype);
    } else {
        tensor = macs / g.lanes;
        warps = plan.bm * plan.bn / 64 / 32;
        // 16 floats a lane for 64 multiply-adds, 128 bytes a wavefront; stores of two to a bank
        shared = warps * plan.bk * 16 * 128 + 2 * 4 * operands;
        if (slots && slots->multiplies) repeats = 64.0 * plan.bk / slots->multiplies;
    }
    const double l2 = operands * size_of(dtype) / g.l2_bytes;
    const double issue =
        slots ? slots->loop * repeats * warps / g.schedulers / g.loop_issue_share : 0;
    const double stages = double(ceil_div(plan.units, static_cast<int64_t>(g.sms))) * plan.steps;
    p.tensor = stages * us_of(tensor, clock);
    p.shared = stages * us_of(shared / g.shared_bytes, clock);
    p.l2 = stages * us_of(l2, clock);
    p.issue = stages * us_of(issue, clock);
    p.issue_known = slots;
    p.launch = g.launch_us;
    if (plan.splits > 1) {
        p.launch += g.launch_us;
        const double partials = plan.splits * result_bytes;
        p.epilogue = partials / g.l2_writes * 1e6 +
                     std::max(g.small_us, memory_us(g, partials + result_bytes));
    }
    p.us = std::max({p.tensor, p.shared, p.l2, p.issue, p.memory}) + p.epilogue + p.launch;
    p.plan = numbers("%dx%d", plan.bm, plan.bn);
    if (plan.splits > 1) p.plan += ", k in " + std::to_string(plan.splits);
    char waves[64];
    std::snprintf(waves, sizeof waves, ", %.1f blocks an SM, %d at a time", plan.units / g.sms,
                  plan.at_once / static_cast<int>(g.sms));
    p.plan += waves;
}

void conv_blocks(const Gpu& g, ConvPass pass, const ConvProblem& problem, bool mma, Prediction& p) {
    static const char* passes[] = {"fprop", "dgrad", "wgrad"};
    const std::string name = passes[static_cast<int>(pass)];
    const ProductPlan plan = conv_blocks_plan(pass, problem, mma);
    const std::string object = "conv/" + name + (mma ? "_mma_sm80" : "_tiled");
    const std::string tile =
        mma ? numbers((std::string("Tile<") + type_name(problem.dtype) + ", %d, %d").c_str(),
                      plan.bm, plan.bn)
            : numbers("Tile<%d, %d>", plan.bm, plan.bn);
    p.memory = memory_us(g, problem.bytes());
    const double results = pass == ConvPass::fprop   ? double(problem.y_count())
                           : pass == ConvPass::dgrad ? double(problem.x_count())
                                                     : double(problem.w_count());
    add_blocks(g, plan,
               issue_of(object.c_str(), {name + "_kernel", tile, type_name(problem.dtype)}),
               problem.dtype, mma, 4 * results, p);
}

void gemm_blocks(const Gpu& g, const GemmProblem& problem, bool mma, Prediction& p) {
    static const char* layouts[] = {"(GemmLayout)0", "(GemmLayout)1", "(GemmLayout)2"};
    const ProductPlan plan = gemm_blocks_plan(problem, mma);
    const std::string tile =
        mma ? numbers((std::string("Tile<") + type_name(problem.dtype) + ", %d, %d").c_str(),
                      plan.bm, plan.bn)
            : numbers("Tile<%d, %d>", plan.bm, plan.bn);
    p.memory = memory_us(g, problem.bytes());
    add_blocks(g, plan,
               issue_of(mma ? "gemm/mma_sm80" : "gemm/tiled",
                        {tile, layouts[static_cast<int>(problem.layout)],
                         std::string(type_name(problem.dtype)) + ", " + type_name(problem.out)}),
               problem.dtype, mma, 4.0 * problem.m * problem.n, p);
}

}  // namespace wt::model
