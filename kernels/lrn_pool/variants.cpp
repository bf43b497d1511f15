// LRN + max pooling: the tables of variants, plainest first, fastest last.
#include "kernels/lrn_pool/problem.h"

namespace wt {

namespace lrn_pool_forward_naive { extern const LrnPoolForward variant; }
namespace lrn_pool_forward_row { extern const LrnPoolForward variant; }
namespace lrn_pool_forward_fused { extern const LrnPoolForward variant; }
namespace lrn_pool_backward_naive { extern const LrnPoolBackward variant; }
namespace lrn_pool_backward_row { extern const LrnPoolBackward variant; }
namespace lrn_pool_backward_fused { extern const LrnPoolBackward variant; }

Table<LrnPoolProblem, LrnPoolForwardArgs> lrn_pool_forward_variants() {
    static const LrnPoolForward table[] = {
        lrn_pool_forward_naive::variant,
        lrn_pool_forward_fused::variant,
#ifdef VGPU  // one thread a block: on a real GPU the plain one is the better choice for what `fused` refuses
        lrn_pool_forward_row::variant,
#endif
    };
    return table;
}

Table<LrnPoolProblem, LrnPoolBackwardArgs> lrn_pool_backward_variants() {
    static const LrnPoolBackward table[] = {
        lrn_pool_backward_naive::variant,
        lrn_pool_backward_fused::variant,
#ifdef VGPU
        lrn_pool_backward_row::variant,
#endif
    };
    return table;
}

}  // namespace wt
