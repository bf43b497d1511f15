// Devices: which is current, what they are, and allocation with messages a user can act on.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <string>

#include "host/cuda/check.h"

namespace wt {

// Makes a device current for a scope and restores the one before.
class DeviceGuard {
public:
    explicit DeviceGuard(int device) {
        WT_CUDA(cudaGetDevice(&before_));
        if (before_ != device) WT_CUDA(cudaSetDevice(device));
        changed_ = before_ != device;
    }
    ~DeviceGuard() {
        if (changed_) cudaSetDevice(before_);
    }
    DeviceGuard(const DeviceGuard&) = delete;
    DeviceGuard& operator=(const DeviceGuard&) = delete;

private:
    int before_ = 0;
    bool changed_ = false;
};

int device_count();                   // 0 where there is none
std::string device_name(int device);  // "NVIDIA H200", "virtual GPU 0"
// 90 for compute capability 9.0. 0 for a virtual GPU, which runs the code of all architectures and
// is planned for as a CPU; but one that is told to be older than 9.0 (VGPU_CAPABILITY) is planned
// for as the GPU that it stands for, and refuses what that one lacks.
int device_sm(int device);
size_t device_free_bytes(int device);

// Lets every listed device read and write every other's memory, where the hardware can. Returns
// false when some pair cannot.
bool enable_peer_access(int from, int to);

// Behind DeviceBuffer and PinnedBuffer. Freeing never throws.
void* device_allocate(int device, size_t bytes, const char* what);
void device_free(int device, void* p) noexcept;
void* pinned_allocate(size_t bytes);
void pinned_free(void* p) noexcept;

// "1.50 GiB", "12.0 MiB", "512 bytes".
std::string human_bytes(size_t bytes);

}  // namespace wt
