// The variants of convolution, and how gladly each is taken.
//
// On real GPUs: Hopper's tensor cores before Ampere's before plain threads, and for the first
// layer's 3 channels its own kernels before the general ones. In fp32, where there are no tensor
// cores, Winograd before plain threads, where it pays: predicted for an H200, batch 256, conv2 1.6
// ms instead of 6.1, conv4 1.4 instead of 3.1 (`bin/compare --predict h200`).
//
// On virtual GPUs a wgmma is emulated as one dense loop, an mma.sync as many short ones behind
// ldmatrix. bf16, AlexNet at batch 8, GFLOP/s on two cores of a Xeon, `bin/compare OP --net alexnet
// --precision bf16 --variants tiled,mma_sm80,wgmma_sm90,onednn`:
//
//                 tiled      mma_sm80   wgmma_sm90   onednn
//     fprop       11 to 25   7 to 8     22 to 34     162 to 247
//     dgrad       17 to 24   4 to 7     28 to 31     212 to 236
//     wgrad       11 to 27   3 to 7     15 to 25     33 to 135
//
// So wgmma_sm90 comes before tiled there, and mma_sm80 is never taken unless it is named. Of the
// first layer conv1_direct takes 138 and 104 ms (fprop, wgrad), folded_wgmma_sm90 190 and 189.
//
// In fp32, alexnet's fprop at batch 32, user seconds of `bin/compare conv_fprop --layer conv2
// --batch 32 --profile --variants ...` on one core: conv2 tiled 3.5, winograd 1.0, onednn 0.75;
// conv4 2.0, 0.96, 0.39. So winograd comes before tiled for `own`, where it suits, and behind
// oneDNN's.
// winograd_cpu comes before all: README.md, "Convolutions on a CPU".
#include <array>
#include <vector>

#include "kernels/conv/problem.h"

namespace wt {

namespace conv_naive {
extern const ConvFprop fprop;
extern const ConvDgrad dgrad;
extern const ConvWgrad wgrad;
}  // namespace conv_naive
namespace conv_tiled {
extern const ConvFprop fprop;
extern const ConvDgrad dgrad;
extern const ConvWgrad wgrad;
}  // namespace conv_tiled
namespace conv_mma {
extern const ConvFprop fprop;
extern const ConvDgrad dgrad;
extern const ConvWgrad wgrad;
}  // namespace conv_mma
namespace conv1_direct {
extern const ConvFprop fprop;
extern const ConvWgrad wgrad;
}  // namespace conv1_direct
namespace conv_wgmma {
extern const ConvFprop fprop;
extern const ConvDgrad dgrad;
extern const ConvWgrad wgrad;
extern const std::array<ConvFprop, 9> fprop_fixed;
extern const std::array<ConvDgrad, 10> dgrad_fixed;
extern const std::array<ConvWgrad, 6> wgrad_fixed;
}  // namespace conv_wgmma
namespace conv1_wgmma {
extern const ConvFprop fprop;
extern const ConvWgrad wgrad;
}  // namespace conv1_wgmma
namespace conv_winograd {
extern const ConvFprop fprop, fprop_mma;
extern const ConvDgrad dgrad, dgrad_mma;
extern const ConvWgrad wgrad, wgrad_mma;
}  // namespace conv_winograd
namespace conv_views {
extern const ConvDgrad dgrad, dgrad_level, dgrad_swizzled;
}  // namespace conv_views

#ifdef VGPU
namespace conv_winograd_cpu {
extern const ConvFprop fprop, fprop_avx2;
extern const ConvDgrad dgrad, dgrad_avx2;
extern const ConvWgrad wgrad, wgrad_avx2;
}  // namespace conv_winograd_cpu
#endif
#ifdef WT_ONEDNN
namespace conv_onednn {
extern const ConvFprop fprop;
extern const ConvDgrad dgrad;
extern const ConvWgrad wgrad;
}  // namespace conv_onednn
namespace conv_winograd_onednn {
extern const ConvFprop fprop;
extern const ConvDgrad dgrad;
extern const ConvWgrad wgrad;
}  // namespace conv_winograd_onednn
namespace conv_fold_onednn {
extern const ConvFprop fprop;
extern const ConvWgrad wgrad;
}  // namespace conv_fold_onednn
#endif
#ifdef WT_CUDNN
namespace conv_cudnn {
extern const ConvFprop fprop;
extern const ConvDgrad dgrad;
extern const ConvWgrad wgrad;
}  // namespace conv_cudnn
#endif

namespace {

// The rows of a table, and behind them those with a fixed tile: what --kernels tune and bin/compare
// try beside the model's choice, wgmma_sm90.
template <class V, size_t N>
std::vector<V> with_fixed(std::vector<V> rows, const std::array<V, N>& fixed) {
    for (const V& v : fixed) rows.push_back(preferred(v, kFixedPlan));
    return rows;
}

}  // namespace

// Variants live in other files: the arrays are made at the first call, when those are initialised.
Table<ConvProblem, ConvFpropArgs> conv_fprop_variants() {
    static const auto table = with_fixed<ConvFprop>(
        {
            conv_naive::fprop,
#ifdef WT_CUDNN
            preferred(conv_cudnn::fprop, {.gpu = 1}),
#endif
            preferred(conv_tiled::fprop, {.gpu = 2, .cpu = 1}),
            preferred(conv_winograd::fprop, {.gpu = 3, .cpu = 4}),
            conv_winograd::fprop_mma,  // tf32: more error than mma_sm80's
            preferred(conv1_direct::fprop, {.gpu = 4, .cpu = 5}),
            preferred(conv_mma::fprop, {.gpu = 5}),
            preferred(conv_wgmma::fprop, {.gpu = 6, .cpu = 2}),
            preferred(conv1_wgmma::fprop, {.gpu = 7, .cpu = 3}),
#ifdef WT_ONEDNN
            preferred(conv_onednn::fprop, {.cpu = 6}),
            preferred(conv_winograd_onednn::fprop, {.cpu = 7}),
            preferred(conv_fold_onednn::fprop, {.cpu = 8}),
#endif
#ifdef VGPU
            preferred(conv_winograd_cpu::fprop, {.cpu = 9}),
            conv_winograd_cpu::fprop_avx2,  // what winograd_cpu is without AVX-512
#endif
        },
        conv_wgmma::fprop_fixed);
    return table;
}

Table<ConvProblem, ConvDgradArgs> conv_dgrad_variants() {
    static const auto table = with_fixed<ConvDgrad>(
        {
            conv_naive::dgrad,
#ifdef WT_CUDNN
            preferred(conv_cudnn::dgrad, {.gpu = 1}),
#endif
            preferred(conv_tiled::dgrad, {.gpu = 2, .cpu = 1}),
            preferred(conv_winograd::dgrad, {.gpu = 3, .cpu = 3}),
            conv_winograd::dgrad_mma,  // tf32: more error than mma_sm80's
            preferred(conv_mma::dgrad, {.gpu = 4}),
            preferred(conv_wgmma::dgrad, {.gpu = 5, .cpu = 2}),
            preferred(conv_views::dgrad, {.gpu = 6}),  // where it suits: few channels
            conv_views::dgrad_level, conv_views::dgrad_swizzled,
#ifdef WT_ONEDNN
            preferred(conv_onednn::dgrad, {.cpu = 6}),
            preferred(conv_winograd_onednn::dgrad, {.cpu = 7}),
#endif
#ifdef VGPU
            preferred(conv_winograd_cpu::dgrad, {.cpu = 9}),
            conv_winograd_cpu::dgrad_avx2,  // what winograd_cpu is without AVX-512
#endif
        },
        conv_wgmma::dgrad_fixed);
    return table;
}

Table<ConvProblem, ConvWgradArgs> conv_wgrad_variants() {
    static const auto table = with_fixed<ConvWgrad>(
        {
            conv_naive::wgrad,
#ifdef WT_CUDNN
            preferred(conv_cudnn::wgrad, {.gpu = 1}),
#endif
            preferred(conv_tiled::wgrad, {.gpu = 2, .cpu = 1}),
            preferred(conv_winograd::wgrad, {.gpu = 3, .cpu = 4}),
            conv_winograd::wgrad_mma,  // tf32: more error than mma_sm80's
            preferred(conv1_direct::wgrad, {.gpu = 4, .cpu = 5}),
            preferred(conv_mma::wgrad, {.gpu = 5}),
            preferred(conv_wgmma::wgrad, {.gpu = 6, .cpu = 2}),
            preferred(conv1_wgmma::wgrad, {.gpu = 7, .cpu = 3}),
#ifdef WT_ONEDNN
            preferred(conv_onednn::wgrad, {.cpu = 6}),
            preferred(conv_winograd_onednn::wgrad, {.cpu = 7}),
            preferred(conv_fold_onednn::wgrad, {.cpu = 8}),
#endif
#ifdef VGPU
            preferred(conv_winograd_cpu::wgrad, {.cpu = 9}),
            conv_winograd_cpu::wgrad_avx2,  // what winograd_cpu is without AVX-512
#endif
        },
        conv_wgmma::wgrad_fixed);
    return table;
}

}  // namespace wt
