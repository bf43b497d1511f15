// LRN across channels by cuDNN, NHWC. cuDNN divides alpha by the window's size, so it is given
// alpha * size. Its backward reads y, which our backward is not given: the forward runs again into
// the workspace first.
#include <climits>

#include "kernels/lrn/problem.h"
#include "kernels/vendor/cudnn.h"

namespace wt::lrn_cudnn {

using namespace wt::cudnn;

struct LrnPlan {
    Tensor rows;  // one image, a pixel wide
    Lrn lrn;

    explicit LrnPlan(const LrnProblem& p)
        : rows(nhwc(p.dtype, 1, static_cast<int>(p.pixels), 1, p.c)) {
        WT_CUDNN_CALL(cudnnSetLRNDescriptor(lrn, static_cast<unsigned>(p.size),
                                            double(p.alpha) * p.size, p.beta, p.k));
    }
};

static std::shared_ptr<const LrnPlan> plan_of(const LrnProblem& p) {
    static Plans<LrnProblem, LrnPlan> plans;
    return plans.get(p, [&] { return LrnPlan(p); });
}

static std::string refuses(const LrnProblem& p) {
    if (p.dtype != DType::f32) return "cuDNN's LRN takes no bf16";
    if (p.size < CUDNN_LRN_MIN_N || p.size > CUDNN_LRN_MAX_N || p.size % 2 == 0)
        return "window must be odd and at most 16";
    if (p.k < CUDNN_LRN_MIN_K || p.beta < CUDNN_LRN_MIN_BETA)
        return "k must be at least 1e-5, beta at least 0.01";
    if (p.count() > INT_MAX) return "more than 2^31 elements";
    return {};
}

static void run_forward(const LrnPlan& d, cudnnHandle_t h, const void* x, void* y) {
    WT_CUDNN_CALL(cudnnLRNCrossChannelForward(h, d.lrn, CUDNN_LRN_CROSS_CHANNEL_DIM1, &kOne, d.rows,
                                              x, &kZero, d.rows, y));
}

static void launch_forward(const LrnProblem& p, const LrnForwardArgs& a) {
    run_forward(*plan_of(p), handle(a.stream), a.x, a.y);
}

static void launch_backward(const LrnProblem& p, const LrnBackwardArgs& a) {
    const auto plan = plan_of(p);
    const auto& d = *plan;
    const auto h = handle(a.stream);
    void* y = a.workspace;
    run_forward(d, h, a.x, y);
    WT_CUDNN_CALL(cudnnLRNCrossChannelBackward(h, d.lrn, CUDNN_LRN_CROSS_CHANNEL_DIM1, &kOne,
                                               d.rows, y, d.rows, a.dy, d.rows, a.x, &kZero, d.rows,
                                               a.dx));
}

extern const LrnForward forward_variant = {.name = "cudnn",
                                           .refuses = refuses,
                                           .workspace = nullptr,
                                           .launch = launch_forward,
                                           .baseline = true};
extern const LrnBackward backward_variant = {
    .name = "cudnn",
    .refuses = refuses,
    .workspace =
        [](const LrnProblem& p) { return static_cast<size_t>(p.count()) * size_of(p.dtype); },
    .launch = launch_backward,
    .baseline = true,
};

}  // namespace wt::lrn_cudnn
