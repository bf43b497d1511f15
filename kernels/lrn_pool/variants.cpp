// LRN + max pooling: the tables of variants, plainest first, fastest last.
#include "kernels/lrn_pool/problem.h"

namespace wt {

namespace lrn_pool_forward_naive { extern const LrnPoolForward variant; }
namespace lrn_pool_forward_fused { extern const LrnPoolForward variant; }
namespace lrn_pool_backward_naive { extern const LrnPoolBackward variant; }
namespace lrn_pool_backward_fused { extern const LrnPoolBackward variant; }

Table<LrnPoolProblem, LrnPoolForwardArgs> lrn_pool_forward_variants() {
    static const LrnPoolForward table[] = {
        lrn_pool_forward_naive::variant,
        lrn_pool_forward_fused::variant,
    };
    return table;
}

Table<LrnPoolProblem, LrnPoolBackwardArgs> lrn_pool_backward_variants() {
    static const LrnPoolBackward table[] = {
        lrn_pool_backward_naive::variant,
        lrn_pool_backward_fused::variant,
    };
    return table;
}

}  // namespace wt
