// Stochastic gradient descent with momentum and weight decay (Krizhevsky et al. 2012, section 5):
//   v <- momentum * v - weight_decay * lr * w - lr * g
//   w <- w + v
// with lr = state.lr * tensor.lr_scale. Also writes the bf16 copy the matrix units read, where
// asked. All tensors of a network in one launch.
#pragma once

#include <cuda_runtime.h>

#include "kernels/common/dtype.h"
#include "kernels/common/step_state.h"
#include "kernels/variant.h"

namespace wt {

struct SgdTensor {
    float* w;
    float* v;        // momentum
    const float* g;  // gradient
    bf16* w_bf16;    // null: no bf16 copy
    int64_t count;
    float weight_decay;
    float lr_scale;
};

inline constexpr int kSgdMaxTensors = 32;

struct SgdProblem {
    int tensors = 0;                               // at most kSgdMaxTensors
    int64_t total = 0;                             // elements of all tensors
    double bytes() const { return 20.0 * total; }  // w, v read and written, g read
};

struct SgdArgs {
    static constexpr const char* operation = "sgd";

    const SgdTensor* tensors;  // host array
    const StepState* state;    // device
    cudaStream_t stream;
};

const ProblemFields& fields_of(const SgdProblem&);  // fields.cpp

using Sgd = Variant<SgdProblem, SgdArgs>;
Table<SgdProblem, SgdArgs> sgd_variants();

}  // namespace wt
