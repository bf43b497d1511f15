// The small passes that turn our operands into what a vendor's library takes: types and sums its
// epilogues lack.
#pragma once

#include <cuda_runtime.h>

#include "kernels/common/dtype.h"

namespace wt::vendor {

// out[i] = in[i] rounded to bf16, i < count.
void round_to_bf16(const float* in, bf16* out, int64_t count, cudaStream_t);

// sums[i] = sum over k of a[k*lda + i], i < columns, k < rows, in the order of k.
void sum_columns(const void* a, DType, int rows, int columns, int lda, float* sums, cudaStream_t);

}  // namespace wt::vendor
