// Caches emptied by reading something else.
#include "kernels/common/pack.h"
#include "kernels/launch.h"
#include "kernels/probe/probe.h"

namespace wt::probe {
namespace {

using Words = Pack<uint32_t, 4>;  // 16 bytes

__global__ void flush_kernel(const Words* buffer, int64_t count, uint32_t never, Words* sink) {
    // A block reads a piece of its own, end to end.
    const int64_t piece = ceil_div(count, gridDim.x), end = min((blockIdx.x + 1) * piece, count);
    Words any = {{0, 0, 0, 0}};
    for (int64_t i = blockIdx.x * piece + threadIdx.x; i < end; i += blockDim.x) {
        const Words v = buffer[i];
        for (int j = 0; j < 4; ++j) any.v[j] |= v.v[j];
    }
    // The buffer is all zeros, which the compiler does not know: nothing is written, and no read
    // can be left out.
    if ((any.v[0] | any.v[1] | any.v[2] | any.v[3]) == never) *sink = any;
}

}  // namespace

void flush(const void* zeros, size_t bytes, cudaStream_t stream) {
#ifdef VGPU
    constexpr int kBlocks = 16, kThreads = 1;
#else
    constexpr int kBlocks = 1024, kThreads = 256;
#endif
    launch("flush", {dim3(kBlocks), dim3(kThreads), stream}, flush_kernel,
           static_cast<const Words*>(zeros), static_cast<int64_t>(bytes / sizeof(Words)), 1u,
           static_cast<Words*>(const_cast<void*>(zeros)));
}

}  // namespace wt::probe
