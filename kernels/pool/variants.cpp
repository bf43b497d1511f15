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
#ifdef VGPU
namespace pool_forward_cpu {
extern const PoolForward variant;
}
#endif
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
        // The fastest (alexnet's pool1, bf16, batch 128: 7 ms of a core, `cpu` 9, `vec8` 20), but
        // it loses NaNs: a net that diverges should show it.
        preferred(pool_onednn::forward_variant, {.cpu = 2}),
#endif
        preferred(pool_forward_vec8::variant, {.gpu = 1, .cpu = 3}),
        preferred(pool_once::forward, {.gpu = 2}),  // barriers: slow on a CPU
#ifdef VGPU
        preferred(pool_forward_cpu::variant, {.cpu = 4}),
#endif
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
