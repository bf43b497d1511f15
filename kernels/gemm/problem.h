// Matrix products of the fully connected layers. All matrices row-major with a leading dimension
// (elements from one row to the next), so that a shard's columns can live in a gathered buffer.
//
//   nt  fprop  C[m,n] = act( A[m,k] B[n,k]^T + bias[n] )  Y  = X W^T   m batch, n units,  k inputs
//   nn  dgrad  C[m,n] = A[m,k] B[k,n]                     dX = dY W    m batch, n inputs, k units
//   tn  wgrad  C[m,n] = A[k,m]^T B[k,n]                   dW = dY^T X  m units, n inputs, k batch
//              bias_grad[m] = sum_k A[k,m]
//
// Epilogues, each in the order of the layer it belongs to:
//   nt  bias, ReLU, then dropout (kernels/dropout/problem.h) of element (row0 + m, col0 + n) with
//       probability p
//   nn  drelu: C = mask[m,n] > 0 ? mask_scale * C : 0. With mask the stored output of a layer with
//       ReLU and dropout and mask_scale = 1 / (1 - p), this is both of their gradients: what was
//       dropped is stored as 0.
//   tn  sgd: the gradient is not stored; weights and momentum are updated in place
//       (kernels/sgd/problem.h). bias_grad, where asked for, is stored as ever.
#pragma once

#include <cuda_runtime.h>

#include <compare>

#include <string>

#include "kernels/common/dtype.h"
#include "kernels/common/step_state.h"
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
    float dropout = 0;         // nt only: probability of zeroing
    bool drelu = false;        // nn only
    bool sgd = false;          // tn only: C is the fp32 weights, ldc between their rows; out is f32
    // fp32 operands may be rounded to tf32 (10 bits of fraction) for the matrix units
    bool tf32 = false;
    bool aligned = true;  // the first elements of A and B lie on 16 bytes; false: on any element

    double flops() const { return 2.0 * m * n * k; }
    double bytes() const {
        return (double(m) * k + double(n) * k) * size_of(dtype) +
               double(m) * n * (sgd ? 18 : size_of(out));
    }
    auto operator<=>(const GemmProblem&) const = default;  // a key of caches
};

struct GemmArgs {
    static constexpr const char* operation = "gemm";

    const void* a;
    const void* b;
    const float* bias;  // n, nt with problem.bias
    void* c;            // overwritten; sgd: the fp32 weights
    float* bias_grad;   // m, tn with problem.bias; overwritten
    void* workspace;
    cudaStream_t stream;

    // Dropout and SGD read seed, step, rate and momentum from the device.
    const StepState* state = nullptr;
    uint32_t layer = 0;          // dropout: number of the layer in the network
    int64_t row0 = 0, col0 = 0;  // dropout: of C in the whole batch and layer
    const void* mask = nullptr;  // drelu: as C's type, leading dimension ld_mask
    int64_t ld_mask = 0;
    float mask_scale = 1;
    float* momentum = nullptr;  // sgd: as C
    bf16* w_bf16 = nullptr;     // sgd: bf16 copy of the new weights, as C; null: none
    float weight_decay = 0, lr_scale = 1;
};

// Why a variant that knows only the plain product cannot do this, "" when it can.
inline std::string refuses_fusions(const GemmProblem& p) {
    if (p.dropout > 0) return "no dropout in the epilogue";
    if (p.drelu) return "no gradient of ReLU in the epilogue";
    if (p.sgd) return "no SGD in the epilogue";
    return "";
}

const ProblemFields& fields_of(const GemmProblem&);  // fields.cpp

using Gemm = Variant<GemmProblem, GemmArgs>;
Table<GemmProblem, GemmArgs> gemm_variants();

}  // namespace wt
