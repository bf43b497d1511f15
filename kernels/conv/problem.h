// 2-D convolution (cross-correlation, as every framework means it): extents, pointers, tables.
//
//   fprop  y[n,p,q,k]  = act( bias[k] + sum_{r,s,c} x[n, p*stride_h - pad_h + r, q*stride_w - pad_w + s, c] * w[k,r,s,c] )
//   dgrad  dx[n,h,w,c] = sum_{k,r,s} dy[n,p,q,k] * w[k,r,s,c]          over all p,q that read (h,w)
//   wgrad  dw[k,r,s,c] = sum_{n,p,q} dy[n,p,q,k] * x[n, p*stride_h - pad_h + r, ..., c]
//          db[k]       = sum_{n,p,q} dy[n,p,q,k]
//
// Layouts: activations NHWC, filters KRSC; with groups, filter k sees the c/groups input channels of
// its group (k / (K/groups)) only, so w is K x R x S x C/groups.
#pragma once

#include <cuda_runtime.h>

#include <compare>

#include "kernels/dtype.h"
#include "kernels/variant.h"

namespace wt {

struct ConvProblem {
    int n = 1, h = 1, w = 1, c = 1;  // input
    int k = 1, r = 1, s = 1;         // filters
    int stride_h = 1, stride_w = 1;
    int pad_h = 0, pad_w = 0;        // zeros on each side
    int groups = 1;                  // divides c and k
    DType dtype = DType::f32;        // of x, w, y, dy, dx. dw, db and bias are fp32.
    bool bias = true;                // fprop adds it, wgrad computes db
    bool relu = false;               // fprop only: y = max(0, .)

    int p() const { return (h + 2 * pad_h - r) / stride_h + 1; }  // output height
    int q() const { return (w + 2 * pad_w - s) / stride_w + 1; }  // output width
    int cg() const { return c / groups; }                         // input channels a filter sees
    int kg() const { return k / groups; }                         // filters of a group
    int64_t x_count() const { return int64_t(n) * h * w * c; }
    int64_t y_count() const { return int64_t(n) * p() * q() * k; }
    int64_t w_count() const { return int64_t(k) * r * s * cg(); }
    // Of any of the three passes.
    double flops() const { return 2.0 * y_count() * r * s * cg(); }
    // Each operand moved once.
    double bytes() const { return double(x_count() + y_count() + w_count()) * size_of(dtype); }
    auto operator<=>(const ConvProblem&) const = default;  // a key of caches
};

struct ConvFpropArgs {
    const void* x;
    const void* w;
    const float* bias;  // k, when problem.bias
    void* y;
    void* workspace;
    cudaStream_t stream;
};

struct ConvDgradArgs {
    const void* dy;
    const void* w;
    void* dx;  // overwritten
    void* workspace;
    cudaStream_t stream;
};

struct ConvWgradArgs {
    const void* x;
    const void* dy;
    float* dw;  // overwritten
    float* db;  // overwritten, when problem.bias
    void* workspace;
    cudaStream_t stream;
};

using ConvFprop = Variant<ConvProblem, ConvFpropArgs>;
using ConvDgrad = Variant<ConvProblem, ConvDgradArgs>;
using ConvWgrad = Variant<ConvProblem, ConvWgradArgs>;

Table<ConvProblem, ConvFpropArgs> conv_fprop_variants();
Table<ConvProblem, ConvDgradArgs> conv_dgrad_variants();
Table<ConvProblem, ConvWgradArgs> conv_wgrad_variants();

}  // namespace wt
