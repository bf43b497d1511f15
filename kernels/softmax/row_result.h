// The second half of softmax cross-entropy: per-row results to SoftmaxStats.
#pragma once

#include "kernels/softmax/problem.h"

namespace wt {

struct alignas(8) SoftmaxRow {
    float loss;
    int rank;  // -1: the row counts nowhere. INT_MAX: wrong whatever the others are.
};

inline size_t softmax_rows_bytes(const SoftmaxProblem& p) { return p.rows * sizeof(SoftmaxRow); }

// Adds the rows' results in an order that only their number decides, so that the sum does not
// depend on the grid. Every variant ends with it; without `stats` nothing is launched, and the
// results stay where they are.
void launch_softmax_stats(const SoftmaxProblem&, const SoftmaxRow* rows, SoftmaxStats* stats,
                          cudaStream_t stream);

}  // namespace wt
