#include "host/cuda/device.h"

#include <cstdio>

#ifdef VGPU
#include "host/vgpu/runtime/faults.h"
#endif

namespace wt {

int device_count() {
    int n = 0;
    if (cudaGetDeviceCount(&n) != cudaSuccess) {
        cudaGetLastError();
        return 0;
    }
    return n;
}

std::string device_name(int device) {
    cudaDeviceProp prop;
    WT_CUDA(cudaGetDeviceProperties(&prop, device));
    return prop.name;
}

int device_sm(int device) {
#ifdef VGPU
    const int sm = vgpu::compute_capability(device);
    return sm < 90 ? sm : 0;
#else
    int major = 0, minor = 0;
    WT_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    WT_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
    return major * 10 + minor;
#endif
}

size_t device_free_bytes(int device) {
    DeviceGuard guard(device);
    size_t free = 0, total = 0;
    WT_CUDA(cudaMemGetInfo(&free, &total));
    return free;
}

bool enable_peer_access(int from, int to) {
    if (from == to) return true;
    int can = 0;
    WT_CUDA(cudaDeviceCanAccessPeer(&can, from, to));
    if (!can) return false;
    DeviceGuard guard(from);
    const cudaError_t e = cudaDeviceEnablePeerAccess(to, 0);
    if (e == cudaErrorPeerAccessAlreadyEnabled) {
        cudaGetLastError();
        return true;
    }
    WT_CUDA(e);
    return true;
}

void* device_allocate(int device, size_t bytes, const char* what) {
    DeviceGuard guard(device);
    void* p = nullptr;
    const cudaError_t e = cudaMalloc(&p, bytes);
    if (e == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        throw Error("out of memory on GPU " + std::to_string(device) + ": " + human_bytes(bytes) +
                    " for " + what + ", " + human_bytes(device_free_bytes(device)) + " free");
    }
    WT_CUDA(e);
    return p;
}

void device_free(int device, void* p) noexcept {
    if (!p) return;
    int before = 0;
    cudaGetDevice(&before);
    if (before != device) cudaSetDevice(device);
    cudaFree(p);
    if (before != device) cudaSetDevice(before);
}

void* pinned_allocate(size_t bytes) {
    void* p = nullptr;
    const cudaError_t e = cudaMallocHost(&p, bytes);
    if (e == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        throw Error("out of page-locked host memory: " + human_bytes(bytes) + " asked for");
    }
    WT_CUDA(e);
    return p;
}

void pinned_free(void* p) noexcept {
    if (p) cudaFreeHost(p);
}

std::string human_bytes(size_t bytes) {
    char s[32];
    if (bytes >= size_t(1) << 30)
        std::snprintf(s, sizeof s, "%.2f GiB", bytes / double(size_t(1) << 30));
    else if (bytes >= size_t(1) << 20)
        std::snprintf(s, sizeof s, "%.1f MiB", bytes / double(size_t(1) << 20));
    else
        std::snprintf(s, sizeof s, "%zu bytes", bytes);
    return s;
}

}  // namespace wt
