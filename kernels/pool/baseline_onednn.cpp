// Max pooling by oneDNN, NHWC in place. Its "workspace" for training is one byte for each output,
// the index i * window + j of the first maximum in row order: our argmax, so both directions read
// and write it directly. One difference: oneDNN passes over a NaN, and of a window without any
// larger number makes -FLT_MAX.
#include "kernels/pool/problem.h"
#include "kernels/vendor/onednn.h"

namespace wt::pool_onednn {

using namespace wt::onednn;
using dnnl::algorithm;

struct PoolLayouts {
    Desc x, y, argmax;
    Dims strides, window, pad, pad_end;
};

// oneDNN checks that the padding behind the last row and column fits the output's size exactly.
static PoolLayouts layouts(const PoolProblem& p) {
    const int end_h = (p.p() - 1) * p.stride + p.window - p.h - p.pad;
    const int end_w = (p.q() - 1) * p.stride + p.window - p.w - p.pad;
    return {
        nhwc(p.n, p.h, p.w, p.c, p.dtype),
        nhwc(p.n, p.p(), p.q(), p.c, p.dtype),
        Desc({p.n, p.c, p.p(), p.q()}, dnnl::memory::data_type::u8, dnnl::memory::format_tag::nhwc),
        Dims{p.stride, p.stride},
        Dims{p.window, p.window},
        Dims{p.pad, p.pad},
        Dims{end_h, end_w}};
}

static dnnl::pooling_forward::primitive_desc forward(const PoolLayouts& o) {
    dnnl::pooling_forward::primitive_desc pd(
        {dnnl::prop_kind::forward_training, algorithm::pooling_max, o.x, o.y, o.strides, o.window,
         o.pad, o.pad_end},
        user_scratchpad(), engine());
    if (pd.workspace_desc() != o.argmax)
        throw dnnl::error(dnnl_unimplemented, "the workspace is not our argmax");
    return pd;
}

static Plan make_forward(const PoolProblem& p) {
    const PoolLayouts o = layouts(p);
    const auto pd = forward(o);
    Plan plan;
    plan.input(DNNL_ARG_SRC, o.x, o.x);
    plan.output(DNNL_ARG_DST, o.y, o.y);
    plan.output(DNNL_ARG_WORKSPACE, o.argmax, o.argmax);
    plan.primitive(dnnl::pooling_forward(pd), pd.scratchpad_desc());
    return plan;
}

static Plan make_backward(const PoolProblem& p) {
    const PoolLayouts o = layouts(p);
    const dnnl::pooling_backward::primitive_desc pd(
        {algorithm::pooling_max, o.x, o.y, o.strides, o.window, o.pad, o.pad_end},
        user_scratchpad(), engine(), forward(o));
    Plan plan;
    plan.input(DNNL_ARG_DIFF_DST, o.y, o.y);
    plan.output(DNNL_ARG_DIFF_SRC, o.x, o.x);
    plan.input(DNNL_ARG_WORKSPACE, o.argmax, o.argmax);
    plan.primitive(dnnl::pooling_backward(pd), pd.scratchpad_desc());
    return plan;
}

static auto forward_plan(const PoolProblem& p) {
    static Cache<PoolProblem> plans;
    return plans.get(p, "pool_forward.onednn", [&] { return make_forward(p); });
}
static auto backward_plan(const PoolProblem& p) {
    static Cache<PoolProblem> plans;
    return plans.get(p, "pool_backward.onednn", [&] { return make_backward(p); });
}

template <class MakePlan>
static std::string refuses(const PoolProblem& p, MakePlan&& make_plan) {
    if (std::string why = refuses_dtype(p.dtype); !why.empty()) return why;
    if (p.window < 1 || p.window > 15) return "window must be 1 to 15: argmax is one byte";
    if (p.pad < 0 || p.pad >= p.window) return "pad must be less than the window";
    try {
        make_plan(p);
    } catch (const Error&) {
        return "oneDNN cannot, or not with argmax as its workspace";
    }
    return {};
}

static void launch_forward(const PoolProblem& p, const PoolForwardArgs& a) {
    enqueue(a.stream, "pool_forward.onednn", [plan = forward_plan(p), a] {
        void* operands[] = {const_cast<void*>(a.x), a.y, a.argmax};
        plan->run(operands, a.workspace);
    });
}

static void launch_backward(const PoolProblem& p, const PoolBackwardArgs& a) {
    enqueue(a.stream, "pool_backward.onednn", [plan = backward_plan(p), a] {
        void* operands[] = {const_cast<void*>(a.dy), a.dx, const_cast<uint8_t*>(a.argmax)};
        plan->run(operands, a.workspace);
    });
}

extern const PoolForward forward_variant = {
    .name = "onednn",
    .refuses = [](const PoolProblem& p) { return refuses(p, forward_plan); },
    .workspace = [](const PoolProblem& p) { return forward_plan(p)->workspace(); },
    .launch = launch_forward,
    .baseline = true,
};
extern const PoolBackward backward_variant = {
    .name = "onednn",
    .refuses = [](const PoolProblem& p) { return refuses(p, backward_plan); },
    .workspace = [](const PoolProblem& p) { return backward_plan(p)->workspace(); },
    .launch = launch_backward,
    .baseline = true,
};

}  // namespace wt::pool_onednn
