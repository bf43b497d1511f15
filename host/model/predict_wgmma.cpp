// Products on Hopper's tensor cores. A block's two consumer warpgroups multiply stages of 64 of k
// that TMA brings; a stage takes the longest of
//   tensor   bm x bn x 64 multiply-adds
//   shared   what wgmma reads, 64 rows of A and all of B for each 64 x bn x 16, and what TMA writes
//   L2       all of A and this block's share of B
//   issue    the loop's instructions of two warps on each scheduler
// and never less than a fence of GPU scope where the loop has one and blocks share B.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "host/model/issue_slots_table.h"
#include "host/model/predict.h"
#include "kernels/conv_pool/plan.h"

namespace wt::model {

namespace {

std::string format(const char* form, auto... values) {
    char text[128];
    std::snprintf(text, sizeof text, form, values...);
    return text;
}

// Of one stage, us.
struct Stage {
    double tensor, shared, l2, issue, whole, fence;
};

Stage stage_of(const Gpu& g, const ProductPlan& plan, const IssueSlots* slots) {
    const double a_bytes = 2.0 * plan.bm * plan.bk, b_bytes = 2.0 * plan.bn * plan.bk;
    const double reads = plan.bm / 64.0 * (plan.bk / 16) * (64 + plan.bn) * 32;
    Stage s{};
    s.tensor = us_of(double(plan.bm) * plan.bn * plan.bk / g.tensor_macs, g.tensor_ghz);
    s.shared = us_of((reads + a_bytes + b_bytes) / g.shared_bytes, g.feed_ghz);
    s.l2 = us_of((a_bytes + b_bytes / plan.multicast) / g.l2_bytes, g.feed_ghz);
    s.issue = slots ? us_of(2.0 * slots->loop / g.issue_share, g.issue_ghz) : 0;
    s.whole = std::max({s.tensor, s.shared, s.l2, s.issue});
    if (slots && slots->fences > 0 && plan.multicast > 1)
        s.fence = std::max(s.whole * g.fence_share, g.fence_us - s.whole);
    return s;
}

// Between one tile's products and the next one's, us: what two warps on each scheduler issue.
double epilogue_us(const Gpu& g, const IssueSlots* slots) {
    const double issued = slots ? 2.0 * slots->unit / g.issue_share : 0;
    return us_of(issued + g.unit_clocks, g.issue_ghz);
}

// Of an epilogue between two tiles, us: what is hidden where one consumer is `lag` stages behind
// the other. While the one is at its epilogue, the other multiplies its half of as many stages, at
// the tensor cores' whole rate. (Alone at its epilogue, a warp of the one also has the scheduler to
// itself: not counted.)
double hidden_us(const Gpu& g, const ProductPlan& plan, const Stage& s, const IssueSlots* slots) {
    return std::min(epilogue_us(g, slots), plan.lag / 2.0 * s.tensor);
}

// Adds `stages` stages on the SM that has most of them.
void add_stages(Prediction& p, const Stage& s, double stages) {
    p.tensor += stages * s.tensor;
    p.shared += stages * s.shared;
    p.l2 += stages * s.l2;
    p.issue += stages * s.issue;
    p.fence += stages * s.fence;
    p.us += stages * (s.whole + s.fence);
}

// What follows where tiles are summed in parts of fp32, us: they are written, and a second kernel,
// there when this one ends, reads and adds them up while it moves `moved` bytes of its own.
// `issue`: of the first kernel's last instructions.
void add_parts(const Gpu& g, const ProductPlan& plan, double issue, double moved, Prediction& p) {
    const double parts = 4.0 * plan.partial_tiles * plan.bm * plan.bn,
                 l2 = g.l2_bytes * g.sms * g.feed_ghz * 1e9;
    p.epilogue += std::max(issue, parts / g.l2_writes * 1e6) +
                  std::max(g.small_us, parts / l2 * 1e6 + memory_us(g, moved));
    p.launch += g.early_us;
}

// The last wave's idle SMs, of all of them.
void add_idle(Prediction& p, const ProductPlan& plan, const Stage& s) {
    const double waves = plan.waves();
    p.idle += (std::ceil(waves) - waves) * plan.steps * (s.whole + s.fence);
}

std::string tile_text(const ProductPlan& plan) {
    std::string text = format("%dx%d", plan.bm, plan.bn);
    if (plan.multicast > 1) text += " in pairs";
    if (plan.splits > 1) text += format(", k in %d", plan.splits);
    return text;
}

std::string wave_text(const ProductPlan& plan) {
    const double waves = plan.waves();
    return waves < 1 ? format(", %d of %d at a time", plan.units, plan.at_once)
                     : format(", %.2f of %d waves", waves,
                              static_cast<int>(ceil_div(plan.units, plan.at_once)));
}

const IssueSlots* conv_slots(ConvPass pass, const ProductPlan& plan) {
    static const char* objects[] = {"conv/fprop_wgmma_sm90", "conv/dgrad_wgmma_sm90",
                                    "conv/wgrad_wgmma_sm90"};
    static const char* kernels[] = {"fprop_kernel", "dgrad_kernel", "wgrad_kernel"};
    const int i = static_cast<int>(pass);
    const std::string major = pass == ConvPass::wgrad ? "(Major)1" : "(Major)0";
    return issue_of(
        objects[i],
        {kernels[i], format("<SharedOperand<%d, 64, %s, %d>", plan.bm, major.c_str(), 2 * plan.box),
         format(" SharedOperand<%d, 64,", plan.bn)});
}

}  // namespace

void conv_wgmma(const Gpu& g, ConvPass pass, const ConvProblem& problem, FixedTile only,
                Prediction& p) {
    const ProductPlan plan = conv_wgmma_plan(pass, problem, only);
    conv_wgmma(g, plan, conv_slots(pass, plan), problem, p);
}

void conv_wgmma(const Gpu& g, const ProductPlan& plan, const IssueSlots* slots,
                const ConvProblem& problem, Prediction& p) {
    const Stage stage = stage_of(g, plan, slots);
    p.issue_known = slots;
    p.plan = tile_text(plan);
    p.launch = g.launch_us + g.fill_us;
    p.memory = memory_us(g, problem.bytes());
    if (plan.longest == 0 || plan.tail > 0) {
        // Whole waves, and of the last one, if it is cut, the parts that its busiest cluster has.
        const double waves = static_cast<double>(ceil_div(plan.units - plan.tail, plan.at_once));
        add_stages(p, stage, waves * plan.steps + plan.longest);
        p.epilogue =
            waves * epilogue_us(g, slots) -
            std::max(0.0, waves - (plan.tail > 0 ? 0 : 1)) * hidden_us(g, plan, stage, slots);
        if (plan.tail > 0) {
            // A result's 16 bytes of a row are half a sector.
            const double results = 2.0 * plan.tail * plan.multicast * plan.bm * plan.bn;
            add_parts(g, plan, us_of(g.unit_clocks, g.issue_ghz),
                      results * (2 * g.memory / g.l2_writes + problem.drelu), p);
            p.plan += format(", %d waves and %d tiles in %d parts", static_cast<int>(waves),
                             plan.tail * plan.multicast, plan.partial_tiles);
        } else {
            add_idle(p, plan, stage);
            p.plan += wave_text(plan);
        }
    } else {
        Stage shared_out = stage;
        const int64_t m = ceil_div(int64_t(problem.r) * problem.s * problem.cg(), plan.bm);
        if (problem.bias && m % plan.multicast == 0) {
            // The pairs of a column of tiles share the adding up of dy, which each block reads half
            // of. (An odd number of tiles leaves a block without one to do it.)
            const double pairs = double(m) / plan.multicast;
            shared_out.shared += us_of(
                2.0 * plan.bn * plan.bk / plan.multicast / pairs / g.shared_bytes, g.feed_ghz);
            shared_out.whole = std::max(shared_out.whole, shared_out.shared);
        }
        add_stages(p, shared_out, plan.longest);
        p.plan += format(", %d stages a cluster of %.1f", plan.longest,
                         double(plan.units) * plan.steps / plan.at_once);
        // All tiles are partial sums, which the second kernel puts where w has them.
        add_parts(g, plan, epilogue_us(g, slots), 4.0 * problem.w_count(), p);
    }
    p.us = std::max(p.us, p.memory) + p.epilogue + p.launch;
}

// dgrad by views (kernels/conv/dgrad_views.h): a stage's w, and its share of dy, which is copied
// once for all taps. The last wave may be of half the height.
void conv_views(const Gpu& g, const ConvProblem& problem, bool swizzled, bool level,
                Prediction& p) {
    const ProductPlan plan = conv_views_plan(problem, level);
    const IssueSlots* slots =
        issue_of("conv/dgrad_views_wgmma_sm90",
                 {format("DyViews<%s>, %d>", swizzled ? "true" : "false", plan.bn)});
    conv_views(g, plan, swizzled, slots, problem, p);
}

void conv_views(const Gpu& g, const ProductPlan& plan, bool swizzled, const IssueSlots* slots,
                const ConvProblem& problem, Prediction& p) {
    const double w_bytes = 2.0 * plan.bn * plan.bk,
                 dy_bytes = 2.0 * plan.positions * plan.bk / plan.taps;
    const bool across = plan.bn == 64;  // positions are the products' columns
    const auto stage = [&](int rows) {
        Stage s{};
        const double reads =
            (across ? 2 * (64 + rows / 2.0) : rows / 64.0 * (64 + plan.bn)) * (plan.bk / 16) * 32;
        s.tensor = us_of(double(rows) * plan.bn * plan.bk / g.tensor_macs, g.tensor_ghz);
        s.shared = us_of((reads + w_bytes + dy_bytes) / g.shared_bytes, g.feed_ghz);
        // Rows of 16 bytes are half a sector each, and TMA walks through them one by one.
        const double l2 = (w_bytes / plan.multicast + (swizzled ? 1 : 2) * dy_bytes) / g.l2_bytes;
        const double walked = swizzled ? 0 : dy_bytes / 16 / g.tma_rows;
        s.l2 = us_of(std::max(l2, walked), g.feed_ghz);
        s.issue = slots ? us_of(2.0 * slots->loop / g.issue_share, g.issue_ghz) : 0;
        s.whole = std::max({s.tensor, s.shared, s.l2, s.issue});
        return s;
    };
    const Stage full = stage(plan.bm), half = stage(plan.bm / 2);
    const int whole = plan.units - plan.halved;
    const double waves = static_cast<double>(ceil_div(whole, plan.at_once));
    add_stages(p, full, waves * plan.steps);
    p.epilogue = waves * epilogue_us(g, slots) -
                 std::max(0.0, waves - (plan.halved > 0 ? 0 : 1)) * hidden_us(g, plan, full, slots);
    if (plan.halved > 0) {
        add_stages(p, half, plan.steps);
        p.epilogue += epilogue_us(g, slots) / 2;
        p.idle = (1 - 2.0 * plan.halved / plan.at_once) * plan.steps * half.whole;
    } else {
        add_idle(p, plan, full);
    }
    p.issue_known = slots;
    p.plan = tile_text(plan) + (plan.halved > 0 ? format(", %d waves and %d in halves",
                                                         static_cast<int>(waves), plan.halved)
                                                : wave_text(plan));
    p.memory = memory_us(g, problem.bytes());
    p.launch = g.launch_us + g.fill_us;
    p.us = std::max(p.us, p.memory) + p.epilogue + p.launch;
}

void gemm_wgmma(const Gpu& g, const GemmProblem& problem, FixedTile only, Prediction& p) {
    const ProductPlan plan = gemm_wgmma_plan(problem, only);
    static const char* layouts[] = {"(GemmLayout)0", "(GemmLayout)1", "(GemmLayout)2"};
    const char* epilogue = problem.dropout > 0 ? "(EpilogueOp)1"
                           : problem.drelu     ? "(EpilogueOp)2"
                                               : "(EpilogueOp)0";
    const IssueSlots* slots =
        problem.sgd
            ? issue_of("gemm/wgmma_sgd_sm90", {"gemm_sgd_kernel"})
            : issue_of("gemm/wgmma_sm90", {layouts[static_cast<int>(problem.layout)], epilogue,
                                           problem.out == DType::bf16 ? "__nv_bfloat16" : "float",
                                           format(", %d>", plan.bn)});
    gemm_wgmma(g, plan, slots, problem, p);
}

void gemm_wgmma(const Gpu& g, const ProductPlan& plan, const IssueSlots* slots,
                const GemmProblem& problem, Prediction& p) {
    const Stage stage = stage_of(g, plan, slots);
    const double waves = static_cast<double>(ceil_div(plan.units, plan.at_once));
    p.issue_known = slots;
    p.plan = tile_text(plan) + wave_text(plan);
    p.launch = g.launch_us + g.fill_us;
    p.memory = memory_us(g, problem.bytes());
    add_stages(p, stage, waves * plan.steps);
    add_idle(p, plan, stage);
    if (plan.blocks < g.sms) p.blocks = plan.blocks;
    if (!problem.sgd) {  // there the consumers take turns: one multiplies while the other updates
        const double sums =
            4.0 * plan.bm * plan.bn * (plan.splits - 1) / plan.splits / g.cluster_bytes;
        p.epilogue = waves * (epilogue_us(g, slots) + us_of(sums, g.feed_ghz));
    }
    p.us = std::max(p.us + p.epilogue, p.memory) + p.launch;
}

// The first layer from folded input: kernels/conv/first_layer_wgmma.h.
void first_layer_wgmma(const Gpu& g, ConvPass pass, const ConvProblem& problem, Prediction& p) {
    const bool forward = pass == ConvPass::fprop;
    constexpr int kRun = 128, kChannels = 48, kPlanes = 6;
    const int width = problem.k <= 64 ? 64 : 96, taps = 9;
    const int64_t runs = ceil_div(int64_t(problem.n) * problem.fold_h() * problem.fold_w(), kRun);
    const IssueSlots* slots = forward ? issue_of("conv/first_layer_fprop_wgmma_sm90",
                                                 {"fprop_kernel", format("<%d>", width)})
                                      : issue_of("conv/first_layer_wgrad_wgmma_sm90",
                                                 {"wgrad_kernel", format("<%d>", width)});
    p.issue_known = slots;
    p.memory = memory_us(g, problem.bytes());
    Stage s{};
    // From L2 come whole lines: planes, of just the positions that so many rows of taps read.
    const auto from_l2 = [&](double bytes) { return us_of(bytes / g.l2_bytes, g.feed_ghz); };
    const auto x_bytes = [&](int tap_rows) {
        return kPlanes * 16.0 * (kRun + (tap_rows - 1) * problem.fold_w() + 2);
    };
    if (forward) {
        // A run's products are 64 x width x 16: rows x taps x channels / 16 of them. The other
        // warpgroup stores meanwhile.
        const double turns = static_cast<double>(ceil_div(runs, static_cast<int64_t>(g.sms))),
                     products = kRun / 64 * taps * (kChannels / 16);
        s.tensor = us_of(products * 64 * width * 16 / g.tensor_macs, g.tensor_ghz);
        s.shared = us_of((products * (64 + width) * 32 + x_bytes(3)) / g.shared_bytes, g.feed_ghz);
        s.l2 = from_l2(x_bytes(3));
        s.issue = slots ? us_of(slots->unit / g.issue_share, g.issue_ghz) : 0;
        s.whole = std::max({s.tensor, s.shared, s.l2, s.issue});
        add_stages(p, s, turns);
        p.plan = format("%d runs, %.1f of %d turns", static_cast<int>(runs), runs / g.sms,
                        static_cast<int>(turns));
        // All filters come before the first product; the small kernel that folds them runs while
        // the one before it does.
        p.epilogue = from_l2(16.0 * taps * kPlanes * width);
        p.launch = g.launch_us + g.early_us + g.fill_us;
    } else {
        const int64_t most = std::max<int64_t>(1, static_cast<int64_t>(g.sms) / 3) * 2,
                      length = std::max<int64_t>(4, ceil_div(runs, most)),
                      ranges = ceil_div(ceil_div(runs, length), 2) * 2;
        const double products = 2.0 * 3 * kRun / 16;  // two warpgroups, three taps, 64 x width x 16
        s.tensor = us_of(products * 64 * width * 16 / g.tensor_macs, g.tensor_ghz);
        // Every third block takes stages of two ranges, each with dy and one row of taps.
        const double copies = 2 * (x_bytes(1) + kRun * width * 2.0);
        s.shared = us_of((products * (64 + width) * 32 + copies) / g.shared_bytes, g.feed_ghz);
        s.l2 = from_l2(copies);
        s.issue = slots ? us_of(2.0 * slots->loop / g.issue_share, g.issue_ghz) : 0;
        s.whole = std::max({s.tensor, s.shared, s.l2, s.issue});
        add_stages(p, s, static_cast<double>(length));
        p.plan = format("%d runs in %d ranges of %d", static_cast<int>(runs),
                        static_cast<int>(ranges), static_cast<int>(length));
        const double partials = 4.0 * ranges * (taps * kChannels + 1) * width;
        p.epilogue = partials / g.l2_writes * 1e6 + g.small_us +
                     partials / (g.l2_bytes * g.sms * g.feed_ghz * 1e9) * 1e6;
        p.launch = g.launch_us + g.early_us + g.fill_us;
    }
    p.us = std::max(p.us, p.memory) + p.epilogue + p.launch;
}

// The first layer with its pooling: kernels/conv_pool/folded_wgmma_sm90.cu.
void conv_pool_wgmma(const Gpu& g, const ConvPoolProblem& problem, Prediction& p) {
    constexpr int kFilters = 64, kPlanes = 6, kTaps = 9, kProducts = 3 * kTaps;
    const ConvProblem conv = problem.conv();
    const ConvPoolPlan plan = conv_pool_plan(problem, planned_sms());
    const IssueSlots* slots = issue_of("conv_pool/folded_wgmma_sm90", {"conv_pool_kernel"});
    // A turn is two rows of outputs, whose taps read four rows of positions.
    const double columns = conv.fold_w() + conv.q(), copied = kPlanes * 16.0 * 4 * conv.fold_w(),
                 filters = kPlanes * 16.0 * kTaps * kFilters;
    const auto from_l2 = [&](double bytes) { return us_of(bytes / g.l2_bytes, g.feed_ghz); };
    // Each of 4 warps shuffles once for 8 columns and each of two filters: 128 bytes.
    const double shuffled = 4 * 2 * columns / 8 * 128;
    Stage s{};
    s.tensor = us_of(kProducts * kFilters * columns * 16 / g.tensor_macs, g.tensor_ghz);
    s.shared = us_of((kProducts * (kFilters + columns) * 32 + copied + shuffled) / g.shared_bytes,
                     g.feed_ghz);
    s.l2 = from_l2(copied);
    // One warpgroup pools and the other multiplies: a warp of either on each scheduler.
    s.issue = slots ? us_of((slots->unit + kTaps * slots->loop) / g.issue_share, g.issue_ghz) : 0;
    s.whole = std::max({s.tensor, s.shared, s.l2, s.issue});
    p.issue_known = slots;
    p.memory = memory_us(g, problem.bytes());
    add_stages(p, s, plan.turns);
    p.plan = format("%d bands an image, %d turns", plan.bands, plan.turns);
    if (plan.blocks < g.sms) p.blocks = plan.blocks;
    // All filters come before the first product. What is done with the sums of the last turn, and
    // of those that are alone on their SM, nothing hides.
    const double pooled =
        us_of((slots ? slots->unit / g.issue_share : 0) + g.unit_clocks, g.issue_ghz);
    p.epilogue = from_l2(filters) + std::max(1.0, plan.alone) * pooled;
    p.launch = g.launch_us + g.early_us + g.fill_us;
    p.us = std::max(p.us, p.memory) + p.epilogue + p.launch;
}

}  // namespace wt::model
