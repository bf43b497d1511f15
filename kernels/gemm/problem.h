// Matrix products of the fully connected layers. All matrices row-major with a leading dimension
// (elements from one row to the next), so that a shard's columns can live in a gathered buffer.
//
//   nt  fprop  C[m,n] = act( A[m,k] B[n,k]^T + bias[n] )   Y  = X W^T     m = batch, n = units, k = inputs
//   nn  dgrad  C[m,n] = A[m,k] B[k,n]                      dX = dY W      m = batch, n = inputs, k = units
//   tn  wgrad  C[m,n] = A[k,m]^T B[k,n]                    dW = dY^T X    m = units, n = inputs, k = batch
//              bias_grad[m] = sum_k A[k,m]
#pragma once

#include <cuda_runtime.h>

#include <compare>

#include "kernels/dtype.h"
#include "kernels/variant.h"

namespace wt {

enum class GemmLayout : uint8_t { nt, nn, tn };

struct GemmProblem {
    GemmLayout layout = GemmLayout::nt;
    int m = 1, n = 1, k = 1;
    int lda = 1, ldb = 1, ldc = 1;
    DType dtype = DType::f32;  // of A and B
    DType out = DType::f32;    // of C
    bool bias = false;         // nt: adds args.bias; tn: writes args.bias_grad
    bool relu = false;         // nt only

    double flops() const { return 2.0 * m * n * k; }
    double bytes() const {
        return (double(m) * k + double(n) * k) * size_of(dtype) + double(m) * n * size_of(out);
    }
    auto operator<=>(const GemmProblem&) const = default;  // a key of caches
};

struct GemmArgs {
    const void* a;
    const void* b;
    const float* bias;  // n, nt with problem.bias
    void* c;            // overwritten
    float* bias_grad;   // m, tn with problem.bias; overwritten
    void* workspace;
    cudaStream_t stream;
};

using Gemm = Variant<GemmProblem, GemmArgs>;
Table<GemmProblem, GemmArgs> gemm_variants();

}  // namespace wt
