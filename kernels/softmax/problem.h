// Softmax cross-entropy with top-1 and top-5 counts, and its gradient.
//   loss_i      = log(sum_j exp(z_ij)) - sum_j q_ij z_ij      (max subtracted first)
//   dlogits_ij  = scale * (softmax(z_i)_j - q_ij)
//   q_ij        = (1 - smoothing) [j == label_i] + smoothing / classes
// With smoothing 0 that is plain cross-entropy; with another it is that of smoothed labels (Szegedy
// et al., arXiv 1512.00567, section 7), whose least value is above 0. Ranks do not depend on it.
//   rank_i      = number of classes that beat the label: z_ij > z_i,label, or equal with j < label
//                 top-1 correct when rank 0, top-5 when rank < 5
// A row with a NaN logit, or a label that is no class, has loss NaN (which stops a training) and is
// wrong. A row with label -1 (padding of the last batch of an evaluation) counts nowhere and has
// gradient 0.
#pragma once

#include <cuda_runtime.h>

#include "kernels/common/dtype.h"
#include "kernels/variant.h"

namespace wt {

struct SoftmaxStats {
    double loss_sum;  // over the counted rows, in an order that p.rows decides
    int rows;         // counted
    int top1, top5;   // correct
};

struct SoftmaxProblem {
    int rows = 1, classes = 1;
    int ld_logits = 1, ld_dlogits = 1;
    DType dtype = DType::f32;  // of dlogits; logits are fp32
    float scale = 1.f;         // of the gradient: 1 / global batch
    float smoothing = 0.f;     // of labels; 0 <= smoothing < 1

    // What every class has of the label, and what that one has besides.
    constexpr float everywhere() const { return smoothing / static_cast<float>(classes); }
    constexpr float at_label() const { return 1.f - smoothing; }

    double bytes() const { return double(rows) * classes * (4 + size_of(dtype)); }
};

struct SoftmaxArgs {
    static constexpr const char* operation = "softmax";

    const float* logits;
    const int* labels;
    void* dlogits;  // null: evaluation only
    // Of the device, or page-locked; overwritten. Null: the results of the rows stay in the
    // workspace, for launch_softmax_stats (row_result.h).
    SoftmaxStats* stats;
    void* workspace;  // per-row results before the ordered sum
    cudaStream_t stream;
};

const ProblemFields& fields_of(const SoftmaxProblem&);  // fields.cpp

using Softmax = Variant<SoftmaxProblem, SoftmaxArgs>;
Table<SoftmaxProblem, SoftmaxArgs> softmax_variants();

}  // namespace wt
