// What the convolutions by oneDNN share: our layouts in oneDNN's terms.
#pragma once

#include "kernels/conv/problem.h"
#include "kernels/vendor/onednn.h"

namespace wt::onednn {

// Dimensions in oneDNN's order, whatever the order in memory: activations n, c, h, w; filters (g,)
// k, c, r, s.
struct ConvLayouts {
    Desc x, w, y, bias;
};

inline Desc krsc(int64_t k, int64_t r, int64_t s, int64_t c, DType t) {
    return Desc({k, c, r, s}, type_of(t), Dims{r * s * c, 1, s * c, c});
}

inline Desc bias_of(int64_t k) {
    return Desc({k}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::a);
}

// The whole problem, groups and all. `filters` is the filters' type: fp32 for their gradient.
inline ConvLayouts layouts(const ConvProblem& p, DType filters) {
    const int64_t k = p.kg(), c = p.cg(), r = p.r, s = p.s;
    const Desc w = p.groups == 1 ? krsc(k, r, s, c, filters)
                                 : Desc({p.groups, k, c, r, s}, type_of(filters),
                                        Dims{k * r * s * c, r * s * c, 1, s * c, c});
    return {.x = nhwc(p.n, p.h, p.w, p.c, p.dtype),
            .w = w,
            .y = nhwc(p.n, p.p(), p.q(), p.k, p.dtype),
            .bias = p.bias ? bias_of(p.k) : Desc()};
}

inline Dims strides(const ConvProblem& p) { return {p.stride_h, p.stride_w}; }
inline Dims padding(const ConvProblem& p) { return {p.pad_h, p.pad_w}; }

// ReLU in the forward primitive's epilogue, scratch from the caller.
inline dnnl::primitive_attr fprop_attr(bool relu) {
    dnnl::primitive_attr attr = user_scratchpad();
    if (relu) {
        dnnl::post_ops post;
        post.append_eltwise(1.f, dnnl::algorithm::eltwise_relu, 0.f, 0.f);
        attr.set_post_ops(post);
    }
    return attr;
}

// Plans of the three passes, from a primitive descriptor and our layouts: what is read and written,
// and in which order the operands come: x, w, y, bias; dy, w, dx; x, dy, dw, db.
template <class PrimitiveDesc>
Plan fprop_plan_of(const PrimitiveDesc& pd, const ConvLayouts& o, bool bias) {
    Plan plan;
    plan.input(DNNL_ARG_SRC, o.x, pd.src_desc());
    plan.input(DNNL_ARG_WEIGHTS, o.w, pd.weights_desc());
    plan.output(DNNL_ARG_DST, o.y, pd.dst_desc());
    if (bias) plan.input(DNNL_ARG_BIAS, o.bias, pd.bias_desc());
    plan.primitive(dnnl::convolution_forward(pd), pd.scratchpad_desc());
    return plan;
}
template <class PrimitiveDesc>
Plan dgrad_plan_of(const PrimitiveDesc& pd, const ConvLayouts& o) {
    Plan plan;
    plan.input(DNNL_ARG_DIFF_DST, o.y, pd.diff_dst_desc());
    plan.input(DNNL_ARG_WEIGHTS, o.w, pd.weights_desc());
    plan.output(DNNL_ARG_DIFF_SRC, o.x, pd.diff_src_desc());
    plan.primitive(dnnl::convolution_backward_data(pd), pd.scratchpad_desc());
    return plan;
}
template <class PrimitiveDesc>
Plan wgrad_plan_of(const PrimitiveDesc& pd, const ConvLayouts& o, bool bias) {
    Plan plan;
    plan.input(DNNL_ARG_SRC, o.x, pd.src_desc());
    plan.input(DNNL_ARG_DIFF_DST, o.y, pd.diff_dst_desc());
    plan.output(DNNL_ARG_DIFF_WEIGHTS, o.w, pd.diff_weights_desc());
    if (bias) plan.output(DNNL_ARG_DIFF_BIAS, o.bias, pd.diff_bias_desc());
    plan.primitive(dnnl::convolution_backward_weights(pd), pd.scratchpad_desc());
    return plan;
}

}  // namespace wt::onednn
