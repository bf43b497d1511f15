// Softmax cross-entropy, one thread per row in 16 lanes of its own: SIMD and no barrier on a
// virtual GPU. On a real one `block` has the threads it needs.
#include <climits>
#include <cmath>

#include "kernels/common/pack.h"
#include "kernels/launch.h"
#include "kernels/softmax/row_result.h"

namespace wt::softmax_row {
namespace {

constexpr int kLanes = 16;

template <class T>
__global__ void softmax_row_kernel(SoftmaxProblem p, const float* logits, const int* labels,
                                   T* dlogits, SoftmaxRow* results) {
    const int row = blockIdx.x;
    const float* z = logits + int64_t(row) * p.ld_logits;
    T* dz = dlogits ? dlogits + int64_t(row) * p.ld_dlogits : nullptr;
    const int label = labels[row], whole = p.classes / kLanes * kLanes;
    if (label == -1) {
        if (dz)
            for (int j = 0; j < p.classes; ++j) dz[j] = from_float<T>(0.f);
        results[row] = {0, -1};
        return;
    }

    float lane_top[kLanes];
    WT_LANES
    for (int l = 0; l < kLanes; ++l) lane_top[l] = -INFINITY;
    for (int j = 0; j < whole; j += kLanes) WT_LANES
    for (int l = 0; l < kLanes; ++l) lane_top[l] = z[j + l] > lane_top[l] ? z[j + l] : lane_top[l];
    float top = -INFINITY;
    for (int l = 0; l < kLanes; ++l) top = fmaxf(top, lane_top[l]);
    // skips NaNs; the sum meets them
    for (int j = whole; j < p.classes; ++j) top = fmaxf(top, z[j]);

    // A label that is no class makes the loss NaN, which stops the training that fed it.
    const float chosen = label >= 0 && label < p.classes ? z[label] : NAN;
    float lane_sum[kLanes] = {};
    int lane_rank[kLanes] = {};
    for (int j = 0; j < whole; j += kLanes) WT_LANES
    for (int l = 0; l < kLanes; ++l) {
        const float v = z[j + l];
        lane_sum[l] += __expf(v - top);
        lane_rank[l] += int(v > chosen) | (int(v == chosen) & int(j + l < label));
    }
    float sum = 0, apart = 0;  // apart: from the label's logit, all others
    int rank = 0;
    for (int l = 0; l < kLanes; ++l) sum += lane_sum[l], rank += lane_rank[l];
    if (p.smoothing > 0) {
        float lane_apart[kLanes] = {};
        for (int j = 0; j < whole; j += kLanes) WT_LANES
        for (int l = 0; l < kLanes; ++l) lane_apart[l] += z[j + l] - chosen;
        for (int l = 0; l < kLanes; ++l) apart += lane_apart[l];
        for (int j = whole; j < p.classes; ++j) apart += z[j] - chosen;
    }
    for (int j = whole; j < p.classes; ++j) {
        sum += __expf(z[j] - top);
        rank += z[j] > chosen || (z[j] == chosen && j < label);
    }
    float loss = logf(sum) - (chosen - top);
    if (p.smoothing > 0) loss -= p.everywhere() * apart;
    results[row] = {loss, loss == loss ? rank : INT_MAX};

    if (!dz) return;
    const float factor = p.scale / sum, rest = p.scale * p.everywhere(),
                right = p.scale * (p.at_label() + p.everywhere());
    for (int j = 0; j < whole; j += kLanes) {
        float d[kLanes];
        WT_LANES
        for (int l = 0; l < kLanes; ++l) d[l] = factor * __expf(z[j + l] - top) - rest;
        WT_LANES
        for (int l = 0; l < kLanes; ++l) dz[j + l] = from_float<T>(d[l]);
    }
    for (int j = whole; j < p.classes; ++j)
        dz[j] = from_float<T>(factor * __expf(z[j] - top) - rest);
    if (label >= 0 && label < p.classes)
        dz[label] = from_float<T>(factor * __expf(chosen - top) - right);
}

void run(const SoftmaxProblem& p, const SoftmaxArgs& a) {
    auto* results = static_cast<SoftmaxRow*>(a.workspace);
    if (p.rows)
        by_dtype(p.dtype, [&]<class T>() {
            launch("softmax_row", {dim3(p.rows), dim3(1), a.stream}, softmax_row_kernel<T>, p,
                   a.logits, a.labels, static_cast<T*>(a.dlogits), results);
        });
    launch_softmax_stats(p, results, a.stats, a.stream);
}

}  // namespace

extern const Softmax variant;
const Softmax variant{.name = "row",
                      .refuses = fits_all<SoftmaxProblem>,
                      .workspace = softmax_rows_bytes,
                      .launch = run};

}  // namespace wt::softmax_row
