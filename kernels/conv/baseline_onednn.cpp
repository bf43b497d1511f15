// Convolution by oneDNN's direct algorithm (JIT-compiled loops; no transform of the data).
//
// Activations stay NHWC; filters are copied from KRSC to the layout the primitive asks for at each call
// (0.1 ms for AlexNet's largest against 90 to 480 of the convolution) because they change every step.
// Measured at batch 128, NHWC is as fast as oneDNN's channel-blocked layout with its copies, but where oneDNN has
// no NHWC kernel: see `best`.
#include "kernels/conv/onednn.h"

namespace wt::conv_onednn {

using namespace wt::onednn;
using dnnl::algorithm;
using dnnl::prop_kind;

static std::string refuses(const ConvProblem& p) { return refuses_dtype(p.dtype); }

static std::string refuses_dgrad(const ConvProblem& p) {
    if (p.dtype == DType::bf16 && p.r == 1 && p.s == 1 && p.kg() % 2)
        return "oneDNN 2.6's bf16 data gradient of 1x1 filters is wrong for odd k (pairs of k are multiplied at once)";
    return refuses(p);
}

// Makes the primitive descriptor for NHWC activations, or with layouts of oneDNN's choice where NHWC has only
// the im2col + gemm fallback: grouped dgrad with c/groups not a multiple of 16 (the 2012 net's conv2: 187 GFLOP/s
// as gemm, 230 blocked with the copies), conv1's wgrad on AVX2 (108 and 160).
template <class MakeDesc>
static auto best(const ConvLayouts& o, MakeDesc&& make) {
    auto is_jit = [](const auto& d) {
        const std::string name = d.impl_info_str();
        return name.find("gemm:") == std::string::npos && name.find("ref") == std::string::npos;
    };
    const Desc w = any_like(o.w);
    auto plain = make(o.x, w, o.y);
    if (is_jit(plain)) return plain;
    auto blocked = make(any_like(o.x), w, any_like(o.y));
    return is_jit(blocked) ? blocked : plain;
}

// oneDNN wants a forward descriptor as a hint for the backward ones.
static dnnl::convolution_forward::primitive_desc hint(const ConvProblem& p, const Desc& x, const Desc& w, const Desc& y) {
    return {{prop_kind::forward_training, algorithm::convolution_direct, any_like(x),
             Desc(w.dims(), type_of(p.dtype), dnnl::memory::format_tag::any), any_like(y), strides(p), padding(p), padding(p)},
            engine()};
}

static Plan make_fprop(const ConvProblem& p) {
    const ConvLayouts o = layouts(p, p.dtype);
    auto pd = best(o, [&](const Desc& x, const Desc& w, const Desc& y) {
        return dnnl::convolution_forward::primitive_desc(
            {prop_kind::forward_training, algorithm::convolution_direct, x, w, o.bias, y, strides(p), padding(p), padding(p)},
            fprop_attr(p.relu), engine());
    });
    Plan plan;
    plan.input(DNNL_ARG_SRC, o.x, pd.src_desc());
    plan.input(DNNL_ARG_WEIGHTS, o.w, pd.weights_desc());
    plan.output(DNNL_ARG_DST, o.y, pd.dst_desc());
    if (p.bias) plan.input(DNNL_ARG_BIAS, o.bias, pd.bias_desc());
    plan.primitive(dnnl::convolution_forward(pd), pd.scratchpad_desc());
    return plan;
}

static Plan make_dgrad(const ConvProblem& p) {
    const ConvLayouts o = layouts(p, p.dtype);
    auto pd = best(o, [&](const Desc& x, const Desc& w, const Desc& y) {
        return dnnl::convolution_backward_data::primitive_desc(
            {algorithm::convolution_direct, x, w, y, strides(p), padding(p), padding(p)}, user_scratchpad(), engine(),
            hint(p, x, w, y));
    });
    Plan plan;
    plan.input(DNNL_ARG_DIFF_DST, o.y, pd.diff_dst_desc());
    plan.input(DNNL_ARG_WEIGHTS, o.w, pd.weights_desc());
    plan.output(DNNL_ARG_DIFF_SRC, o.x, pd.diff_src_desc());
    plan.primitive(dnnl::convolution_backward_data(pd), pd.scratchpad_desc());
    return plan;
}

static Plan make_wgrad(const ConvProblem& p) {
    const ConvLayouts o = layouts(p, DType::f32);  // the gradient is fp32 whatever the activations are
    auto pd = best(o, [&](const Desc& x, const Desc& w, const Desc& y) {
        return dnnl::convolution_backward_weights::primitive_desc(
            {algorithm::convolution_direct, x, w, o.bias, y, strides(p), padding(p), padding(p)}, user_scratchpad(),
            engine(), hint(p, x, w, y));
    });
    Plan plan;
    plan.input(DNNL_ARG_SRC, o.x, pd.src_desc());
    plan.input(DNNL_ARG_DIFF_DST, o.y, pd.diff_dst_desc());
    plan.output(DNNL_ARG_DIFF_WEIGHTS, o.w, pd.diff_weights_desc());
    if (p.bias) plan.output(DNNL_ARG_DIFF_BIAS, o.bias, pd.diff_bias_desc());
    plan.primitive(dnnl::convolution_backward_weights(pd), pd.scratchpad_desc());
    return plan;
}

static auto fprop_plan(const ConvProblem& p) {
    static Cache<ConvProblem> plans;
    return plans.get(p, "conv_fprop.onednn", [&] { return make_fprop(p); });
}
static auto dgrad_plan(const ConvProblem& p) {
    static Cache<ConvProblem> plans;
    return plans.get(p, "conv_dgrad.onednn", [&] { return make_dgrad(p); });
}
static auto wgrad_plan(const ConvProblem& p) {
    static Cache<ConvProblem> plans;
    return plans.get(p, "conv_wgrad.onednn", [&] { return make_wgrad(p); });
}

static void launch_fprop(const ConvProblem& p, const ConvFpropArgs& a) {
    enqueue(a.stream, "conv_fprop.onednn", [plan = fprop_plan(p), a] {
        void* operands[] = {const_cast<void*>(a.x), const_cast<void*>(a.w), a.y, const_cast<float*>(a.bias)};
        plan->run(operands, a.workspace);
    });
}

static void launch_dgrad(const ConvProblem& p, const ConvDgradArgs& a) {
    enqueue(a.stream, "conv_dgrad.onednn", [plan = dgrad_plan(p), a] {
        void* operands[] = {const_cast<void*>(a.dy), const_cast<void*>(a.w), a.dx};
        plan->run(operands, a.workspace);
    });
}

static void launch_wgrad(const ConvProblem& p, const ConvWgradArgs& a) {
    enqueue(a.stream, "conv_wgrad.onednn", [plan = wgrad_plan(p), a] {
        void* operands[] = {const_cast<void*>(a.x), const_cast<void*>(a.dy), a.dw, a.db};
        plan->run(operands, a.workspace);
    });
}

extern const ConvFprop fprop = {
    .name = "onednn",
    .refuses = refuses,
    .workspace = [](const ConvProblem& p) { return fprop_plan(p)->workspace(); },
    .launch = launch_fprop,
    .baseline = true,
};
extern const ConvDgrad dgrad = {
    .name = "onednn",
    .refuses = refuses_dgrad,
    .workspace = [](const ConvProblem& p) { return dgrad_plan(p)->workspace(); },
    .launch = launch_dgrad,
    .baseline = true,
};
extern const ConvWgrad wgrad = {
    .name = "onednn",
    .refuses = refuses,
    .workspace = [](const ConvProblem& p) { return wgrad_plan(p)->workspace(); },
    .launch = launch_wgrad,
    .baseline = true,
};

}  // namespace wt::conv_onednn
