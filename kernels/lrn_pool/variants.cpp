// LRN + max pooling: the tables of variants. `row` has one thread a block, which walks along a row
// of the image: right for a CPU, and never for a GPU, where the plain one is the better choice for
// what `fused` refuses.
#include "kernels/lrn_pool/problem.h"

namespace wt {

namespace lrn_pool_forward_naive {
extern const LrnPoolForward variant;
}
namespace lrn_pool_forward_row {
extern const LrnPoolForward variant;
}
namespace lrn_pool_forward_fused {
extern const LrnPoolForward variant;
}
namespace lrn_pool_backward_naive {
extern const LrnPoolBackward variant;
}
namespace lrn_pool_backward_row {
extern const LrnPoolBackward variant;
}
namespace lrn_pool_backward_fused {
extern const LrnPoolBackward variant;
}

Table<LrnPoolProblem, LrnPoolForwardArgs> lrn_pool_forward_variants() {
    static const LrnPoolForward table[] = {
        lrn_pool_forward_naive::variant,
        preferred(lrn_pool_forward_fused::variant, {.gpu = 1, .cpu = 1}),
        preferred(lrn_pool_forward_row::variant, {.cpu = 2}),
    };
    return table;
}

Table<LrnPoolProblem, LrnPoolBackwardArgs> lrn_pool_backward_variants() {
    static const LrnPoolBackward table[] = {
        lrn_pool_backward_naive::variant,
        preferred(lrn_pool_backward_fused::variant, {.gpu = 1, .cpu = 1}),
        preferred(lrn_pool_backward_row::variant, {.cpu = 2}),
    };
    return table;
}

}  // namespace wt
