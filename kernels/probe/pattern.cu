#include "kernels/launch.h"
#include "kernels/probe/pattern.h"

namespace wt::probe {
namespace {

__device__ uint32_t word(int64_t i, uint32_t key) {
    uint32_t x = static_cast<uint32_t>(i) * 2654435761u ^ key;
    x ^= x >> 16;
    return x * 0x85EBCA6Bu ^ static_cast<uint32_t>(i >> 32);
}

__global__ void write_pattern_kernel(uint32_t* words, int64_t count, uint32_t key) {
    const int64_t step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step)
        words[i] = word(i, key);
}

__global__ void count_wrong_kernel(const uint32_t* words, int64_t count, uint32_t key,
                                   int64_t* wrong) {
    const int64_t thread = int64_t(blockIdx.x) * blockDim.x + threadIdx.x,
                  step = int64_t(gridDim.x) * blockDim.x;
    int64_t n = 0;
    for (int64_t i = thread; i < count; i += step) n += words[i] != word(i, key);
    wrong[thread] = n;
}

constexpr int kBlock = 256;
static_assert(kPatternThreads % kBlock == 0);

}  // namespace

void write_pattern(uint32_t* words, int64_t count, uint32_t key, cudaStream_t stream) {
    launch("write_pattern", {dim3(kPatternThreads / kBlock), dim3(kBlock), stream},
           write_pattern_kernel, words, count, key);
}

const void* pattern_kernel() { return reinterpret_cast<const void*>(&write_pattern_kernel); }

void count_wrong(const uint32_t* words, int64_t count, uint32_t key, int64_t* wrong,
                 cudaStream_t stream) {
    launch("count_wrong", {dim3(kPatternThreads / kBlock), dim3(kBlock), stream},
           count_wrong_kernel, words, count, key, wrong);
}

}  // namespace wt::probe
