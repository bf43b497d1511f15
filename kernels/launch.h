// The one way a kernel is started, on real and virtual GPUs alike, and the one accessor of
// shared memory.
#pragma once

#include <cuda_runtime.h>

#include <unordered_map>
#include <utility>

#include "host/cuda/check.h"

namespace wt {

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Whether early() has an effect: bin/train --early off, to see what it gains.
inline bool early_starts = true;

struct LaunchShape {
    dim3 grid;
    dim3 block;
    cudaStream_t stream;
    size_t shared = 0;     // bytes: sizeof the kernel's SharedStorage
    unsigned cluster = 1;  // blocks along x that run together; divides grid.x
    bool dependent = false;

    // The same for a kernel that may start while the one before it in the stream still runs (programmatic dependent launch):
    // its launch latency and its blocks' first instructions are hidden. What that gains is not measured yet (gpu-report times a
    // step without). Only for kernels in which every thread calls ptx::griddep_wait() before it touches global memory (make
    // RACES=1 looks at that): one that does not wait reads what is not written yet, and the kernel after it, which waits for
    // this one only, would not even know that the one before is still running. And not for those that load through const
    // __restrict__ pointers: a compiler may take such data for constant, and load it before the wait.
    LaunchShape early() const {
        LaunchShape s = *this;
        s.dependent = true;
        return s;
    }
};

// Whether the code that runs for this kernel has the wait: on sm_80 there is none, and code for sm_80 that the driver has
// translated for a newer GPU has none either.
inline bool can_wait(const void* kernel) {
    thread_local std::unordered_map<const void*, bool> known;  // the answer takes microseconds
    const auto [at, fresh] = known.try_emplace(kernel, false);
    if (fresh) {
        cudaFuncAttributes a{};
        WT_CUDA(cudaFuncGetAttributes(&a, kernel));
        at->second = a.ptxVersion >= 90;
    }
    return at->second;
}

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
    cudaLaunchAttribute attributes[2];
    config.attrs = attributes;
    if (shape.cluster > 1) {
        cudaLaunchAttribute& a = attributes[config.numAttrs++];
        a.id = cudaLaunchAttributeClusterDimension;
        a.val.clusterDim.x = shape.cluster;
        a.val.clusterDim.y = a.val.clusterDim.z = 1;
    }
    if (shape.dependent && early_starts && can_wait(reinterpret_cast<const void*>(kernel))) {
        cudaLaunchAttribute& a = attributes[config.numAttrs++];
        a.id = cudaLaunchAttributeProgrammaticStreamSerialization;
        a.val.programmaticStreamSerializationAllowed = 1;
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
