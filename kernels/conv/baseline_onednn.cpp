// Convolution by oneDNN's direct algorithm (JIT-compiled loops; no transform of the data).
//
// Activations stay NHWC; filters are copied from KRSC to the layout the primitive asks for at each
// call (0.1 ms for AlexNet's largest against 90 to 480 of the convolution) because they change
// every step. Some passes run in oneDNN's channel-blocked layout instead, with copies: see
// `blocked_is_faster`.
#include "kernels/conv/onednn.h"

namespace wt::conv_onednn {

using namespace wt::onednn;
using dnnl::algorithm;
using dnnl::prop_kind;

static std::string refuses(const ConvProblem& p) {
    if (std::string why = refuses_fusions(p); !why.empty()) return why;
    return refuses_dtype(p.dtype);
}

static std::string refuses_dgrad(const ConvProblem& p) {
    if (p.dtype == DType::bf16 && p.r == 1 && p.s == 1 && p.kg() % 2)
        return "oneDNN 2.6's bf16 data gradient of 1x1 filters is wrong for odd k (pairs of k are multiplied at once)";
    return refuses(p);
}

enum class Pass { fprop, dgrad, wgrad };

// Where oneDNN's channel-blocked layout beats NHWC although activations are copied there and back.
// On AVX-512 nowhere (within 3%). On AVX2, GFLOP/s of a core, NHWC / blocked: fprop 5x5 120/118,
// 3x3 92/107; dgrad 5x5 101/118, 3x3 108/105; wgrad 5x5 88/96, 3x3 77/88, conv1 77/82.
static bool blocked_is_faster(const ConvProblem& p, Pass pass) {
    if (has_avx512()) return false;
    const bool small_filter = p.r * p.s <= 9;
    return pass == Pass::wgrad || (pass == Pass::fprop && small_filter && p.cg() >= 8) ||
           (pass == Pass::dgrad && !small_filter);
}

// Makes the primitive descriptor with NHWC activations or with layouts of oneDNN's choice,
// whichever is faster; the other where the first has only the im2col + gemm fallback (a fifth
// slower, or for groups of odd sizes much more).
template <class MakeDesc>
static auto best(const ConvLayouts& o, bool blocked_first, MakeDesc&& make) {
    auto is_jit = [](const auto& d) {
        const std::string name = d.impl_info_str();
        return name.find("gemm:") == std::string::npos && name.find("ref") == std::string::npos;
    };
    auto with = [&](bool blocked) {
        return blocked ? make(any_like(o.x), any_like(o.w), any_like(o.y))
                       : make(o.x, any_like(o.w), o.y);
    };
    auto first = with(blocked_first);
    if (is_jit(first)) return first;
    auto second = with(!blocked_first);
    if (is_jit(second)) return second;
    return blocked_first ? second : first;  // both gemm: NHWC, which needs no copies
}

// oneDNN wants a forward descriptor as a hint for the backward ones.
static dnnl::convolution_forward::primitive_desc hint(const ConvProblem& p, const Desc& x,
                                                      const Desc& w, const Desc& y) {
    return {{prop_kind::forward_training, algorithm::convolution_direct, any_like(x),
             Desc(w.dims(), type_of(p.dtype), dnnl::memory::format_tag::any), any_like(y),
             strides(p), padding(p), padding(p)},
            engine()};
}

static Plan make_fprop(const ConvProblem& p) {
    const ConvLayouts o = layouts(p, p.dtype);
    auto pd = best(o, blocked_is_faster(p, Pass::fprop),
                   [&](const Desc& x, const Desc& w, const Desc& y) {
                       return dnnl::convolution_forward::primitive_desc(
                           {prop_kind::forward_training, algorithm::convolution_direct, x, w,
                            o.bias, y, strides(p), padding(p), padding(p)},
                           fprop_attr(p.relu), engine());
                   });
    return fprop_plan_of(pd, o, p.bias);
}

static Plan make_dgrad(const ConvProblem& p) {
    const ConvLayouts o = layouts(p, p.dtype);
    auto pd = best(
        o, blocked_is_faster(p, Pass::dgrad), [&](const Desc& x, const Desc& w, const Desc& y) {
            return dnnl::convolution_backward_data::primitive_desc(
                {algorithm::convolution_direct, x, w, y, strides(p), padding(p), padding(p)},
                user_scratchpad(), engine(), hint(p, x, w, y));
        });
    return dgrad_plan_of(pd, o);
}

static Plan make_wgrad(const ConvProblem& p) {
    // the gradient is fp32 whatever the activations are
    const ConvLayouts o = layouts(p, DType::f32);
    auto pd = best(o, blocked_is_faster(p, Pass::wgrad),
                   [&](const Desc& x, const Desc& w, const Desc& y) {
                       return dnnl::convolution_backward_weights::primitive_desc(
                           {algorithm::convolution_direct, x, w, o.bias, y, strides(p), padding(p),
                            padding(p)},
                           user_scratchpad(), engine(), hint(p, x, w, y));
                   });
    return wgrad_plan_of(pd, o, p.bias);
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
        void* operands[] = {const_cast<void*>(a.x), const_cast<void*>(a.w), a.y,
                            const_cast<float*>(a.bias)};
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
