// Devices: how many, what they can do, which is current, which may use whose memory.

#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "host/vgpu/runtime/faults.h"
#include "host/vgpu/runtime/limits.h"
#include "host/vgpu/runtime/runtime.h"
#include "vgpu/enqueue.h"

namespace vgpu {
namespace {

thread_local int current = 0;
std::atomic<bool> ending{false};

// "512M", "4G", "1073741824"; 0 when it is no size.
size_t parse_bytes(const char* s) {
    char* end = nullptr;
    const double n = std::strtod(s, &end);
    double unit = 1;
    if (*end == 'k' || *end == 'K')
        unit = 1 << 10, ++end;
    else if (*end == 'm' || *end == 'M')
        unit = 1 << 20, ++end;
    else if (*end == 'g' || *end == 'G')
        unit = 1 << 30, ++end;
    return *end || end == s || !(n * unit >= 1 && n * unit < 1e15) ? 0
                                                                   : static_cast<size_t>(n * unit);
}

size_t host_memory() {
    size_t bytes =
        static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
    size_t group = 0;  // a container's own limit, where it has one
    for (const char* file :
         {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"})
        if (std::ifstream(file) >> group && group > 0) bytes = std::min(bytes, group);
    return bytes;
}

int wanted_devices() {
    const char* s = std::getenv("VGPU_DEVICES");
    if (!s || !*s) return 2;
    char* end = nullptr;
    const long n = std::strtol(s, &end, 10);
    if (!*end && n >= 0 && n <= kMaxDevices) return static_cast<int>(n);
    std::fprintf(stderr, "vgpu: VGPU_DEVICES=%s: must be 0 to 16; there are 2 virtual GPUs now\n",
                 s);
    return 2;
}

size_t wanted_memory(int devices) {
    const char* s = std::getenv("VGPU_MEMORY");
    const size_t otherwise = host_memory() / 2 / std::max(devices, 1);
    if (!s || !*s) return otherwise;
    if (const size_t n = parse_bytes(s)) return n;
    std::fprintf(
        stderr,
        "vgpu: VGPU_MEMORY=%s: must be a size such as 512M or 4G; %zu MiB per virtual GPU now\n", s,
        otherwise >> 20);
    return otherwise;
}

int wanted_kernels_at_once() {
    const char* s = std::getenv("VGPU_KERNELS_AT_ONCE");
    if (!s || !*s) return 1;
    char* end = nullptr;
    const long n = std::strtol(s, &end, 10);
    if (!*end && n >= 1 && n <= 64) return static_cast<int>(n);
    std::fprintf(stderr, "vgpu: VGPU_KERNELS_AT_ONCE=%s: must be 1 to 64; it is 1 now\n", s);
    return 1;
}

Runtime* make_runtime() {
    // never deleted: static objects may still free their memory at the end
    auto* rt = new Runtime;
    rt->clock.kernels_at_once(wanted_kernels_at_once());
    const int n = wanted_devices();
    const size_t memory = wanted_memory(n);
    for (int d = 0; d < n; ++d) {
        rt->devices.push_back(std::make_unique<Device>(d, memory, n));
        auto legacy = std::make_shared<Stream>();
        legacy->device = d;
        legacy->lane = uint64_t(d) << 32 | 0xFFFFFFFF;
        legacy->legacy = true;
        rt->devices[d]->legacy = legacy;
    }
    if (const char* s = std::getenv("VGPU_SEED"); s && *s) {
        char* end = nullptr;
        rt->seed = std::strtoull(s, &end, 0);
        if (*end)
            std::fprintf(stderr, "vgpu: VGPU_SEED=%s: must be a number; the seed is %llu now\n", s,
                         static_cast<unsigned long long>(rt->seed));
    }
    std::atexit([] {
        runtime().shut_down();
        ending = true;
    });
    return rt;
}

bool peers_possible() {
    const char* s = std::getenv("VGPU_PEER");
    return !s || std::strcmp(s, "0") != 0;
}

}  // namespace

Runtime& runtime() {
    static Runtime* rt = make_runtime();
    return *rt;
}

bool unloading() { return ending; }
int current_device() { return current; }
Device& Runtime::current() { return *devices[vgpu::current]; }

void set_seed(uint64_t seed) {
    Runtime& rt = runtime();
    Lock lock(rt.mutex);
    rt.wait_all(lock);
    rt.seed = seed;
    for (auto& d : rt.devices) d->streams = 0, d->legacy->submitted = d->legacy->completed = 0;
    for (auto& [handle, s] : rt.streams) s->submitted = s->completed = 0;
}

uint64_t seed() {
    Lock lock(runtime().mutex);
    return runtime().seed;
}

}  // namespace vgpu

using namespace vgpu;

cudaError_t cudaGetDeviceCount(int* count) {
    *count = 0;
    return api([&](Runtime& rt, Lock&) {
        *count = static_cast<int>(rt.devices.size());
        return cudaSuccess;
    });
}

static bool no_device(const Runtime& rt, int device) {
    return device < 0 || device >= static_cast<int>(rt.devices.size());
}

static cudaError_t invalid_device(const Runtime& rt, int device) {
    return explain(cudaErrorInvalidDevice,
                   "device " + std::to_string(device) + " of " + std::to_string(rt.devices.size()));
}

cudaError_t cudaSetDevice(int device) {
    return api([&](Runtime& rt, Lock&) {
        if (no_device(rt, device)) return invalid_device(rt, device);
        current = device;
        return cudaSuccess;
    });
}

cudaError_t cudaGetDevice(int* device) {
    return api([&](Runtime&, Lock&) {
        *device = current;
        return cudaSuccess;
    });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
    return api([&](Runtime& rt, Lock&) {
        if (no_device(rt, device)) return invalid_device(rt, device);
        *p = {};
        std::snprintf(p->name, sizeof p->name, "virtual GPU %d", device);
        p->totalGlobalMem = rt.devices[device]->arena.limit();
        p->sharedMemPerBlock = kSharedDefault;
        p->sharedMemPerBlockOptin = kSharedMax;
        p->sharedMemPerMultiprocessor = kSharedPerSm;
        p->reservedSharedMemPerBlock = kSharedReserved;
        p->regsPerBlock = 65536;
        p->warpSize = 32;
        p->maxThreadsPerBlock = kBlockThreads;
        p->maxThreadsDim[0] = p->maxThreadsDim[1] = kBlockThreads, p->maxThreadsDim[2] = kBlockZ;
        p->maxGridSize[0] = INT_MAX, p->maxGridSize[1] = p->maxGridSize[2] = kGridYz;
        p->major = compute_capability(device) / 10;
        p->minor = compute_capability(device) % 10;
        p->multiProcessorCount = core_count();
        p->concurrentKernels = 1;
        p->pciBusID = device;
        p->asyncEngineCount = 2;
        p->unifiedAddressing = 1;
        p->memoryBusWidth = 128;
        p->l2CacheSize = kL2;
        p->maxThreadsPerMultiProcessor = kSmThreads;
        p->streamPrioritiesSupported = 1;
        p->cooperativeLaunch = 0;
        p->maxBlocksPerMultiProcessor = kSmBlocks;
        p->memoryPoolsSupported = 1;
        p->clusterLaunch = 1;
        return cudaSuccess;
    });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attr, int device) {
    cudaDeviceProp p;
    if (cudaError_t e = cudaGetDeviceProperties(&p, device); e != cudaSuccess) return e;
    switch (attr) {
        case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; break;
        case cudaDevAttrMaxBlockDimX: *value = p.maxThreadsDim[0]; break;
        case cudaDevAttrMaxBlockDimY: *value = p.maxThreadsDim[1]; break;
        case cudaDevAttrMaxBlockDimZ: *value = p.maxThreadsDim[2]; break;
        case cudaDevAttrMaxGridDimX: *value = p.maxGridSize[0]; break;
        case cudaDevAttrMaxGridDimY: *value = p.maxGridSize[1]; break;
        case cudaDevAttrMaxGridDimZ: *value = p.maxGridSize[2]; break;
        case cudaDevAttrMaxSharedMemoryPerBlock:
            *value = static_cast<int>(p.sharedMemPerBlock);
            break;
        case cudaDevAttrWarpSize: *value = p.warpSize; break;
        case cudaDevAttrMaxRegistersPerBlock: *value = p.regsPerBlock; break;
        case cudaDevAttrClockRate: *value = 1'000'000; break;  // kHz: nominal
        case cudaDevAttrMemoryClockRate: *value = 1'000'000; break;
        case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
        case cudaDevAttrConcurrentKernels: *value = p.concurrentKernels; break;
        case cudaDevAttrGlobalMemoryBusWidth: *value = p.memoryBusWidth; break;
        case cudaDevAttrL2CacheSize: *value = p.l2CacheSize; break;
        case cudaDevAttrMaxThreadsPerMultiProcessor: *value = p.maxThreadsPerMultiProcessor; break;
        case cudaDevAttrAsyncEngineCount: *value = p.asyncEngineCount; break;
        case cudaDevAttrUnifiedAddressing: *value = p.unifiedAddressing; break;
        case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
        case cudaDevAttrComputeCapabilityMinor: *value = p.minor; break;
        case cudaDevAttrStreamPrioritiesSupported: *value = p.streamPrioritiesSupported; break;
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
            *value = static_cast<int>(p.sharedMemPerMultiprocessor);
            break;
        case cudaDevAttrCooperativeLaunch: *value = p.cooperativeLaunch; break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin:
            *value = static_cast<int>(p.sharedMemPerBlockOptin);
            break;
        case cudaDevAttrMaxBlocksPerMultiprocessor: *value = p.maxBlocksPerMultiProcessor; break;
        case cudaDevAttrMemoryPoolsSupported: *value = p.memoryPoolsSupported; break;
        case cudaDevAttrClusterLaunch: *value = p.clusterLaunch; break;
        default:
            set_last_error(cudaErrorInvalidValue);
            return explain(cudaErrorInvalidValue, "device attribute " + std::to_string(attr) +
                                                      " is unknown to virtual GPUs");
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int len, int device) {
    return api([&](Runtime& rt, Lock&) {
        if (no_device(rt, device)) return invalid_device(rt, device);
        std::snprintf(text, len, "0000:%02X:00.0", device);
        return cudaSuccess;
    });
}

cudaError_t cudaDeviceSynchronize() {
    return device_api([](Runtime& rt, Lock& lock) {
        if (cudaError_t e = forbid_wait(rt, nullptr, current, "cudaDeviceSynchronize");
            e != cudaSuccess)
            return e;
        rt.wait_device(lock, current);
        return rt.current().failed;
    });
}

// Drops the device's queued work, frees its memory, streams and events, and makes it usable again.
cudaError_t cudaDeviceReset() {
    std::vector<std::shared_ptr<Stream>> streams;
    return api([&](Runtime& rt, Lock& lock) {
        if (rt.on_dispatcher())
            return explain(cudaErrorNotPermitted, "cudaDeviceReset in a host function");
        Device& d = rt.current();
        if (d.failed == cudaSuccess) d.failed = cudaErrorLaunchFailure;  // drops what is queued
        for (auto& capture : rt.captures)
            for (Stream* s : capture->streams)
                if (s->device == current) invalidate(*capture);
        rt.wait_device(lock, current);
        std::erase_if(rt.streams, [&](auto& s) {
            if (s.second->device != current) return false;
            streams.push_back(s.second);
            return true;
        });
        std::erase_if(rt.events, [&](auto& e) { return e.second->device == current; });
        d.arena.release_all();
        ++rt.generation;
        std::fill(d.peer.begin(), d.peer.end(), false);
        d.failed = cudaSuccess;
        d.failure.clear();
        rt.last_failure.clear();
        set_last_error(cudaSuccess);
        return cudaSuccess;
    });
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
    *version = 12080;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
    *version = 12080;
    return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
    return api([&](Runtime& rt, Lock&) {
        if (no_device(rt, device)) return invalid_device(rt, device);
        if (no_device(rt, peer)) return invalid_device(rt, peer);
        *can = device != peer && peers_possible();
        return cudaSuccess;
    });
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags) {
    return device_api([&](Runtime& rt, Lock&) {
        if (no_device(rt, peer)) return invalid_device(rt, peer);
        if (flags) return cudaErrorInvalidValue;
        if (peer == current) return explain(cudaErrorInvalidDevice, "a device is not its own peer");
        if (!peers_possible()) return explain(cudaErrorPeerAccessUnsupported, "VGPU_PEER=0");
        if (rt.current().peer[peer]) return cudaErrorPeerAccessAlreadyEnabled;
        rt.current().peer[peer] = true;
        return cudaSuccess;
    });
}

cudaError_t cudaDeviceDisablePeerAccess(int peer) {
    return device_api([&](Runtime& rt, Lock& lock) {
        if (no_device(rt, peer)) return invalid_device(rt, peer);
        if (!rt.current().peer[peer]) return cudaErrorPeerAccessNotEnabled;
        if (!rt.on_dispatcher()) rt.wait_device(lock, current);
        rt.current().peer[peer] = false;
        ++rt.generation;
        return cudaSuccess;
    });
}
