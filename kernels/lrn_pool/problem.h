// What follows a convolution in AlexNet, fused: local response normalization and max pooling
// (kernels/lrn and kernels/pool define both) with no tensor between them, and the way back with the
// ReLU's and the bias's gradient.
//
//   forward   y, argmax = maxpool(lrn(x))
//             argmax as in kernels/pool: i * window + j of the first maximum, NaN wins; but with
//             lrn and relu closed_place() where the maximum is not above 0: its gradient ends
//             there, and backward need not compare every x with 0
//   backward  g  = what the windows that chose a pixel send it (pool backward)
//             dx = lrn backward of g, its s recomputed from x; with relu: 0 where x is not above 0
//             (or NaN, where a neighbouring channel's gradient is not finite)
//             db[c] = sum of dx[.., c] over all pixels, fp32, in an order that only the problem
//                     decides
//
// x is the output of the convolution (bias and ReLU applied). With lrn = false there is no
// normalization: forward is max pooling, and backward asks y instead of x: a window's maximum is
// above 0 exactly when the pixel it chose is, and y has a quarter of the elements. (Behind
// kernels/conv_pool, whose argmax says so itself, it is asked with relu = false.) A variant may
// take the maximum before or after lrn(x) is rounded to the storage type: y is the same, but of
// numbers that round to one the second may be chosen. db may sum dx before or after too.
#pragma once

#include <cuda_runtime.h>

#include <compare>

#include "kernels/lrn/problem.h"
#include "kernels/pool/problem.h"

namespace wt {

// The argmax of a window that sends its gradient to no pixel: no place of it.
constexpr int closed_place(int window) { return window * window; }

struct LrnPoolProblem {
    int n = 1, h = 1, w = 1, c = 1;
    int window = 3, stride = 2, pad = 0;  // of the pooling; pad < window <= 15
    int size = 5;                         // of the normalization; odd
    float alpha = 1e-4f, beta = 0.75f, k = 2.f;
    DType dtype = DType::f32;
    bool lrn = true;
    bool relu = true, bias = true;  // of backward: x is a ReLU's output; db is wanted
    bool aligned = true;            // as in kernels/pool

    constexpr PoolProblem pool() const { return {n, h, w, c, window, stride, pad, dtype, aligned}; }
    constexpr LrnProblem norm() const {
        return {int64_t(n) * h * w, c, size, alpha, beta, k, dtype, aligned};
    }
    constexpr int p() const { return pool().p(); }
    constexpr int q() const { return pool().q(); }
    constexpr int64_t x_count() const { return pool().x_count(); }
    constexpr int64_t y_count() const { return pool().y_count(); }
    // Whether argmax has closed_place() where the maximum is not above 0.
    constexpr bool closes() const { return lrn && relu; }
    double forward_bytes() const { return pool().forward_bytes(); }  // x, y, argmax
    // dx, dy, argmax, and either x, or y to know where the ReLU was open
    double backward_bytes() const {
        return pool().backward_bytes() + double(lrn    ? x_count()
                                                : relu ? y_count()
                                                       : 0) *
                                             size_of(dtype);
    }
    auto operator<=>(const LrnPoolProblem&) const = default;  // a key of caches
};

struct LrnPoolForwardArgs {
    static constexpr const char* operation = "lrn_pool_forward";

    const void* x;
    void* y;
    uint8_t* argmax;  // y_count bytes
    void* workspace;
    cudaStream_t stream;
};

struct LrnPoolBackwardArgs {
    static constexpr const char* operation = "lrn_pool_backward";

    const void* x;  // with lrn; else not read, may be null
    const void* y;  // without lrn and with relu; else not read, may be null
    const void* dy;
    const uint8_t* argmax;
    void* dx;   // overwritten
    float* db;  // c; with bias; overwritten
    void* workspace;
    cudaStream_t stream;
};

const ProblemFields& fields_of(const LrnPoolProblem&);  // fields.cpp

using LrnPoolForward = Variant<LrnPoolProblem, LrnPoolForwardArgs>;
using LrnPoolBackward = Variant<LrnPoolProblem, LrnPoolBackwardArgs>;
Table<LrnPoolProblem, LrnPoolForwardArgs> lrn_pool_forward_variants();
Table<LrnPoolProblem, LrnPoolBackwardArgs> lrn_pool_backward_variants();

inline std::string lrn_pool_refuses(const LrnPoolProblem& p) {
    if (p.window < 1 || p.window > 15) return "window must be 1 to 15: argmax is one byte";
    if (p.pad < 0 || p.pad >= p.window) return "pad must be less than the window";
    if (p.lrn && p.size % 2 == 0) return "size must be odd";
    return {};
}

}  // namespace wt
