// LRN: the tables of variants, plainest first, fastest last.
#include "kernels/lrn/problem.h"

namespace wt {

namespace lrn_forward_naive { extern const LrnForward variant; }
namespace lrn_forward_vec8 { extern const LrnForward variant; }
namespace lrn_forward_shuffle { extern const LrnForward variant; }
namespace lrn_forward_pixel { extern const LrnForward variant; }
namespace lrn_backward_naive { extern const LrnBackward variant; }
namespace lrn_backward_vec8 { extern const LrnBackward variant; }
namespace lrn_backward_shuffle { extern const LrnBackward variant; }
namespace lrn_backward_pixel { extern const LrnBackward variant; }
#ifdef WT_ONEDNN
namespace lrn_onednn {
extern const LrnForward forward_variant;
extern const LrnBackward backward_variant;
}  // namespace lrn_onednn
#endif
#ifdef WT_CUDNN
namespace lrn_cudnn {
extern const LrnForward forward_variant;
extern const LrnBackward backward_variant;
}  // namespace lrn_cudnn
#endif

Table<LrnProblem, LrnForwardArgs> lrn_forward_variants() {
    static const LrnForward table[] = {
        lrn_forward_naive::variant,
#ifdef WT_CUDNN
        lrn_cudnn::forward_variant,
#endif
#ifdef VGPU
        lrn_forward_shuffle::variant,
        lrn_forward_vec8::variant,
        lrn_forward_pixel::variant,
#else
        lrn_forward_pixel::variant,
        lrn_forward_vec8::variant,
        lrn_forward_shuffle::variant,
#endif
#ifdef WT_ONEDNN
        lrn_onednn::forward_variant,
#endif
    };
    return table;
}

Table<LrnProblem, LrnBackwardArgs> lrn_backward_variants() {
    static const LrnBackward table[] = {
        lrn_backward_naive::variant,
#ifdef WT_CUDNN
        lrn_cudnn::backward_variant,
#endif
#ifdef WT_ONEDNN
        lrn_onednn::backward_variant,
#endif
#ifdef VGPU
        lrn_backward_shuffle::variant,
        lrn_backward_vec8::variant,
        lrn_backward_pixel::variant,
#else
        lrn_backward_pixel::variant,
        lrn_backward_vec8::variant,
        lrn_backward_shuffle::variant,
#endif
    };
    return table;
}

}  // namespace wt
