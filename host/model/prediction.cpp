#include "host/model/prediction.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <utility>

#include "host/model/issue_slots_table.h"
#include "host/model/predict.h"
#include "host/net/problem_text.h"

namespace wt::model {

const IssueSlots* issue_of(const char* object, std::initializer_list<std::string> parts) {
    for (const IssueSlots& row : kIssueSlots) {
        if (std::strcmp(row.object, object) != 0) continue;
        const auto has = [&](const std::string& part) {
            return std::strstr(row.kernel, part.c_str());
        };
        if (std::all_of(parts.begin(), parts.end(), has)) return &row;
    }
    return nullptr;
}

double floor_us(const Gpu& g, double flops, double bytes, DType dtype, bool tf32) {
    const double rate = dtype == DType::bf16 ? g.matrix_bf16 : tf32 ? g.matrix_tf32 : g.matrix_fp32;
    return std::max(flops / rate, bytes / g.memory) * 1e6;
}

PlannedFor::PlannedFor(const Gpu& g) : before_(plan_overrides.sms) {
    plan_overrides.sms = static_cast<int>(g.sms);
}
PlannedFor::~PlannedFor() { plan_overrides.sms = before_; }

void finish_stream(const Gpu& g, Prediction& p) {
    p.launch += g.launch_us;
    p.us = std::max({p.memory, p.issue, p.l2}) + p.epilogue + p.launch;
}

namespace {

bool is(const std::string& variant, const char* name) { return variant == name; }

const char* type_name(DType t) { return t == DType::bf16 ? "__nv_bfloat16" : "float"; }

// A kernel whose threads take `elements` elements at a time: `slots` instructions of the loop, or
// of the whole code where it has none.
bool stream(const Gpu& g, Prediction& p, double bytes, const IssueSlots* slots, double count,
            double elements, double lanes = 32) {
    p.memory = memory_us(g, bytes);
    p.issue_known = slots;
    if (slots)
        p.issue =
            issue_us(g, count / (elements * lanes) * (slots->loop ? slots->loop : slots->all));
    finish_stream(g, p);
    return true;
}

// What a row's name fixes: "wgmma_128x256_sm90", "wgmma_single_sm90"; of "wgmma_sm90", what the
// planner finds cheapest. False: another row.
bool fixed_tile(const std::string& variant, FixedTile& only) {
    only = {};
    int end = 0;
    if (variant == "wgmma_sm90") return true;
    if (variant == "wgmma_single_sm90") {
        only.multicast = 1;
        return true;
    }
    only.whole = variant == "wgmma_whole_sm90";
    only.split = variant == "wgmma_split_sm90";
    only.level = variant == "wgmma_level_sm90";
    if (only.whole || only.split || only.level) return true;
    return std::sscanf(variant.c_str(), "wgmma_%dx%d_sm90%n", &only.bm, &only.bn, &end) == 2 &&
           end == static_cast<int>(variant.size());
}

bool conv(const Gpu& g, ConvPass pass, const std::string& variant, const ConvProblem& c,
          Prediction& p) {
    FixedTile only;
    if (fixed_tile(variant, only))
        conv_wgmma(g, pass, c, only, p);
    else if (pass == ConvPass::dgrad &&
             (is(variant, "views_wgmma_sm90") || is(variant, "views_swizzled_wgmma_sm90") ||
              is(variant, "views_level_wgmma_sm90")))
        conv_views(g, c, is(variant, "views_swizzled_wgmma_sm90"),
                   is(variant, "views_level_wgmma_sm90"), p);
    else if (is(variant, "folded_wgmma_sm90") && pass != ConvPass::dgrad)
        first_layer_wgmma(g, pass, c, p);
    else if (is(variant, "mma_sm80") || is(variant, "tiled"))
        conv_blocks(g, pass, c, is(variant, "mma_sm80"), p);
    else if (is(variant, "winograd") || is(variant, "winograd_mma_sm80"))
        conv_winograd(g, pass, c, is(variant, "winograd_mma_sm80"), p);
    else
        return false;
    return true;
}

bool augment(const Gpu& g, const std::string& variant, const AugmentProblem& a, Prediction& p) {
    const std::string object = "augment/" + variant;
    const IssueSlots* slots =
        issue_of(object.c_str(), {"_kernel<" + std::string(type_name(a.dtype))});
    if (is(variant, "fold")) {
        // Half a block a thread, a block's row of threads, 24 elements each. In planes a warp's
        // stores are whole sectors; else a block's 48 elements lie together, and a store touches a
        // sector as often as it takes to write it.
        constexpr double kElements = 24, kSector = 32;
        if (slots && slots->store)
            p.l2 = a.y_count() * size_of(a.dtype) *
                   (a.planes ? 1 : std::max(1.0, kSector / slots->store)) / g.l2_writes * 1e6;
        const double threads = double(ceil_div(a.fold_w, 32)) * 32;
        return stream(g, p, a.bytes(), slots, double(a.y_count()) * threads / a.fold_w, kElements);
    }
    if (is(variant, "pixels8")) return stream(g, p, a.bytes(), slots, double(a.y_count()), 24);
    if (is(variant, "rows")) return stream(g, p, a.bytes(), slots, double(a.y_count()), 3);
    return false;
}

bool softmax(const Gpu& g, const std::string& variant, const SoftmaxProblem& s, Prediction& p) {
    if (!is(variant, "vec")) return false;
    const IssueSlots* slots =
        issue_of("softmax/vec", {"_kernel<" + std::string(type_name(s.dtype))});
    p.memory = memory_us(g, s.bytes());
    p.issue_known = slots;
    // a warp a row; the code of rows of up to 1024 classes runs once
    p.issue = slots ? issue_us(g, double(s.rows) * slots->all * ceil_div(s.classes, 1024)) : 0;
    // Then one warp, there when this kernel ends, adds up the rows' results.
    p.epilogue = g.small_us + us_of(ceil_div(s.rows, 32) * g.row_clocks, g.stream_ghz);
    p.launch = g.early_us;
    finish_stream(g, p);
    return true;
}

bool sgd(const Gpu& g, const std::string& variant, const SgdProblem& s, Prediction& p) {
    if (!is(variant, "multi") && !is(variant, "multi4")) return false;
    const int group = is(variant, "multi4") ? 4 : 8;
    const IssueSlots* slots =
        issue_of("sgd/multi", {"sgd_multi_kernel<" + std::to_string(group) + ">"});
    stream(g, p, s.bytes(), slots, double(s.total), group);
    // Blocks of so many elements: some SMs have one more than others.
    const double piece = group == 4 ? 2048 : 8192, blocks = std::ceil(double(s.total) / piece),
                 even = blocks / g.sms;
    if (blocks > g.sms) p.us += p.memory * (std::ceil(even) / even - 1);
    return true;
}

// Whether there is a model; it fills in all but floor and bound.
bool model_of(const Gpu& g, const std::string& op, const std::string& variant,
              const std::string& text, Prediction& p) {
    const auto lrn_slots = [&](const char* pass, DType t) {
        const std::string object = std::string("lrn/") + pass + "_" + variant;
        return issue_of(object.c_str(), {"_kernel<" + std::string(type_name(t)) + ", 2, true"});
    };
    for (const ConvPass pass : {ConvPass::fprop, ConvPass::dgrad, ConvPass::wgrad}) {
        static const char* names[] = {"conv_fprop", "conv_dgrad", "conv_wgrad"};
        if (op == names[static_cast<int>(pass)])
            return conv(g, pass, variant, problem_of<ConvProblem>(text), p);
    }
    if (op == "conv_pool_forward") {
        if (!is(variant, "folded_wgmma_sm90")) return false;
        conv_pool_wgmma(g, problem_of<ConvPoolProblem>(text), p);
        return true;
    }
    if (op == "gemm") {
        const auto c = problem_of<GemmProblem>(text);
        FixedTile only;
        const bool wgmma = fixed_tile(variant, only);
        if (only.whole || only.split || only.level) return false;  // rows of convolutions
        if (wgmma)
            gemm_wgmma(g, c, only, p);
        else if (is(variant, "mma_sm80") || is(variant, "tiled"))
            gemm_blocks(g, c, is(variant, "mma_sm80"), p);
        return p.us > 0;
    }
    if (op == "lrn_pool_forward" || op == "lrn_pool_backward") {
        if (!is(variant, "fused")) return false;
        lrn_pool_fused(g, problem_of<LrnPoolProblem>(text), op == "lrn_pool_forward", p);
        return true;
    }
    if (op == "pool_forward" || op == "pool_backward") {
        const auto c = problem_of<PoolProblem>(text);
        if (is(variant, "once")) {
            lrn_pool_fused(g,
                           {.n = c.n,
                            .h = c.h,
                            .w = c.w,
                            .c = c.c,
                            .window = c.window,
                            .stride = c.stride,
                            .pad = c.pad,
                            .dtype = c.dtype,
                            .lrn = false,
                            .relu = false,
                            .bias = false},
                           op == "pool_forward", p);
            return true;
        }
        if (!is(variant, "vec8")) return false;
        // How often its loops over windows turn, the count of its instructions does not say.
        const double bytes = op == "pool_forward" ? c.forward_bytes() : c.backward_bytes();
        return stream(g, p, bytes, nullptr, double(c.x_count()), 8);
    }
    if (op == "lrn_forward" || op == "lrn_backward") {
        if (!is(variant, "shuffle") && !is(variant, "vec8")) return false;
        const auto c = problem_of<LrnProblem>(text);
        const bool forward = op == "lrn_forward";
        const double lanes = is(variant, "shuffle") ? lrn_lanes(c.c) : 32;
        return stream(g, p, forward ? c.forward_bytes() : c.backward_bytes(),
                      lrn_slots(forward ? "forward" : "backward", c.dtype), double(c.count()), 8,
                      lanes);
    }
    if (op == "activation_forward" || op == "activation_backward") {
        if (!is(variant, "vec8")) return false;
        const auto c = problem_of<ActivationProblem>(text);
        const bool forward = op == "activation_forward";
        return stream(
            g, p, forward ? c.forward_bytes() : c.backward_bytes(),
            issue_of("activation/vec8", {forward ? "forward" : "backward",
                                         std::string(type_name(c.dtype)) + ", (Activation)" +
                                             (c.kind == Activation::relu ? "0" : "1")}),
            double(c.count()), 8);
    }
    if (op == "dropout") {
        if (!is(variant, "vec8") && !is(variant, "vec128")) return false;
        const auto c = problem_of<DropoutProblem>(text);
        const bool one = is(variant, "vec8");
        return stream(
            g, p, c.bytes(),
            issue_of("dropout/vec", {std::string(type_name(c.dtype)) + (one ? ", 1>" : ", 16>")}),
            double(c.count()), one ? 8 : 128);
    }
    if (op == "exchange_copy" || op == "exchange_reduce") {
        const bool copies = op == "exchange_copy";
        if (!is(variant, "vec8") && !(copies && is(variant, "peer_copy"))) return false;
        double bytes = 0, count = 0;
        DType type = DType::f32;
        if (copies) {
            const auto c = problem_of<CopyProblem>(text);
            bytes = c.bytes(), count = double(c.rows) * c.cols, type = c.dtype;
        } else {
            const auto c = problem_of<ReduceProblem>(text);
            bytes = c.bytes(), count = double(c.rows) * c.cols, type = c.dtype;
        }
        if (is(variant, "peer_copy")) {  // the copy engine: no thread issues anything
            p.memory = memory_us(g, bytes);
            finish_stream(g, p);
            return true;
        }
        return stream(g, p, bytes,
                      // copies are of bits
                      copies
                          ? issue_of("exchange/copy_vec8",
                                     {type == DType::bf16 ? "<unsigned short>" : "<unsigned int>"})
                          : issue_of("exchange/reduce_vec8", {type_name(type)}),
                      count, 8);
    }
    if (op == "augment") return augment(g, variant, problem_of<AugmentProblem>(text), p);
    if (op == "softmax") return softmax(g, variant, problem_of<SoftmaxProblem>(text), p);
    if (op == "sgd") return sgd(g, variant, problem_of<SgdProblem>(text), p);
    return false;
}

double floor_of(const Gpu& g, const std::string& op, const std::string& text) {
    double us = -1;
    for_each_operation([&]<class P, class A>(Table<P, A> (*)()) {
        if (op != A::operation) return;
        const P problem = problem_of<P>(text);
        double flops = 0;
        DType dtype = DType::f32;
        bool tf32 = false;
        if constexpr (requires { problem.flops(); }) flops = problem.flops();
        if constexpr (requires { problem.dtype; }) dtype = problem.dtype;
        if constexpr (requires { problem.tf32; }) tf32 = problem.tf32;
        us = floor_us(g, flops, bytes_of<A>(problem), dtype, tf32);
    });
    if (us < 0) throw UsageError("no operation is named " + op);
    return us;
}

}  // namespace

void name_bound(Prediction& p) {
    const std::pair<const char*, double> resources[] = {{"tensor", p.tensor}, {"issue", p.issue},
                                                        {"shared", p.shared}, {"L2", p.l2},
                                                        {"HBM", p.memory},    {"launch", p.launch}};
    double most = 0;
    for (const auto& [name, us] : resources)
        if (us > most) p.bound = name, most = us;
    // A stage that waits for its fence waits for nothing else.
    if (p.fence > 0.1 * p.us) p.bound = "fence";
}

Prediction predict(const Gpu& gpu, const std::string& operation, const std::string& variant,
                   const std::string& problem, int sms) {
    Gpu part = gpu;
    if (sms > 0 && sms < gpu.sms) part.sms = sms;
    const PlannedFor planned(part);
    Prediction p;
    p.floor_us = floor_of(gpu, operation, problem);
    p.known = model_of(part, operation, variant, problem, p);
    if (p.known) name_bound(p);
    return p;
}

}  // namespace wt::model
