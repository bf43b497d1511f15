// The one way a kernel is started, on real and virtual GPUs alike, and the one accessor of
// shared memory.
#pragma once

#include <cuda_runtime.h>

#include <utility>

#include "host/cuda/check.h"

namespace wt {

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct LaunchShape {
    dim3 grid;
    dim3 block;
    cudaStream_t stream;
    size_t shared = 0;     // bytes: sizeof the kernel's SharedStorage
    unsigned cluster = 1;  // blocks along x that run together; divides grid.x
};

// Starts kernel<<<shape>>>(args...). Throws wt::Error naming `name` when the launch is refused.
template <class... Params, class... Args>
void launch(const char* name, const LaunchShape& shape, void (*kernel)(Params...), Args&&... args) {
    if (shape.shared > 48 * 1024)  // more than the default needs an opt-in per kernel
        WT_CUDA(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     static_cast<int>(shape.shared)));
    cudaLaunchConfig_t config{};
    config.gridDim = shape.grid;
    config.blockDim = shape.block;
    config.dynamicSmemBytes = shape.shared;
    config.stream = shape.stream;
    cudaLaunchAttribute attributes[1];
    if (shape.cluster > 1) {
        attributes[0].id = cudaLaunchAttributeClusterDimension;
        attributes[0].val.clusterDim.x = shape.cluster;
        attributes[0].val.clusterDim.y = attributes[0].val.clusterDim.z = 1;
        config.attrs = attributes;
        config.numAttrs = 1;
    }
    if (cudaError_t e = cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...); e != cudaSuccess) {
        cudaGetLastError();
        throw Error(std::string("kernel ") + name + ": " + cudaGetErrorName(e) + " (" + cudaGetErrorString(e) +
                    "), grid " + std::to_string(shape.grid.x) + "x" + std::to_string(shape.grid.y) + "x" +
                    std::to_string(shape.grid.z) + ", block " + std::to_string(shape.block.x) + ", " +
                    std::to_string(shape.shared) + " bytes of shared memory");
    }
}

// A kernel's whole shared memory, as its one SharedStorage struct. The launch size is
// sizeof(Storage). No bare __shared__ arrays: clusters and virtual GPUs need the one base.
template <class Storage>
__device__ inline Storage& shared_storage() {
#ifdef VGPU
    return *static_cast<Storage*>(vgpu::shared_memory());
#else
    extern __shared__ __align__(1024) unsigned char shared_bytes[];
    return *reinterpret_cast<Storage*>(shared_bytes);
#endif
}

}  // namespace wt
