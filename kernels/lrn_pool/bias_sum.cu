// Adds blocks' partial sums of a bias gradient. 32 channels a block: a slice of its threads adds
// every kSlices-th block's sums, so that few loads lie one behind the other, then the slices are
// added.
#include "kernels/lrn_pool/bias_sum.h"

#include "kernels/launch.h"
#include "kernels/ptx/griddep.h"

namespace wt {
namespace {

constexpr int kSlices = 16;

struct SharedStorage {
    float slice[kSlices][32];
};

__global__ void lrn_pool_bias_sum_kernel(int blocks, int c, const float* partial, float* db) {
    ptx::griddep_wait();
    ptx::griddep_launch_dependents();
    auto& shared = shared_storage<SharedStorage>();
    const int lane = threadIdx.x % 32, slice = threadIdx.x / 32,
              i = static_cast<int>(blockIdx.x) * 32 + lane;
    float sum = 0;
    if (i < c) {
#pragma unroll 4
        for (int b = slice; b < blocks; b += kSlices) sum += partial[int64_t(b) * c + i];
    }
    shared.slice[slice][lane] = sum;
    __syncthreads();
    if (slice > 0 || i >= c) return;
    sum = 0;
    for (int k = 0; k < kSlices; ++k) sum += shared.slice[k][lane];
    db[i] = sum;
}

}  // namespace

void launch_lrn_pool_bias_sum(int blocks, int c, const float* partial, float* db,
                              cudaStream_t stream) {
    if (!c) return;
    launch("lrn_pool_bias_sum",
           LaunchShape{.grid = dim3(static_cast<unsigned>(ceil_div(c, 32))),
                       .block = dim3(32 * kSlices),
                       .stream = stream,
                       .shared = sizeof(SharedStorage)}
               .with_pdl(),
           lrn_pool_bias_sum_kernel, blocks, c, partial, db);
}

}  // namespace wt
