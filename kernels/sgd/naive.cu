// SGD with momentum, one thread per element, one launch per tensor.
#include "kernels/launch.h"
#include "kernels/sgd/problem.h"

namespace wt::sgd_naive {
namespace {

__global__ void sgd_naive_kernel(SgdTensor t, const StepState* state) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= t.count) return;
    const float lr = state->lr * t.lr_scale;
    const float v = state->momentum * t.v[i] - t.weight_decay * lr * t.w[i] - lr * t.g[i];
    const float w = t.w[i] + v;
    t.v[i] = v;
    t.w[i] = w;
    if (t.w_bf16) t.w_bf16[i] = from_float<bf16>(w);
}

void run(const SgdProblem& p, const SgdArgs& a) {
    for (int i = 0; i < p.tensors; ++i) {
        const SgdTensor& t = a.tensors[i];
        if (!t.count) continue;
        launch("sgd_naive", {dim3(ceil_div(t.count, 256)), dim3(256), a.stream}, sgd_naive_kernel,
               t, a.state);
    }
}

}  // namespace

extern const Sgd variant;
const Sgd variant{
    .name = "naive", .refuses = fits_all<SgdProblem>, .workspace = nullptr, .launch = run};

}  // namespace wt::sgd_naive
