// A convolution with bias and ReLU, and max pooling of what it leaves, fused: the convolution's
// result goes through no memory. (kernels/conv and kernels/pool define both.)
//
//   y, argmax = maxpool(max(0, conv(x, w) + bias))
//               argmax as in kernels/pool, i * window + j of the first maximum, NaN wins; but
//               closed_place() (kernels/lrn_pool) where the maximum is not above 0
//
// The maximum is of numbers that are rounded to the storage type. What the gradient needs is in
// argmax: a window that the ReLU closed has chosen no pixel, so pooling's gradient asks neither the
// convolution's result nor y (kernels/lrn_pool without lrn and relu).
//
// One group; stride and padding of the filter are the same down and across, no window's maximum is
// of padding. x and w as in kernels/conv, folded and in planes too. Every pointer lies on 16 bytes.
#pragma once

#include <cuda_runtime.h>

#include <compare>

#include "kernels/conv/problem.h"
#include "kernels/lrn_pool/problem.h"

namespace wt {

struct ConvPoolProblem {
    int n = 1, h = 1, w = 1, c = 1;     // input
    int k = 1, r = 1, s = 1;            // filters
    int stride = 1, pad = 0;            // of the convolution
    int window = 3, window_stride = 2;  // of the pooling
    int fold = 1;                       // how x is stored
    bool planes = false;                // with fold
    DType dtype = DType::f32;           // of x, w and y; bias is fp32
    bool tf32 = false;                  // as in kernels/conv

    constexpr ConvProblem conv() const {
        return {.n = n,
                .h = h,
                .w = w,
                .c = c,
                .k = k,
                .r = r,
                .s = s,
                .stride_h = stride,
                .stride_w = stride,
                .pad_h = pad,
                .pad_w = pad,
                .dtype = dtype,
                .relu = true,
                .tf32 = tf32,
                .fold = fold,
                .planes = planes};
    }
    PoolProblem pool() const {
        return {.n = n,
                .h = conv().p(),
                .w = conv().q(),
                .c = k,
                .window = window,
                .stride = window_stride,
                .dtype = dtype};
    }
    int64_t x_count() const { return conv().x_count(); }
    int64_t w_count() const { return conv().w_count(); }
    int64_t y_count() const { return pool().y_count(); }
    double flops() const { return conv().flops(); }
    // x, w, y and argmax once.
    double bytes() const {
        return double(x_count() + w_count() + y_count()) * size_of(dtype) + double(y_count());
    }
    auto operator<=>(const ConvPoolProblem&) const = default;  // a key of caches
};

struct ConvPoolForwardArgs {
    static constexpr const char* operation = "conv_pool_forward";

    const void* x;
    const void* w;
    const float* bias;  // k
    void* y;
    uint8_t* argmax;  // y_count bytes
    void* workspace;
    cudaStream_t stream;
};

const ProblemFields& fields_of(const ConvPoolProblem&);  // fields.cpp

using ConvPoolForward = Variant<ConvPoolProblem, ConvPoolForwardArgs>;
Table<ConvPoolProblem, ConvPoolForwardArgs> conv_pool_forward_variants();

inline std::string conv_pool_refuses(const ConvPoolProblem& p) {
    if (p.window < 1 || p.window > 15) return "window must be 1 to 15: argmax is one byte";
    if (p.window > p.conv().p() || p.window > p.conv().q())
        return "the window must fit the convolution's result";
    return {};
}

}  // namespace wt
