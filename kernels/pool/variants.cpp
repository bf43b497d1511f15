// Max pooling: the tables of variants. cuDNN has none to offer: its max pooling keeps
// no argmax, and its backward searches x and y again.
#include "kernels/pool/problem.h"

namespace wt {

namespace pool_forward_naive {
extern const PoolForward variant;
}
namespace pool_forward_vec8 {
extern const PoolForward variant;
}
namespace pool_backward_naive {
extern const PoolBackward variant;
}
namespace pool_backward_vec8 {
extern const PoolBackward variant;
}
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
        // Faster by 0.09 ms an image and core (AlexNet's three layers: 0.15, ours 0.24), which is
        // 0.2% of a step, but it loses NaNs: a net that diverges should show it.
        preferred(pool_onednn::forward_variant, {.cpu = 2}),
#endif
        preferred(pool_forward_vec8::variant, {.gpu = 1, .cpu = 3}),
        preferred(pool_once::forward, {.gpu = 2}),  // barriers: slow on a CPU
    };
    return table;
}

Table<PoolProblem, PoolBackwardArgs> pool_backward_variants() {
    static const PoolBackward table[] = {
        pool_backward_naive::variant,
        preferred(pool_backward_vec8::variant, {.gpu = 1, .cpu = 2}),
        preferred(pool_once::backward, {.gpu = 2}),
#ifdef WT_ONEDNN
        preferred(pool_onednn::backward_variant, {.cpu = 3}),
#endif
    };
    return table;
}

}  // namespace wt
