// Operations by name, and their problems as text: the keys under which measured variants are kept. A text has every field
// that a variant's time may depend on.
#pragma once

#include <cstdio>
#include <string>

#include "kernels/activation/problem.h"
#include "kernels/augment/problem.h"
#include "kernels/conv/problem.h"
#include "kernels/dropout/problem.h"
#include "kernels/exchange/problem.h"
#include "kernels/gemm/problem.h"
#include "kernels/lrn/problem.h"
#include "kernels/lrn_pool/problem.h"
#include "kernels/pool/problem.h"
#include "kernels/sgd/problem.h"
#include "kernels/softmax/problem.h"

namespace wt {

template <class Args> inline constexpr const char* operation_name = nullptr;
template <> inline constexpr const char* operation_name<ConvFpropArgs> = "conv_fprop";
template <> inline constexpr const char* operation_name<ConvDgradArgs> = "conv_dgrad";
template <> inline constexpr const char* operation_name<ConvWgradArgs> = "conv_wgrad";
template <> inline constexpr const char* operation_name<GemmArgs> = "gemm";
template <> inline constexpr const char* operation_name<LrnForwardArgs> = "lrn_forward";
template <> inline constexpr const char* operation_name<LrnBackwardArgs> = "lrn_backward";
template <> inline constexpr const char* operation_name<PoolForwardArgs> = "pool_forward";
template <> inline constexpr const char* operation_name<PoolBackwardArgs> = "pool_backward";
template <> inline constexpr const char* operation_name<LrnPoolForwardArgs> = "lrn_pool_forward";
template <> inline constexpr const char* operation_name<LrnPoolBackwardArgs> = "lrn_pool_backward";
template <> inline constexpr const char* operation_name<ActivationForwardArgs> = "activation_forward";
template <> inline constexpr const char* operation_name<ActivationBackwardArgs> = "activation_backward";
template <> inline constexpr const char* operation_name<DropoutArgs> = "dropout";
template <> inline constexpr const char* operation_name<SoftmaxArgs> = "softmax";
template <> inline constexpr const char* operation_name<AugmentArgs> = "augment";
template <> inline constexpr const char* operation_name<SgdArgs> = "sgd";

namespace detail {

class ProblemText {
public:
    ProblemText& add(const char* key, double v) {
        char s[64];
        std::snprintf(s, sizeof s, "%s%s=%.9g", text_.empty() ? "" : " ", key, v);
        text_ += s;
        return *this;
    }
    ProblemText& word(const std::string& w) { return text_ += (text_.empty() ? "" : " ") + w, *this; }
    ProblemText& flag(const char* key, bool set) { return set ? word(key) : *this; }
    std::string done(DType t, bool tf32 = false) { return word(tf32 ? "tf32" : name_of(t)).text_; }
    std::string done() { return text_; }

private:
    std::string text_;
};

}  // namespace detail

inline std::string text_of(const ConvProblem& p) {
    detail::ProblemText t;
    t.add("n", p.n).add("h", p.h).add("w", p.w).add("c", p.c).add("k", p.k).add("r", p.r).add("s", p.s).add("stride_h", p.stride_h);
    t.add("stride_w", p.stride_w).add("pad_h", p.pad_h).add("pad_w", p.pad_w).add("groups", p.groups).add("fold", p.fold);
    return t.flag("bias", p.bias).flag("relu", p.relu).flag("drelu", p.drelu).done(p.dtype, p.tf32);
}

inline std::string text_of(const GemmProblem& p) {
    detail::ProblemText t;
    t.word(p.layout == GemmLayout::nt ? "nt" : p.layout == GemmLayout::nn ? "nn" : "tn").add("m", p.m).add("n", p.n).add("k", p.k);
    t.add("lda", p.lda).add("ldb", p.ldb).add("ldc", p.ldc).word(std::string("out=") + name_of(p.out)).flag("bias", p.bias);
    if (p.dropout > 0) t.add("dropout", p.dropout);
    return t.flag("relu", p.relu).flag("drelu", p.drelu).flag("sgd", p.sgd).flag("unaligned", !p.aligned).done(p.dtype, p.tf32);
}

inline std::string text_of(const LrnProblem& p) {
    return detail::ProblemText().add("pixels", double(p.pixels)).add("c", p.c).add("size", p.size).add("beta", p.beta).flag("unaligned", !p.aligned).done(p.dtype);
}

inline std::string text_of(const PoolProblem& p) {
    detail::ProblemText t;
    t.add("n", p.n).add("h", p.h).add("w", p.w).add("c", p.c).add("window", p.window).add("stride", p.stride).add("pad", p.pad);
    return t.flag("unaligned", !p.aligned).done(p.dtype);
}

inline std::string text_of(const LrnPoolProblem& p) {
    detail::ProblemText t;
    t.add("n", p.n).add("h", p.h).add("w", p.w).add("c", p.c).add("window", p.window).add("stride", p.stride).add("pad", p.pad);
    if (p.lrn) t.word("lrn").add("size", p.size).add("beta", p.beta);
    return t.flag("relu", p.relu).flag("bias", p.bias).flag("unaligned", !p.aligned).done(p.dtype);
}

inline std::string text_of(const ActivationProblem& p) {
    detail::ProblemText t;
    t.word(p.kind == Activation::relu ? "relu" : "tanh").add("rows", double(p.rows)).add("cols", double(p.cols));
    return t.add("ld_y", double(p.ld_y)).add("ld_dy", double(p.ld_dy)).done(p.dtype);
}

inline std::string text_of(const DropoutProblem& p) {
    detail::ProblemText t;
    t.add("rows", double(p.rows)).add("cols", double(p.cols)).add("ld_x", double(p.ld_x)).add("ld_y", double(p.ld_y)).add("p", p.p);
    return t.done(p.dtype);
}

inline std::string text_of(const SoftmaxProblem& p) {
    detail::ProblemText t;
    t.add("rows", p.rows).add("classes", p.classes).add("ld_logits", p.ld_logits).add("ld_dlogits", p.ld_dlogits);
    return t.done(p.dtype);
}

inline std::string text_of(const AugmentProblem& p) {
    detail::ProblemText t;
    t.add("n", p.n).add("src_h", p.src_h).add("src_w", p.src_w).add("src_c", p.src_c).add("out_h", p.out_h).add("out_w", p.out_w);
    if (p.fold > 1) t.add("fold", p.fold).add("pad", p.pad).add("fold_h", p.fold_h).add("fold_w", p.fold_w);
    return t.done(p.dtype);
}

inline std::string text_of(const SgdProblem& p) { return detail::ProblemText().add("tensors", p.tensors).add("total", double(p.total)).done(); }

}  // namespace wt
