// The CUDA runtime for virtual GPUs: the API (cuda_runtime_api.h), what kernels use
// (vgpu/device.h), and the calls that know a kernel's parameter types.
#pragma once

#include <type_traits>
#include <utility>

#include "cuda_runtime_api.h"
#include "vgpu/device.h"
#include "vgpu/enqueue.h"
#include "vgpu/launch.h"

template <class T>
cudaError_t cudaMalloc(T** p, size_t bytes) {
    return cudaMalloc(reinterpret_cast<void**>(p), bytes);
}
template <class T>
cudaError_t cudaMallocAsync(T** p, size_t bytes, cudaStream_t stream) {
    return cudaMallocAsync(reinterpret_cast<void**>(p), bytes, stream);
}
template <class T>
cudaError_t cudaMallocHost(T** p, size_t bytes) {
    return cudaMallocHost(reinterpret_cast<void**>(p), bytes);
}
template <class T>
cudaError_t cudaHostAlloc(T** p, size_t bytes, unsigned flags) {
    return cudaHostAlloc(reinterpret_cast<void**>(p), bytes, flags);
}

// Starts kernel(args...), each argument converted to the kernel's parameter type and copied.
template <class... Params, class... Args>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params...),
                               Args&&... args) {
    static_assert(sizeof...(Params) == sizeof...(Args),
                  "as many arguments as the kernel has parameters");
    return [&](std::remove_cv_t<Params>... converted) {
        const void* each[] = {static_cast<const void*>(&converted)..., nullptr};
        return vgpu::launch(*config, reinterpret_cast<const void*>(kernel),
                            vgpu::signature<Params...>, each);
    }(std::forward<Args>(args)...);
}

template <class... Params>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Params...), cudaFuncAttribute attribute,
                                 int value) {
    vgpu::know(reinterpret_cast<const void*>(kernel), vgpu::signature<Params...>);
    return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}
template <class... Params>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void (*kernel)(Params...)) {
    vgpu::know(reinterpret_cast<const void*>(kernel), vgpu::signature<Params...>);
    return cudaFuncGetAttributes(attributes, reinterpret_cast<const void*>(kernel));
}
template <class... Params>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void (*kernel)(Params...),
                                                          int threads, size_t shared) {
    vgpu::know(reinterpret_cast<const void*>(kernel), vgpu::signature<Params...>);
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(
        blocks, reinterpret_cast<const void*>(kernel), threads, shared);
}
template <class... Params>
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, void (*kernel)(Params...),
                                           const cudaLaunchConfig_t* config) {
    vgpu::know(reinterpret_cast<const void*>(kernel), vgpu::signature<Params...>);
    return cudaOccupancyMaxActiveClusters(clusters, reinterpret_cast<const void*>(kernel), config);
}
template <class... Params>
cudaError_t cudaLaunchKernel(void (*kernel)(Params...), dim3 grid, dim3 block, void** args,
                             size_t shared = 0, cudaStream_t stream = nullptr) {
    vgpu::know(reinterpret_cast<const void*>(kernel), vgpu::signature<Params...>);
    return cudaLaunchKernel(reinterpret_cast<const void*>(kernel), grid, block, args, shared,
                            stream);
}
