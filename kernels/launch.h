// The one way a kernel is started, on real and virtual GPUs alike, and the one accessor of
// shared memory.
#pragma once

#include <cuda_runtime.h>

#include <utility>

#include "host/cuda/check.h"

namespace wt {

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Whether with_pdl() has an effect: bin/train --pdl off shows what it gains.
inline bool pdl_enabled = true;

struct LaunchShape {
    dim3 grid;
    dim3 block;
    cudaStream_t stream;
    size_t shared = 0;     // bytes: sizeof the kernel's SharedStorage
    unsigned cluster = 1;  // blocks along x that run together; divides grid.x
    bool pdl = false;      // programmatic dependent launch: with_pdl()

    // Programmatic dependent launch (PDL): the kernel may start while the one before it in the
    // stream still runs, so that its launch latency and its blocks' first instructions are hidden.
    // What that gains is not measured yet (gpu-report times a step without). It is only for kernels
    // in which every thread calls ptx::griddep_wait() before it touches global memory (make RACES=1
    // checks that): one that does not wait reads what is not written yet, and the kernel after it,
    // which waits for this one only, would not even know that the one before is still running. And
    // it is not for kernels that load through const __restrict__ pointers: a compiler may take such
    // data for constant, and load it before the wait.
    LaunchShape with_pdl() const {
        LaunchShape s = *this;
        s.pdl = true;
        return s;
    }
};

// A shape as the runtime takes it, for one kernel. Not in the template below, which is compiled for
// every kernel.
class LaunchConfig {
public:
    LaunchConfig(const LaunchShape& shape, const void* kernel);
    LaunchConfig(const LaunchConfig&) = delete;
    const cudaLaunchConfig_t* get() const { return &config_; }

private:
    cudaLaunchConfig_t config_{};
    cudaLaunchAttribute attributes_[2];
};
[[noreturn]] void throw_refused(const char* name, const LaunchShape& shape, cudaError_t error);

// Starts kernel<<<shape>>>(args...). Throws wt::Error naming `name` when the launch is refused.
template <class... Params, class... Args>
void launch(const char* name, const LaunchShape& shape, void (*kernel)(Params...), Args&&... args) {
    const LaunchConfig config(shape, reinterpret_cast<const void*>(kernel));
    const cudaError_t e = cudaLaunchKernelEx(config.get(), kernel, std::forward<Args>(args)...);
    if (e != cudaSuccess) throw_refused(name, shape, e);
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
