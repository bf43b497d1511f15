// LRN: the tables of variants. On real GPUs those that load an element once, 16 bytes a lane, come
// first; on virtual ones `cpu`, and without AVX-512 `pixel`, one thread a pixel, whose loops over
// channels become vectors: shuffles between lanes are switches between threads there.
#include "kernels/lrn/problem.h"

namespace wt {

namespace lrn_forward_naive {
extern const LrnForward variant;
}
namespace lrn_forward_vec8 {
extern const LrnForward variant;
}
namespace lrn_forward_shuffle {
extern const LrnForward variant;
}
namespace lrn_forward_pixel {
extern const LrnForward variant;
}
namespace lrn_backward_naive {
extern const LrnBackward variant;
}
namespace lrn_backward_vec8 {
extern const LrnBackward variant;
}
namespace lrn_backward_shuffle {
extern const LrnBackward variant;
}
namespace lrn_backward_pixel {
extern const LrnBackward variant;
}
#ifdef VGPU
namespace lrn_cpu {
extern const LrnForward forward_variant;
extern const LrnBackward backward_variant;
}  // namespace lrn_cpu
#endif
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
        preferred(lrn_cudnn::forward_variant, {.gpu = 1}),
#endif
        preferred(lrn_forward_pixel::variant, {.gpu = 2, .cpu = 4}),
        preferred(lrn_forward_vec8::variant, {.gpu = 3, .cpu = 3}),
        preferred(lrn_forward_shuffle::variant, {.gpu = 4, .cpu = 2}),
#ifdef WT_ONEDNN
        preferred(lrn_onednn::forward_variant, {.cpu = 5}),
#endif
#ifdef VGPU
        preferred(lrn_cpu::forward_variant, {.cpu = 6}),
#endif
    };
    return table;
}

Table<LrnProblem, LrnBackwardArgs> lrn_backward_variants() {
    static const LrnBackward table[] = {
        lrn_backward_naive::variant,
#ifdef WT_CUDNN
        preferred(lrn_cudnn::backward_variant, {.gpu = 1}),
#endif
#ifdef WT_ONEDNN
        preferred(lrn_onednn::backward_variant, {.cpu = 1}),
#endif
        preferred(lrn_backward_pixel::variant, {.gpu = 2, .cpu = 4}),
        preferred(lrn_backward_vec8::variant, {.gpu = 3, .cpu = 3}),
        preferred(lrn_backward_shuffle::variant, {.gpu = 4, .cpu = 2}),
#ifdef VGPU
        preferred(lrn_cpu::backward_variant, {.cpu = 5}),
#endif
    };
    return table;
}

}  // namespace wt
