// 3x3 convolution of stride 1 by oneDNN's Winograd F(4x4, 3x3): a quarter of the multiplications.
// Lavin and Gray 2016, https://arxiv.org/abs/1509.09308. Needs AVX-512, channels in blocks of 16.
//
// The transforms lose about a decimal digit: 2e-6 of the result's norm on AlexNet's conv4 where
// direct sums have 1e-6. Copies NHWC <-> nChw16c are paid at each call (4% of the time). Groups run
// one after another on slices of the channels: oneDNN has no grouped Winograd. Measured at batch
// 128 on AVX-512, direct -> Winograd, GFLOP/s of the direct count: conv3 250 -> 430, conv4 250 ->
// 440, conv5 250 -> 425, all three passes alike. Scratch is large: 300 MB for conv4's wgrad at
// batch 128. Batches of 32 would need 130 MB and lose 3%.
#include "kernels/conv/onednn.h"

namespace wt::conv_winograd_onednn {

using namespace wt::onednn;
using dnnl::algorithm;
using dnnl::prop_kind;

// One group: c/groups channels of every pixel to k/groups channels of every pixel.
static ConvLayouts slice(const ConvProblem& p) {
    return {nhwc(p.n, p.h, p.w, p.cg(), p.dtype, p.c), krsc(p.kg(), p.r, p.s, p.cg(), p.dtype),
            nhwc(p.n, p.p(), p.q(), p.kg(), p.dtype, p.k), p.bias ? bias_of(p.kg()) : Desc()};
}

static dnnl::convolution_forward::primitive_desc forward(const ConvProblem& p,
                                                         const ConvLayouts& o) {
    return {{prop_kind::forward_training, algorithm::convolution_winograd, any_like(o.x),
             any_like(o.w), o.bias, any_like(o.y), strides(p), padding(p), padding(p)},
            fprop_attr(p.relu),
            engine()};
}

static Plan make_fprop(const ConvProblem& p) {
    const ConvLayouts o = slice(p);
    auto pd = forward(p, o);
    return fprop_plan_of(pd, o, p.bias);
}

static Plan make_dgrad(const ConvProblem& p) {
    const ConvLayouts o = slice(p);
    dnnl::convolution_backward_data::primitive_desc pd(
        {algorithm::convolution_winograd, any_like(o.x), any_like(o.w), any_like(o.y), strides(p),
         padding(p), padding(p)},
        user_scratchpad(), engine(), forward(p, o));
    return dgrad_plan_of(pd, o);
}

static Plan make_wgrad(const ConvProblem& p) {
    const ConvLayouts o = slice(p);
    dnnl::convolution_backward_weights::primitive_desc pd(
        {algorithm::convolution_winograd, any_like(o.x), any_like(o.w), o.bias, any_like(o.y),
         strides(p), padding(p), padding(p)},
        user_scratchpad(), engine(), forward(p, o));
    return wgrad_plan_of(pd, o, p.bias);
}

static auto fprop_plan(const ConvProblem& p) {
    static Cache<ConvProblem> plans;
    return plans.get(p, "conv_fprop.onednn_winograd", [&] { return make_fprop(p); });
}
static auto dgrad_plan(const ConvProblem& p) {
    static Cache<ConvProblem> plans;
    return plans.get(p, "conv_dgrad.onednn_winograd", [&] { return make_dgrad(p); });
}
static auto wgrad_plan(const ConvProblem& p) {
    static Cache<ConvProblem> plans;
    return plans.get(p, "conv_wgrad.onednn_winograd", [&] { return make_wgrad(p); });
}

// When the transforms pay. Fitted to times at 3x3 to 13x13 outputs, batches 16 to 128: a tile of
// 4x4 costs as much as `pixels` outputs of the direct kernel, and the filters' transform as much as
// `fixed` tiles. The direct wgrad is slower, so its constants are lower.
struct Cost {
    double pixels, fixed;
};
static constexpr Cost kForward{7, 46}, kFilters{5.5, 30};

template <class MakePlan>
static std::string refuses(const ConvProblem& p, const Cost& cost, MakePlan&& make_plan) {
    if (std::string why = refuses_fusions(p); !why.empty()) return why;
    if (p.dtype != DType::f32) return "fp32 only";
    if (p.r != 3 || p.s != 3 || p.stride_h != 1 || p.stride_w != 1)
        return "3x3 filters of stride 1 only";
    if (p.cg() % 16 || p.kg() % 16) return "channels of a group must be multiples of 16";
    const int64_t tiles = int64_t(p.n) * ((p.p() + 3) / 4) * ((p.q() + 3) / 4);
    if (double(p.n) * p.p() * p.q() < cost.pixels * (tiles + cost.fixed))
        return "outputs too few or too small: direct is faster";
    try {
        make_plan(p);
    } catch (const Error&) {
        return "oneDNN has no Winograd kernel for this CPU (AVX-512 only) or padding";
    }
    return {};
}

// `first` + `elements` fp32 values; null stays null.
static void* shifted(const void* first, int64_t elements) {
    return first ? static_cast<float*>(const_cast<void*>(first)) + elements : nullptr;
}

static void launch_fprop(const ConvProblem& p, const ConvFpropArgs& a) {
    enqueue(a.stream, "conv_fprop.onednn_winograd", [plan = fprop_plan(p), p, a] {
        for (int64_t g = 0; g < p.groups; ++g) {
            void* operands[] = {shifted(a.x, g * p.cg()),
                                shifted(a.w, g * (p.w_count() / p.groups)),
                                shifted(a.y, g * p.kg()), shifted(a.bias, g * p.kg())};
            plan->run(operands, a.workspace);
        }
    });
}

static void launch_dgrad(const ConvProblem& p, const ConvDgradArgs& a) {
    enqueue(a.stream, "conv_dgrad.onednn_winograd", [plan = dgrad_plan(p), p, a] {
        for (int64_t g = 0; g < p.groups; ++g) {
            void* operands[] = {shifted(a.dy, g * p.kg()),
                                shifted(a.w, g * (p.w_count() / p.groups)),
                                shifted(a.dx, g * p.cg())};
            plan->run(operands, a.workspace);
        }
    });
}

static void launch_wgrad(const ConvProblem& p, const ConvWgradArgs& a) {
    enqueue(a.stream, "conv_wgrad.onednn_winograd", [plan = wgrad_plan(p), p, a] {
        for (int64_t g = 0; g < p.groups; ++g) {
            void* operands[] = {shifted(a.x, g * p.cg()), shifted(a.dy, g * p.kg()),
                                shifted(a.dw, g * (p.w_count() / p.groups)),
                                shifted(a.db, g * p.kg())};
            plan->run(operands, a.workspace);
        }
    });
}

extern const ConvFprop fprop = {
    .name = "onednn_winograd",
    .refuses = [](const ConvProblem& p) { return refuses(p, kForward, fprop_plan); },
    .workspace = [](const ConvProblem& p) { return fprop_plan(p)->workspace(); },
    .launch = launch_fprop,
    .baseline = true,
};
extern const ConvDgrad dgrad = {
    .name = "onednn_winograd",
    .refuses = [](const ConvProblem& p) { return refuses(p, kForward, dgrad_plan); },
    .workspace = [](const ConvProblem& p) { return dgrad_plan(p)->workspace(); },
    .launch = launch_dgrad,
    .baseline = true,
};
extern const ConvWgrad wgrad = {
    .name = "onednn_winograd",
    .refuses = [](const ConvProblem& p) { return refuses(p, kFilters, wgrad_plan); },
    .workspace = [](const ConvProblem& p) { return wgrad_plan(p)->workspace(); },
    .launch = launch_wgrad,
    .baseline = true,
};

}  // namespace wt::conv_winograd_onednn
