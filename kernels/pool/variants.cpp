// Max pooling: the tables of variants, plainest first, fastest last.
#include "kernels/pool/problem.h"

namespace wt {

namespace pool_forward_naive { extern const PoolForward variant; }
namespace pool_backward_naive { extern const PoolBackward variant; }

Table<PoolProblem, PoolForwardArgs> pool_forward_variants() {
    static const PoolForward table[] = {
        pool_forward_naive::variant,
    };
    return table;
}

Table<PoolProblem, PoolBackwardArgs> pool_backward_variants() {
    static const PoolBackward table[] = {
        pool_backward_naive::variant,
    };
    return table;
}

}  // namespace wt
