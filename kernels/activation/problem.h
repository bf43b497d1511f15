// ReLU and tanh on a rows x cols matrix with leading dimensions.
//   forward   y = max(0, x)          y = tanh(x)
//   backward  dx = dy * (y > 0)      dx = dy * (1 - y^2)    from the output y, which is kept
#pragma once

#include <cuda_runtime.h>

#include "kernels/common/dtype.h"
#include "kernels/variant.h"

namespace wt {

enum class Activation : uint8_t { relu, tanh };

struct ActivationProblem {
    int64_t rows = 1, cols = 1;
    int64_t ld_y = 1;   // of y, in both passes, and of x
    int64_t ld_dy = 1;  // of dy and dx
    Activation kind = Activation::relu;
    DType dtype = DType::f32;

    constexpr int64_t count() const { return rows * cols; }
    double forward_bytes() const { return 2.0 * count() * size_of(dtype); }
    double backward_bytes() const { return 3.0 * count() * size_of(dtype); }
};

struct ActivationForwardArgs {
    static constexpr const char* operation = "activation_forward";

    const void* x;
    void* y;  // may be x
    cudaStream_t stream;
};

struct ActivationBackwardArgs {
    static constexpr const char* operation = "activation_backward";

    const void* y;
    const void* dy;
    void* dx;  // may be dy
    cudaStream_t stream;
};

const ProblemFields& fields_of(const ActivationProblem&);  // fields.cpp

using ActivationForward = Variant<ActivationProblem, ActivationForwardArgs>;
using ActivationBackward = Variant<ActivationProblem, ActivationBackwardArgs>;
Table<ActivationProblem, ActivationForwardArgs> activation_forward_variants();
Table<ActivationProblem, ActivationBackwardArgs> activation_backward_variants();

}  // namespace wt
