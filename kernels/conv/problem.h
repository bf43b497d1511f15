// 2-D convolution (cross-correlation, as every framework means it): extents, pointers, tables.
//
//   fprop  y[n,p,q,k]  = act( bias[k] + sum_{r,s,c} x[n, p*stride_h - pad_h + r,
//                                                     q*stride_w - pad_w + s, c] * w[k,r,s,c] )
//   dgrad  dx[n,h,w,c] = sum_{k,r,s} dy[n,p,q,k] * w[k,r,s,c]          over all p,q that read (h,w)
//          with drelu: 0 where x[n,h,w,c] is not above 0 (x being the output of a ReLU)
//   wgrad  dw[k,r,s,c] = sum_{n,p,q} dy[n,p,q,k] * x[n, p*stride_h - pad_h + r, ..., c]
//          db[k]       = sum_{n,p,q} dy[n,p,q,k]
//
// Every pointer lies on 16 bytes. Layouts: activations NHWC, filters KRSC; with groups, filter k
// sees the c/groups input channels of its group (k / (K/groups)) only, so w is K x R x S x
// C/groups.
//
// Folded input (space to depth), for first layers whose 3 channels are no whole 16 bytes: with fold
// = f > 1 x is stored as n x fold_h x fold_w x (f f c), where element [i, j, (a f + b) c + ch] is
// pixel (f i + a - pad_h, f j + b - pad_w) of the image, zero outside it: the padding is stored. f
// must be both strides; then the convolution is one of stride 1 over blocks of ceil(r/f) x
// ceil(s/f) taps of f f c channels.
//
// With `planes` too, the same blocks are stored as planes of 8 channels (kernels/common/planes.h),
// position (n fold_h + i) fold_w + j; f f c is a multiple of 8. Hopper's first-layer kernels read
// those and nothing else; mma_sm80, which gathers 16 bytes at a time anyway, reads blocks one after
// the other, and in fp32 too.
#pragma once

#include <cuda_runtime.h>

#include <compare>

#include "kernels/common/dtype.h"
#include "kernels/common/planes.h"
#include "kernels/variant.h"

namespace wt {

struct ConvProblem {
    int n = 1, h = 1, w = 1, c = 1;  // input
    int k = 1, r = 1, s = 1;         // filters
    int stride_h = 1, stride_w = 1;
    int pad_h = 0, pad_w = 0;  // zeros on each side
    int groups = 1;            // divides c and k
    DType dtype = DType::f32;  // of x, w, y, dy, dx. dw, db and bias are fp32.
    bool bias = true;          // fprop adds it, wgrad computes db
    bool relu = false;         // fprop only: y = max(0, .)
    bool drelu = false;        // dgrad only: see above
    // fp32 operands may be rounded to tf32 (10 bits of fraction) for the matrix units
    bool tf32 = false;
    int fold = 1;         // how x is stored, fprop and wgrad: see above
    bool planes = false;  // with fold: see above

    int p() const { return (h + 2 * pad_h - r) / stride_h + 1; }  // output height
    int q() const { return (w + 2 * pad_w - s) / stride_w + 1; }  // output width
    int cg() const { return c / groups; }                         // input channels a filter sees
    int kg() const { return k / groups; }                         // filters of a group
    // blocks that are read, down and across
    int fold_h() const { return p() - 1 + (r + fold - 1) / fold; }
    int fold_w() const { return q() - 1 + (s + fold - 1) / fold; }
    int64_t positions() const { return int64_t(n) * fold_h() * fold_w(); }  // with fold: blocks
    int64_t x_count() const {
        if (fold == 1) return int64_t(n) * h * w * c;
        return (planes ? plane_pitch(positions()) : positions()) * fold * fold * c;
    }
    int64_t y_count() const { return int64_t(n) * p() * q() * k; }
    int64_t w_count() const { return int64_t(k) * r * s * cg(); }
    // Each of the three passes takes as many.
    double flops() const { return 2.0 * y_count() * r * s * cg(); }
    // What is moved when each operand is moved once.
    double bytes() const { return double(x_count() + y_count() + w_count()) * size_of(dtype); }
    auto operator<=>(const ConvProblem&) const = default;  // a key of caches
};

struct ConvFpropArgs {
    static constexpr const char* operation = "conv_fprop";

    const void* x;
    const void* w;
    const float* bias;  // k, when problem.bias
    void* y;
    void* workspace;
    cudaStream_t stream;
};

struct ConvDgradArgs {
    static constexpr const char* operation = "conv_dgrad";

    const void* dy;
    const void* w;
    void* dx;  // overwritten
    void* workspace;
    cudaStream_t stream;
    const void* x = nullptr;  // with problem.drelu: the layer's input
};

struct ConvWgradArgs {
    static constexpr const char* operation = "conv_wgrad";

    const void* x;
    const void* dy;
    float* dw;  // overwritten
    float* db;  // overwritten, when problem.bias
    void* workspace;
    cudaStream_t stream;
};

// Why a pass cannot have what the problem asks for, "" when it can: for variants that know only the
// plain problem.
inline std::string refuses_fusions(const ConvProblem& p) {
    if (p.drelu) return "no gradient of ReLU in the epilogue";
    if (p.fold > 1) return "does not read folded input";
    return "";
}

const ProblemFields& fields_of(const ConvProblem&);  // fields.cpp

using ConvFprop = Variant<ConvProblem, ConvFpropArgs>;
using ConvDgrad = Variant<ConvProblem, ConvDgradArgs>;
using ConvWgrad = Variant<ConvProblem, ConvWgradArgs>;

Table<ConvProblem, ConvFpropArgs> conv_fprop_variants();
Table<ConvProblem, ConvDgradArgs> conv_dgrad_variants();
Table<ConvProblem, ConvWgradArgs> conv_wgrad_variants();

}  // namespace wt
