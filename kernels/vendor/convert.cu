// One thread per result; these passes are a thousandth of the calls they serve, so they stay plain.
#include "kernels/vendor/convert.h"

#include "kernels/launch.h"

namespace wt::vendor {

static __global__ void round_to_bf16_kernel(const float* in, bf16* out, int64_t count) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < count) out[i] = from_float<bf16>(in[i]);
}

template <class T>
static __global__ void sum_columns_kernel(const T* a, int rows, int columns, int lda, float* sums) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= columns) return;
    float sum = 0;
    for (int k = 0; k < rows; ++k) sum += to_float(a[static_cast<int64_t>(k) * lda + i]);
    sums[i] = sum;
}

void round_to_bf16(const float* in, bf16* out, int64_t count, cudaStream_t stream) {
    launch("vendor.round_to_bf16", {dim3(ceil_div(count, 256)), dim3(256), stream},
           round_to_bf16_kernel, in, out, count);
}

void sum_columns(const void* a, DType type, int rows, int columns, int lda, float* sums,
                 cudaStream_t stream) {
    by_dtype(type, [&]<class T>() {
        launch("vendor.sum_columns", {dim3(ceil_div(columns, 64)), dim3(64), stream},
               sum_columns_kernel<T>, static_cast<const T*>(a), rows, columns, lda, sums);
    });
}

}  // namespace wt::vendor
