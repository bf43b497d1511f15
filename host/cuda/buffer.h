// Move-only owners of device and pinned host memory. Both remember where they belong.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "host/cuda/device.h"

namespace wt {

// `count` elements of T on one device, freed under that device whichever is current. A failed
// allocation throws wt::Error that says how much was asked for, for what, and what is free.
template <class T>
class DeviceBuffer {
public:
    DeviceBuffer() = default;
    DeviceBuffer(int device, size_t count, const char* what = "buffer")
        : device_(device), count_(count) {
        if (count) data_ = static_cast<T*>(device_allocate(device, count * sizeof(T), what));
    }
    DeviceBuffer(DeviceBuffer&& o) noexcept { swap(o); }
    DeviceBuffer& operator=(DeviceBuffer&& o) noexcept {
        DeviceBuffer(std::move(o)).swap(*this);
        return *this;
    }
    ~DeviceBuffer() { device_free(device_, data_); }

    T* data() const { return data_; }
    size_t size() const { return count_; }
    size_t bytes() const { return count_ * sizeof(T); }
    int device() const { return device_; }

    // Blocking copies, for set-up and tests. From pageable memory cudaMemcpy may return before the
    // last bytes have arrived, and streams of ours do not wait for the default stream: hence the
    // wait.
    void upload(const T* host, size_t count) {
        DeviceGuard guard(device_);
        WT_CUDA(cudaMemcpy(data_, host, count * sizeof(T), cudaMemcpyHostToDevice));
        WT_CUDA(cudaStreamSynchronize(nullptr));
    }
    void upload(const std::vector<T>& host) { upload(host.data(), host.size()); }
    std::vector<T> download() const {
        DeviceGuard guard(device_);
        std::vector<T> host(count_);
        if (count_) WT_CUDA(cudaMemcpy(host.data(), data_, bytes(), cudaMemcpyDeviceToHost));
        return host;
    }

private:
    void swap(DeviceBuffer& o) noexcept {
        std::swap(data_, o.data_), std::swap(count_, o.count_), std::swap(device_, o.device_);
    }
    int device_ = 0;
    size_t count_ = 0;
    T* data_ = nullptr;
};

// Page-locked host memory: what an asynchronous copy needs to be asynchronous.
template <class T>
class PinnedBuffer {
public:
    PinnedBuffer() = default;
    explicit PinnedBuffer(size_t count) : count_(count) {
        if (count) data_ = static_cast<T*>(pinned_allocate(count * sizeof(T)));
    }
    PinnedBuffer(PinnedBuffer&& o) noexcept { swap(o); }
    PinnedBuffer& operator=(PinnedBuffer&& o) noexcept {
        PinnedBuffer(std::move(o)).swap(*this);
        return *this;
    }
    ~PinnedBuffer() { pinned_free(data_); }

    T* data() const { return data_; }
    T& operator[](size_t i) const { return data_[i]; }
    size_t size() const { return count_; }
    size_t bytes() const { return count_ * sizeof(T); }

private:
    void swap(PinnedBuffer& o) noexcept { std::swap(data_, o.data_), std::swap(count_, o.count_); }
    T* data_ = nullptr;
    size_t count_ = 0;
};

}  // namespace wt
