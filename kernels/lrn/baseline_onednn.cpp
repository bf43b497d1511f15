// LRN across channels by oneDNN, NHWC in place.
//
// oneDNN divides alpha by the window's size, so it is given alpha * size. Its JIT kernels know size
// 5, channels in multiples of 16 and, backward, AVX-512 only; the rest is a reference loop of 40 to
// 130 ms an image: refused. Its backward reads intermediate sums that its forward leaves behind;
// ours gets only x, so the forward runs again into scratch first (three tensors of it).
#include "kernels/lrn/problem.h"
#include "kernels/vendor/onednn.h"

namespace wt::lrn_onednn {

using namespace wt::onednn;
using dnnl::algorithm;
using dnnl::prop_kind;

// One image of `pixels` rows: the kernels share rows out among threads.
static Desc rows(const LrnProblem& p) { return nhwc(1, p.pixels, 1, p.c, p.dtype); }

static dnnl::lrn_forward::primitive_desc forward(const LrnProblem& p, prop_kind kind) {
    return {{kind, algorithm::lrn_across_channels, rows(p), p.size, p.alpha * p.size, p.beta, p.k},
            user_scratchpad(),
            engine()};
}

struct Backward {
    Plan plan;
    Desc sums;
    dnnl::lrn_forward recompute;
    size_t sums_at, y_at, total;
};

template <class Descriptor>
static void require_jit(const Descriptor& pd) {
    if (std::string(pd.impl_info_str()).find("ref") != std::string::npos)
        throw dnnl::error(dnnl_unimplemented, "only a reference loop for this problem");
}

static Plan make_forward(const LrnProblem& p) {
    const auto pd = forward(p, prop_kind::forward_inference);
    require_jit(pd);
    Plan plan;
    plan.input(DNNL_ARG_SRC, rows(p), pd.src_desc());
    plan.output(DNNL_ARG_DST, rows(p), pd.dst_desc());
    plan.primitive(dnnl::lrn_forward(pd), pd.scratchpad_desc());
    return plan;
}

static Backward make_backward(const LrnProblem& p) {
    const auto fwd = forward(p, prop_kind::forward_training);
    const dnnl::lrn_backward::primitive_desc pd(
        {algorithm::lrn_across_channels, rows(p), rows(p), p.size, p.alpha * p.size, p.beta, p.k},
        user_scratchpad(), engine(), fwd);
    require_jit(pd);
    Backward b;
    b.sums = pd.workspace_desc();
    b.plan.input(DNNL_ARG_SRC, rows(p), rows(p));
    b.plan.input(DNNL_ARG_DIFF_DST, rows(p), rows(p));
    b.plan.output(DNNL_ARG_DIFF_SRC, rows(p), rows(p));
    b.plan.input(DNNL_ARG_WORKSPACE, b.sums, b.sums);
    b.plan.primitive(dnnl::lrn_backward(pd), pd.scratchpad_desc());
    b.recompute = dnnl::lrn_forward(fwd);
    auto pages = [](size_t bytes) { return (bytes + 4095) / 4096 * 4096; };
    b.sums_at = pages(b.plan.workspace());
    b.y_at = b.sums_at + pages(b.sums.get_size());
    b.total = b.y_at + pages(rows(p).get_size());
    return b;
}

static auto forward_plan(const LrnProblem& p) {
    static Cache<LrnProblem> plans;
    return plans.get(p, "lrn_forward.onednn", [&] { return make_forward(p); });
}
static auto backward_plan(const LrnProblem& p) {
    static Cache<LrnProblem, Backward> plans;
    return plans.get(p, "lrn_backward.onednn", [&] { return make_backward(p); });
}

template <class MakePlan>
static std::string refuses(const LrnProblem& p, MakePlan&& make_plan) {
    if (std::string why = refuses_dtype(p.dtype); !why.empty()) return why;
    if (p.size != 5 || p.c % 16)
        return "oneDNN has fast kernels for size 5 and channels in multiples of 16 only";
    try {
        make_plan(p);
    } catch (const Error&) {
        return "oneDNN has only a reference loop for this problem on this CPU";
    }
    return {};
}

static void launch_forward(const LrnProblem& p, const LrnForwardArgs& a) {
    enqueue(a.stream, "lrn_forward.onednn", [plan = forward_plan(p), a] {
        void* operands[] = {const_cast<void*>(a.x), a.y};
        plan->run(operands, a.workspace);
    });
}

static void launch_backward(const LrnProblem& p, const LrnBackwardArgs& a) {
    enqueue(a.stream, "lrn_backward.onednn", [b = backward_plan(p), p, a] {
        char* ws = static_cast<char*>(a.workspace);
        {
            Threads threads;
            const dnnl::memory x(rows(p), engine(), const_cast<void*>(a.x)),
                y(rows(p), engine(), ws + b->y_at), sums(b->sums, engine(), ws + b->sums_at);
            b->recompute.execute(
                stream(), {{DNNL_ARG_SRC, x}, {DNNL_ARG_DST, y}, {DNNL_ARG_WORKSPACE, sums}});
            stream().wait();
        }
        void* operands[] = {const_cast<void*>(a.x), const_cast<void*>(a.dy), a.dx, ws + b->sums_at};
        b->plan.run(operands, ws);
    });
}

extern const LrnForward forward_variant = {
    .name = "onednn",
    .refuses = [](const LrnProblem& p) { return refuses(p, forward_plan); },
    .workspace = [](const LrnProblem& p) { return forward_plan(p)->workspace(); },
    .launch = launch_forward,
    .baseline = true,
};
extern const LrnBackward backward_variant = {
    .name = "onednn",
    .refuses = [](const LrnProblem& p) -> std::string {
        // Rounding the sums to 8 bits put dx wrong by up to a tenth where its two terms nearly
        // cancel.
        if (p.dtype != DType::f32)
            return "fp32 only: oneDNN would keep the sums of its backward pass in bf16";
        return refuses(p, backward_plan);
    },
    .workspace = [](const LrnProblem& p) { return backward_plan(p)->total; },
    .launch = launch_backward,
    .baseline = true,
};

}  // namespace wt::lrn_onednn
