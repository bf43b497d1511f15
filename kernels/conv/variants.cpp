// The variants of convolution: plainest first, fastest last.
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
}  // namespace conv_wgmma
namespace conv1_wgmma {
extern const ConvFprop fprop;
extern const ConvWgrad wgrad;
}  // namespace conv1_wgmma

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

// Variants live in other files: the arrays are made at the first call, when those are initialised.
Table<ConvProblem, ConvFpropArgs> conv_fprop_variants() {
    static const ConvFprop table[] = {
        conv_naive::fprop,
#ifdef WT_CUDNN
        conv_cudnn::fprop,
#endif
        conv_tiled::fprop,
        conv1_direct::fprop,
        conv_mma::fprop,
        conv_wgmma::fprop,
        conv1_wgmma::fprop,
#ifdef WT_ONEDNN
        conv_onednn::fprop,
        conv_winograd_onednn::fprop,
        conv_fold_onednn::fprop,
#endif
    };
    return table;
}

Table<ConvProblem, ConvDgradArgs> conv_dgrad_variants() {
    static const ConvDgrad table[] = {
        conv_naive::dgrad,
#ifdef WT_CUDNN
        conv_cudnn::dgrad,
#endif
        conv_tiled::dgrad,
        conv_mma::dgrad,
        conv_wgmma::dgrad,
#ifdef WT_ONEDNN
        conv_onednn::dgrad,
        conv_winograd_onednn::dgrad,
#endif
    };
    return table;
}

Table<ConvProblem, ConvWgradArgs> conv_wgrad_variants() {
    static const ConvWgrad table[] = {
        conv_naive::wgrad,
#ifdef WT_CUDNN
        conv_cudnn::wgrad,
#endif
        conv_tiled::wgrad,
        conv1_direct::wgrad,
        conv_mma::wgrad,
        conv_wgmma::wgrad,
        conv1_wgmma::wgrad,
#ifdef WT_ONEDNN
        conv_onednn::wgrad,
        conv_winograd_onednn::wgrad,
        conv_fold_onednn::wgrad,
#endif
    };
    return table;
}

}  // namespace wt
