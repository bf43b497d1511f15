// Softmax cross-entropy, one thread per row.
#include <climits>
#include <cmath>

#include "kernels/launch.h"
#include "kernels/softmax/row_result.h"

namespace wt::softmax_naive {
namespace {

template <class T>
__global__ void softmax_naive_kernel(SoftmaxProblem p, const float* logits, const int* labels,
                                     T* dlogits, SoftmaxRow* results) {
    const int row = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (row >= p.rows) return;
    const float* z = logits + int64_t(row) * p.ld_logits;
    T* dz = dlogits ? dlogits + int64_t(row) * p.ld_dlogits : nullptr;
    const int label = labels[row];
    if (label == -1) {
        if (dz)
            for (int j = 0; j < p.classes; ++j) dz[j] = from_float<T>(0.f);
        results[row] = {0, -1};
        return;
    }
    float top = z[0];
    for (int j = 1; j < p.classes; ++j) top = fmaxf(top, z[j]);  // skips NaNs; the sum meets them
    float sum = 0;
    for (int j = 0; j < p.classes; ++j) sum += expf(z[j] - top);
    const float rest = p.everywhere(), right = p.at_label() + p.everywhere();
    if (dz)
        for (int j = 0; j < p.classes; ++j)
            dz[j] = from_float<T>(p.scale * (expf(z[j] - top) / sum - (j == label ? right : rest)));

    // A label that is no class makes the loss NaN, which stops the training that fed it.
    const float chosen = label >= 0 && label < p.classes ? z[label] : NAN;
    int rank = 0;
    for (int j = 0; j < p.classes; ++j) rank += z[j] > chosen || (z[j] == chosen && j < label);
    float loss = logf(sum) - (chosen - top);
    if (p.smoothing > 0) {
        float apart = 0;  // from the label's logit, all others
        for (int j = 0; j < p.classes; ++j) apart += z[j] - chosen;
        loss -= p.everywhere() * apart;
    }
    results[row] = {loss, loss == loss ? rank : INT_MAX};
}

void run(const SoftmaxProblem& p, const SoftmaxArgs& a) {
    auto* results = static_cast<SoftmaxRow*>(a.workspace);
    if (p.rows)
        by_dtype(p.dtype, [&]<class T>() {
            launch("softmax_naive", {dim3(ceil_div(p.rows, 32)), dim3(32), a.stream},
                   softmax_naive_kernel<T>, p, a.logits, a.labels, static_cast<T*>(a.dlogits),
                   results);
        });
    launch_softmax_stats(p, results, a.stats, a.stream);
}

}  // namespace

extern const Softmax variant;
const Softmax variant{.name = "naive",
                      .refuses = fits_all<SoftmaxProblem>,
                      .workspace = softmax_rows_bytes,
                      .launch = run};

}  // namespace wt::softmax_naive
