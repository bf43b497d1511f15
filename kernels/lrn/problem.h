// Local response normalization across channels (Krizhevsky et al. 2012, section 3.3):
//
//   s_i = k + alpha * sum_{j = max(0, i - size/2)}^{min(c-1, i + size/2)} x_j^2
//   y_i = x_i * s_i^-beta
//   dx_i = dy_i s_i^-beta - 2 alpha beta x_i * sum_{j: |i-j| <= size/2} dy_j x_j s_j^(-beta-1)
//
// alpha multiplies the plain sum, as in the paper; divide it by `size` for the convention of
// cuda-convnet, Caffe and PyTorch. Rows of c channels, NHWC.
#pragma once

#include <cuda_runtime.h>

#include <compare>

#include "kernels/common/dtype.h"
#include "kernels/variant.h"

namespace wt {

struct LrnProblem {
    int64_t pixels = 1;  // n * h * w
    int c = 1;
    int size = 5;  // odd
    float alpha = 1e-4f, beta = 0.75f, k = 2.f;
    DType dtype = DType::f32;
    // every pointer of the arguments lies on 16 bytes; false: on any element
    bool aligned = true;

    constexpr int64_t count() const { return pixels * c; }
    double forward_bytes() const { return 2.0 * count() * size_of(dtype); }   // x, y
    double backward_bytes() const { return 3.0 * count() * size_of(dtype); }  // x, dy, dx
    auto operator<=>(const LrnProblem&) const = default;                      // a key of caches
};

struct LrnForwardArgs {
    static constexpr const char* operation = "lrn_forward";

    const void* x;
    void* y;
    void* workspace;
    cudaStream_t stream;
};

struct LrnBackwardArgs {
    static constexpr const char* operation = "lrn_backward";

    const void* x;
    const void* dy;
    void* dx;  // overwritten
    void* workspace;
    cudaStream_t stream;
};

const ProblemFields& fields_of(const LrnProblem&);  // fields.cpp

using LrnForward = Variant<LrnProblem, LrnForwardArgs>;
using LrnBackward = Variant<LrnProblem, LrnBackwardArgs>;
Table<LrnProblem, LrnForwardArgs> lrn_forward_variants();
Table<LrnProblem, LrnBackwardArgs> lrn_backward_variants();

}  // namespace wt
