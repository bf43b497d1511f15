// The second half of a bias gradient: partial sums per block to db, in order.
#pragma once

#include <cuda_runtime.h>

namespace wt {

// db[i] = sum of partial[b * c + i] over b below `blocks`, in an order that depends on `blocks`
// alone.
void launch_lrn_pool_bias_sum(int blocks, int c, const float* partial, float* db,
                              cudaStream_t stream);

}  // namespace wt
