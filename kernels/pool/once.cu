// Max-pool, both directions, in which every element of the larger tensor moves once but for a few
// percent at the edges of tiles, and no window is loaded twice by one thread: the kernels of
// kernels/lrn_pool without their normalization. A thread walks down the image, its rows' maxima or
// the next row's gradient in registers (lrn_pool's *_fused.cu have the counts). `vec8` loads a
// pixel 9/4 times, 5/4 of them from L1 and L2, and has no barriers: the better one on a CPU.
#include "kernels/lrn_pool/problem.h"

namespace wt {

namespace lrn_pool_forward_fused {
extern const LrnPoolForward variant;
}
namespace lrn_pool_backward_fused {
extern const LrnPoolBackward variant;
}

namespace pool_once {
namespace {

LrnPoolProblem without_lrn(const PoolProblem& p) {
    return {.n = p.n,
            .h = p.h,
            .w = p.w,
            .c = p.c,
            .window = p.window,
            .stride = p.stride,
            .pad = p.pad,
            .dtype = p.dtype,
            .lrn = false,
            .relu = false,
            .bias = false,
            .aligned = p.aligned};
}

const LrnPoolForward& forward_kernel = lrn_pool_forward_fused::variant;
const LrnPoolBackward& backward_kernel = lrn_pool_backward_fused::variant;

}  // namespace

extern const PoolForward forward;
const PoolForward forward{
    .name = "once",
    .refuses = [](const PoolProblem& p) { return forward_kernel.refuses(without_lrn(p)); },
    .workspace =
        [](const PoolProblem& p) { return forward_kernel.workspace_bytes(without_lrn(p)); },
    .launch =
        [](const PoolProblem& p, const PoolForwardArgs& a) {
            forward_kernel.launch(without_lrn(p), {a.x, a.y, a.argmax, a.workspace, a.stream});
        },
};

extern const PoolBackward backward;
const PoolBackward backward{
    .name = "once",
    .refuses = [](const PoolProblem& p) { return backward_kernel.refuses(without_lrn(p)); },
    .workspace =
        [](const PoolProblem& p) { return backward_kernel.workspace_bytes(without_lrn(p)); },
    .launch =
        [](const PoolProblem& p, const PoolBackwardArgs& a) {
            backward_kernel.launch(without_lrn(p), {nullptr, nullptr, a.dy, a.argmax, a.dx, nullptr,
                                                    a.workspace, a.stream});
        },
};

}  // namespace pool_once
}  // namespace wt
