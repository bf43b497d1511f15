// Max pooling, overlapping when stride < window (Krizhevsky et al. 2012, section 3.4). NHWC.
//
//   y[n,p,q,c] = max over the window x[n, p*stride - pad + i, q*stride - pad + j, c], where what is
//                outside x is ignored
//   argmax[n,p,q,c] = i * window + j of the first maximum in row order (NaN wins, as in PyTorch)
//   dx gathers: each pixel sums dy of the windows that chose it, in row order. No atomics.
#pragma once

#include <cuda_runtime.h>

#include <compare>

#include "kernels/common/dtype.h"
#include "kernels/variant.h"

namespace wt {

struct PoolProblem {
    int n = 1, h = 1, w = 1, c = 1;
    int window = 3, stride = 2, pad = 0;  // window at most 15: argmax is one byte. pad < window.
    DType dtype = DType::f32;
    bool aligned = true;  // x, y, dy and dx lie on 16 bytes, argmax on 8; false: on any element

    constexpr int p() const { return (h + 2 * pad - window) / stride + 1; }
    constexpr int q() const { return (w + 2 * pad - window) / stride + 1; }
    constexpr int64_t x_count() const { return int64_t(n) * h * w * c; }
    constexpr int64_t y_count() const { return int64_t(n) * p() * q() * c; }
    double forward_bytes() const {
        return double(x_count() + y_count()) * size_of(dtype) + y_count();
    }
    double backward_bytes() const { return forward_bytes(); }
    auto operator<=>(const PoolProblem&) const = default;  // a key of caches
};

struct PoolForwardArgs {
    static constexpr const char* operation = "pool_forward";

    const void* x;
    void* y;
    uint8_t* argmax;  // y_count bytes
    void* workspace;
    cudaStream_t stream;
};

struct PoolBackwardArgs {
    static constexpr const char* operation = "pool_backward";

    const void* dy;
    const uint8_t* argmax;
    void* dx;  // overwritten
    void* workspace;
    cudaStream_t stream;
};

const ProblemFields& fields_of(const PoolProblem&);  // fields.cpp

using PoolForward = Variant<PoolProblem, PoolForwardArgs>;
using PoolBackward = Variant<PoolProblem, PoolBackwardArgs>;
Table<PoolProblem, PoolForwardArgs> pool_forward_variants();
Table<PoolProblem, PoolBackwardArgs> pool_backward_variants();

}  // namespace wt
