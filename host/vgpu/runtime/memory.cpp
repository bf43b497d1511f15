// Memory: allocation, copies, fills, and what a pointer is.

#include <sys/mman.h>

#include <cstring>

#include "host/vgpu/runtime/runtime.h"

namespace vgpu {

const Runtime::Pinned* Runtime::find_pinned(const void* p, size_t bytes, uint64_t* base) const {
    const uint64_t a = reinterpret_cast<uint64_t>(p);
    auto it = pinned.upper_bound(a);
    if (it == pinned.begin()) return nullptr;
    --it;
    if (a - it->first > it->second.bytes || bytes > it->second.bytes - (a - it->first))
        return nullptr;
    if (base) *base = it->first;
    return &it->second;
}

std::string check_range(const Runtime& rt, const void* p, size_t pitch, size_t width,
                        size_t height) {
    const int owner = owner_of(p);
    const size_t bytes = height ? pitch * (height - 1) + width : 0;
    if (owner < 0 || (owner < static_cast<int>(rt.devices.size()) &&
                      rt.devices[owner]->arena.contains(p, bytes)))
        return {};
    char text[64];
    std::snprintf(text, sizeof text, "%zu bytes at %p", bytes, p);
    std::string s = text;
    const auto live = owner < static_cast<int>(rt.devices.size()) ? rt.devices[owner]->arena.find(p)
                                                                  : std::pair<uint64_t, size_t>{};
    if (live.first)
        return s + " pass the end of an allocation of " + std::to_string(live.second) +
               " bytes on device " + std::to_string(owner);
    return s + " are in no live allocation of device " + std::to_string(owner);
}

namespace {

cudaError_t no_stream() { return explain(cudaErrorInvalidResourceHandle, "not a live stream"); }

std::string bytes_text(size_t n) { return std::to_string(n) + " bytes"; }

cudaError_t allocate(Runtime& rt, Lock& lock, void** p, size_t bytes, int device) {
    *p = nullptr;
    if (bytes == 0) return cudaSuccess;
    Arena& arena = rt.devices[device]->arena;
    *p = arena.allocate(bytes);
    if (!*p && !rt.on_dispatcher()) {
        rt.wait_device(lock, device);  // frees in streams
        *p = arena.allocate(bytes);
    }
    if (*p) return cudaSuccess;
    return explain(cudaErrorMemoryAllocation,
                   bytes_text(bytes) + " asked for on device " + std::to_string(device) + ", " +
                       std::to_string(arena.limit() - arena.used()) + " of " +
                       std::to_string(arena.limit()) + " free (VGPU_MEMORY)");
}

// The device that p is the start of a live allocation of; -1 otherwise.
int allocation_owner(const Runtime& rt, const void* p) {
    const int d = owner_of(p);
    if (d < 0 || d >= static_cast<int>(rt.devices.size())) return -1;
    return rt.devices[d]->arena.find(p).first == reinterpret_cast<uint64_t>(p) ? d : -1;
}

cudaError_t copy(Runtime& rt, Lock& lock, Copy c, cudaMemcpyKind kind, cudaStream_t handle,
                 bool blocking) {
    const auto s = rt.stream(handle);
    if (!s) return no_stream();
    if (cudaError_t failed = rt.devices[s->device]->failed; failed != cudaSuccess) return failed;
    if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault)
        return cudaErrorInvalidMemcpyDirection;
    if (c.width == 0 || c.height == 0) return cudaSuccess;
    if (c.height == 1) c.dpitch = c.spitch = c.width;
    if (c.dpitch < c.width || c.spitch < c.width)
        return explain(cudaErrorInvalidPitchValue,
                       "a pitch below the width of " + bytes_text(c.width));
    if (!c.dst || !c.src) return explain(cudaErrorInvalidValue, "a null pointer");

    const auto extent = [&](size_t pitch) { return pitch * (c.height - 1) + c.width; };
    const bool to_device = owner_of(c.dst) >= 0, from_device = owner_of(c.src) >= 0;
    uint64_t base;
    const bool to_pinned = rt.find_pinned(c.dst, 1, &base),
               from_pinned = rt.find_pinned(c.src, 1, &base);
    const bool wants_to = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool wants_from = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (kind != cudaMemcpyDefault) {
        if (wants_to != to_device && !(wants_to && to_pinned))
            return explain(cudaErrorInvalidValue,
                           std::string("the kind of the copy says that the destination is ") +
                               (to_device ? "host memory, and it is a device's"
                                          : "a device's, and it is host memory"));
        if (wants_from != from_device && !(wants_from && from_pinned))
            return explain(cudaErrorInvalidValue,
                           std::string("the kind of the copy says that the source is ") +
                               (from_device ? "host memory, and it is a device's"
                                            : "a device's, and it is host memory"));
    }
    for (const auto& why : {check_range(rt, c.dst, c.dpitch, c.width, c.height),
                            check_range(rt, c.src, c.spitch, c.width, c.height)})
        if (!why.empty()) return explain(cudaErrorInvalidValue, "copy: " + why);
    if ((to_pinned && !rt.find_pinned(c.dst, extent(c.dpitch))) ||
        (from_pinned && !rt.find_pinned(c.src, extent(c.spitch))))
        return explain(cudaErrorInvalidValue, "copy: " + bytes_text(c.width * c.height) +
                                                  " pass the end of page-locked memory");

    const bool captured = s->capture != nullptr;
    const bool waits = !captured && (blocking || (!to_device && !to_pinned));
    if (!captured && !waits && !from_device && !from_pinned) {
        // The caller may change pageable memory as soon as we return: keep what it holds now.
        lock.unlock();
        c.staged = std::make_unique_for_overwrite<std::byte[]>(c.width * c.height);
        for (size_t r = 0; r < c.height; ++r)
            std::memcpy(c.staged.get() + r * c.width,
                        static_cast<const std::byte*>(c.src) + r * c.spitch, c.width);
        lock.lock();
    }
    const cudaError_t e = rt.submit(lock, *s, std::move(c));
    if (e != cudaSuccess || !waits) return e;
    rt.wait_stream(lock, s);
    return rt.devices[s->device]->failed;
}

// A copy on the default stream: complete at return, but between devices.
cudaError_t blocking_copy(Copy c, cudaMemcpyKind kind) {
    return api([&](Runtime& rt, Lock& lock) {
        if (cudaError_t e = forbid_in_capture(rt, "cudaMemcpy"); e != cudaSuccess) return e;
        const bool devices = owner_of(c.dst) >= 0 && owner_of(c.src) >= 0;
        return copy(rt, lock, std::move(c), kind, nullptr, !devices);
    });
}

cudaError_t queued_copy(Copy c, cudaMemcpyKind kind, cudaStream_t stream) {
    return api(
        [&](Runtime& rt, Lock& lock) { return copy(rt, lock, std::move(c), kind, stream, false); });
}

Copy flat(void* dst, const void* src, size_t bytes) {
    return {dst, src, bytes, bytes, bytes, 1, nullptr};
}

cudaError_t fill(Fill f, cudaStream_t handle) {
    return api([&](Runtime& rt, Lock& lock) {
        const auto s = rt.stream(handle);
        if (!s) return no_stream();
        if (cudaError_t failed = rt.devices[s->device]->failed; failed != cudaSuccess)
            return failed;
        if (f.width == 0 || f.height == 0) return cudaSuccess;
        if (f.height == 1) f.pitch = f.width;
        if (f.pitch < f.width)
            return explain(cudaErrorInvalidPitchValue,
                           "a pitch below the width of " + bytes_text(f.width));
        const int owner = owner_of(f.dst);
        if (owner < 0 && !rt.find_pinned(f.dst, f.pitch * (f.height - 1) + f.width))
            return explain(cudaErrorInvalidValue, "memset: the memory is no device's");
        if (const std::string why = check_range(rt, f.dst, f.pitch, f.width, f.height);
            !why.empty())
            return explain(cudaErrorInvalidValue, "memset: " + why);
        if (owner >= 0 && owner != s->device && !rt.devices[s->device]->peer[owner])
            return explain(cudaErrorInvalidValue, "memset on device " + std::to_string(s->device) +
                                                      ": the memory is device " +
                                                      std::to_string(owner) +
                                                      "'s, and peer access is not enabled");
        return rt.submit(lock, *s, f);
    });
}

}  // namespace
}  // namespace vgpu

using namespace vgpu;

cudaError_t cudaMalloc(void** p, size_t bytes) {
    return device_api([&](Runtime& rt, Lock& lock) {
        if (!p) return cudaErrorInvalidValue;
        if (cudaError_t e = forbid_in_capture(rt, "cudaMalloc"); e != cudaSuccess) return e;
        return allocate(rt, lock, p, bytes, current_device());
    });
}

cudaError_t cudaFree(void* p) {
    return api([&](Runtime& rt, Lock& lock) {
        if (!p) return rt.current().failed;
        if (cudaError_t e = forbid_in_capture(rt, "cudaFree"); e != cudaSuccess) return e;
        const int device = allocation_owner(rt, p);
        if (device < 0)
            return explain(cudaErrorInvalidValue, "cudaFree: not the start of a live allocation");
        if (!rt.on_dispatcher()) rt.wait_all(lock);  // other devices' copies may use it too
        if (!rt.devices[device]->arena.release(p))
            return explain(cudaErrorInvalidValue, "cudaFree: work in a stream freed it as well");
        ++rt.generation;
        return rt.devices[device]->failed;
    });
}

cudaError_t cudaMallocAsync(void** p, size_t bytes, cudaStream_t handle) {
    return api([&](Runtime& rt, Lock& lock) {
        const auto s = rt.stream(handle);
        if (!s) return no_stream();
        if (!p) return cudaErrorInvalidValue;
        if (cudaError_t failed = rt.devices[s->device]->failed; failed != cudaSuccess)
            return failed;
        if (s->capture) {
            invalidate(*s->capture);
            return explain(cudaErrorStreamCaptureUnsupported,
                           "virtual GPUs have no memory nodes in graphs");
        }
        return allocate(rt, lock, p, bytes, s->device);
    });
}

cudaError_t cudaFreeAsync(void* p, cudaStream_t handle) {
    return api([&](Runtime& rt, Lock& lock) {
        const auto s = rt.stream(handle);
        if (!s) return no_stream();
        if (!p) return cudaSuccess;
        if (allocation_owner(rt, p) < 0)
            return explain(cudaErrorInvalidValue,
                           "cudaFreeAsync: not the start of a live allocation");
        return rt.submit(lock, *s, Free{p});
    });
}

cudaError_t cudaMallocHost(void** p, size_t bytes) {
    return cudaHostAlloc(p, bytes, cudaHostAllocDefault);
}

cudaError_t cudaHostAlloc(void** p, size_t bytes, unsigned) {
    return device_api([&](Runtime& rt, Lock&) {
        if (!p) return cudaErrorInvalidValue;
        *p = nullptr;
        if (cudaError_t e = forbid_in_capture(rt, "cudaHostAlloc"); e != cudaSuccess) return e;
        if (bytes == 0) return cudaSuccess;
        const size_t huge = size_t(2) << 20, alignment = bytes >= huge ? huge : 4096;
        void* host = bytes < size_t(1) << 46
                         ? ::operator new(bytes, std::align_val_t(alignment), std::nothrow)
                         : nullptr;
        if (!host)
            return explain(cudaErrorMemoryAllocation,
                           bytes_text(bytes) + " of page-locked host memory asked for");
        if (alignment == huge) madvise(host, bytes, MADV_HUGEPAGE);
        rt.pinned.emplace(reinterpret_cast<uint64_t>(host),
                          Runtime::Pinned{bytes, current_device()});
        *p = host;
        return cudaSuccess;
    });
}

cudaError_t cudaFreeHost(void* p) {
    return api([&](Runtime& rt, Lock& lock) {
        if (!p) return cudaSuccess;
        if (cudaError_t e = forbid_in_capture(rt, "cudaFreeHost"); e != cudaSuccess) return e;
        if (!rt.on_dispatcher()) rt.wait_all(lock);  // any device's copies may use it
        const auto it = rt.pinned.find(reinterpret_cast<uint64_t>(p));
        if (it == rt.pinned.end())
            return explain(cudaErrorInvalidValue,
                           "cudaFreeHost: not the start of page-locked memory");
        const size_t huge = size_t(2) << 20;
        ::operator delete(p, std::align_val_t(it->second.bytes >= huge ? huge : 4096));
        rt.pinned.erase(it);
        ++rt.generation;
        return cudaSuccess;
    });
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
    return device_api([&](Runtime& rt, Lock&) {
        const Arena& a = rt.current().arena;
        *free = a.limit() - a.used();
        *total = a.limit();
        return cudaSuccess;
    });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* a, const void* p) {
    return api([&](Runtime& rt, Lock&) {
        void* q = const_cast<void*>(p);
        *a = {cudaMemoryTypeUnregistered, -2, nullptr, q};
        const int owner = owner_of(p);
        if (owner >= 0) {
            const bool live = owner < static_cast<int>(rt.devices.size()) &&
                              rt.devices[owner]->arena.contains(p, 1);
            *a = live ? cudaPointerAttributes{cudaMemoryTypeDevice, owner, q, nullptr}
                      : cudaPointerAttributes{cudaMemoryTypeUnregistered, -2, nullptr, nullptr};
        } else if (const auto* pinned = rt.find_pinned(p, 1)) {
            *a = {cudaMemoryTypeHost, pinned->device, q, q};
        }
        return cudaSuccess;
    });
}

cudaError_t cudaMemcpy(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind) {
    return blocking_copy(flat(dst, src, bytes), kind);
}

cudaError_t cudaMemcpyAsync(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    return queued_copy(flat(dst, src, bytes), kind, stream);
}

cudaError_t cudaMemcpy2D(void* dst, size_t dpitch, const void* src, size_t spitch, size_t width,
                         size_t height, cudaMemcpyKind kind) {
    return blocking_copy({dst, src, dpitch, spitch, width, height, nullptr}, kind);
}

cudaError_t cudaMemcpy2DAsync(void* dst, size_t dpitch, const void* src, size_t spitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
    return queued_copy({dst, src, dpitch, spitch, width, height, nullptr}, kind, stream);
}

static cudaError_t check_peers(Runtime& rt, const void* dst, int dst_device, const void* src,
                               int src_device) {
    for (int d : {dst_device, src_device})
        if (d < 0 || d >= static_cast<int>(rt.devices.size()))
            return explain(cudaErrorInvalidDevice, "device " + std::to_string(d) + " of " +
                                                       std::to_string(rt.devices.size()));
    if (owner_of(dst) != dst_device || owner_of(src) != src_device)
        return explain(cudaErrorInvalidValue,
                       "the pointers belong to devices " + std::to_string(owner_of(dst)) + " and " +
                           std::to_string(owner_of(src)) + ", not to " +
                           std::to_string(dst_device) + " and " + std::to_string(src_device));
    return cudaSuccess;
}

// In order with all work of both devices.
cudaError_t cudaMemcpyPeer(void* dst, int dst_device, const void* src, int src_device,
                           size_t bytes) {
    return api([&](Runtime& rt, Lock& lock) {
        if (cudaError_t e = forbid_in_capture(rt, "cudaMemcpyPeer"); e != cudaSuccess) return e;
        if (bytes == 0) return cudaSuccess;
        if (cudaError_t e = check_peers(rt, dst, dst_device, src, src_device); e != cudaSuccess)
            return e;
        if (rt.on_dispatcher())
            return explain(cudaErrorNotPermitted, "cudaMemcpyPeer in a host function");
        rt.wait_device(lock, src_device);
        rt.wait_device(lock, dst_device);
        return copy(rt, lock, flat(dst, src, bytes), cudaMemcpyDeviceToDevice, nullptr, true);
    });
}

cudaError_t cudaMemcpyPeerAsync(void* dst, int dst_device, const void* src, int src_device,
                                size_t bytes, cudaStream_t stream) {
    return api([&](Runtime& rt, Lock& lock) {
        if (bytes == 0) return cudaSuccess;
        if (cudaError_t e = check_peers(rt, dst, dst_device, src, src_device); e != cudaSuccess)
            return e;
        return copy(rt, lock, flat(dst, src, bytes), cudaMemcpyDeviceToDevice, stream, false);
    });
}

cudaError_t cudaMemset(void* p, int value, size_t bytes) {
    return fill({p, bytes, bytes, 1, value}, nullptr);
}
cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t stream) {
    return fill({p, bytes, bytes, 1, value}, stream);
}
cudaError_t cudaMemset2D(void* p, size_t pitch, int value, size_t width, size_t height) {
    return fill({p, pitch, width, height, value}, nullptr);
}
cudaError_t cudaMemset2DAsync(void* p, size_t pitch, int value, size_t width, size_t height,
                              cudaStream_t stream) {
    return fill({p, pitch, width, height, value}, stream);
}
