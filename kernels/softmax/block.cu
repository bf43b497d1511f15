// Softmax cross-entropy, one block per row: maximum, then sum and rank, then the gradient. A row is
// read three times, from L1 after the first.
#include <climits>
#include <cub/block/block_reduce.cuh>

#include "kernels/launch.h"
#include "kernels/ptx/griddep.h"
#include "kernels/softmax/row_result.h"

namespace wt::softmax_block {
namespace {

constexpr int kThreads = 128;

struct SumRank {
    float sum, apart;  // apart: from the label's logit, all others; with smoothing alone
    int rank;
};
struct AddSumRank {
    __device__ SumRank operator()(const SumRank& a, const SumRank& b) const {
        return {a.sum + b.sum, a.apart + b.apart, a.rank + b.rank};
    }
};
struct Greater {
    __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

using ReduceMax = cub::BlockReduce<float, kThreads>;
using ReduceSumRank = cub::BlockReduce<SumRank, kThreads>;

struct SharedStorage {
    union {
        typename ReduceMax::TempStorage max;
        typename ReduceSumRank::TempStorage sum_rank;
    };
    float top, sum;
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    softmax_block_kernel(SoftmaxProblem p, const float* logits, const int* labels, T* dlogits,
                         SoftmaxRow* results) {
    ptx::griddep_wait();
    ptx::griddep_launch_dependents();
    auto& shared = shared_storage<SharedStorage>();
    const int row = blockIdx.x, thread = threadIdx.x;
    const float* z = logits + int64_t(row) * p.ld_logits;
    T* dz = dlogits ? dlogits + int64_t(row) * p.ld_dlogits : nullptr;
    const int label = labels[row];
    if (label == -1) {
        if (dz)
            for (int j = thread; j < p.classes; j += kThreads) dz[j] = from_float<T>(0.f);
        if (thread == 0) results[row] = {0, -1};
        return;
    }

    float top = -INFINITY;
    // skips NaNs; the sum meets them
    for (int j = thread; j < p.classes; j += kThreads) top = fmaxf(top, z[j]);
    top = ReduceMax(shared.max).Reduce(top, Greater());
    if (thread == 0) shared.top = top;
    __syncthreads();  // also frees shared.max for shared.sum_rank
    top = shared.top;

    // A label that is no class makes the loss NaN, which stops the training that fed it.
    const float chosen = label >= 0 && label < p.classes ? z[label] : NAN;
    SumRank part{0, 0, 0};
    for (int j = thread; j < p.classes; j += kThreads) {
        part.sum += __expf(z[j] - top);
        part.rank += z[j] > chosen || (z[j] == chosen && j < label);
        if (p.smoothing > 0) part.apart += z[j] - chosen;
    }
    part = ReduceSumRank(shared.sum_rank).Reduce(part, AddSumRank());
    if (thread == 0) {
        shared.sum = part.sum;
        float loss = logf(part.sum) - (chosen - top);
        if (p.smoothing > 0) loss -= p.everywhere() * part.apart;
        results[row] = {loss, loss == loss ? part.rank : INT_MAX};
    }
    if (!dz) return;
    __syncthreads();
    const float factor = p.scale / shared.sum, rest = p.scale * p.everywhere(),
                right = p.scale * (p.at_label() + p.everywhere());
    for (int j = thread; j < p.classes; j += kThreads)
        dz[j] = from_float<T>(factor * __expf(z[j] - top) - (j == label ? right : rest));
}

void run(const SoftmaxProblem& p, const SoftmaxArgs& a) {
    auto* results = static_cast<SoftmaxRow*>(a.workspace);
    if (p.rows)
        by_dtype(p.dtype, [&]<class T>() {
            launch("softmax_block",
                   LaunchShape{.grid = dim3(p.rows),
                               .block = dim3(kThreads),
                               .stream = a.stream,
                               .shared = sizeof(SharedStorage)}
                       .with_pdl(),
                   softmax_block_kernel<T>, p, a.logits, a.labels, static_cast<T*>(a.dlogits),
                   results);
        });
    launch_softmax_stats(p, results, a.stats, a.stream);
}

}  // namespace

extern const Softmax variant;
const Softmax variant{.name = "block",
                      .refuses = fits_all<SoftmaxProblem>,
                      .workspace = softmax_rows_bytes,
                      .launch = run};

}  // namespace wt::softmax_block
