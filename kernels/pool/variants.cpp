// Max pooling: the tables of variants, plainest first, fastest last. cuDNN has none to offer: its max pooling keeps
// no argmax, and its backward searches x and y again.
#include "kernels/pool/problem.h"

namespace wt {

namespace pool_forward_naive { extern const PoolForward variant; }
namespace pool_forward_vec8 { extern const PoolForward variant; }
namespace pool_backward_naive { extern const PoolBackward variant; }
namespace pool_backward_vec8 { extern const PoolBackward variant; }
namespace pool_once {
extern const PoolForward forward;
extern const PoolBackward backward;
}  // namespace pool_once
#ifdef WT_ONEDNN
namespace pool_onednn {
extern const PoolForward forward_variant;
extern const PoolBackward backward_variant;
}  // namespace pool_onednn
#endif

Table<PoolProblem, PoolForwardArgs> pool_forward_variants() {
    static const PoolForward table[] = {
        pool_forward_naive::variant,
#ifdef WT_ONEDNN
        // Faster by 0.09 ms an image and core (AlexNet's three layers: 0.15, ours 0.24), which is 0.2% of a step,
        // but it loses NaNs: a net that diverges should show it.
        pool_onednn::forward_variant,
#endif
        pool_forward_vec8::variant,
        pool_once::forward,
    };
    return table;
}

Table<PoolProblem, PoolBackwardArgs> pool_backward_variants() {
    static const PoolBackward table[] = {
        pool_backward_naive::variant,
        pool_backward_vec8::variant,
        pool_once::backward,
#ifdef WT_ONEDNN
        pool_onednn::backward_variant,
#endif
    };
    return table;
}

}  // namespace wt
