// Kernel launches: the configuration's limits, and the check of the arguments' pointers.

#include <climits>
#include <cstring>

#include "host/vgpu/ptx_exec/counted.h"
#include "host/vgpu/ptx_exec/kernels.h"
#include "host/vgpu/runtime/faults.h"
#include "host/vgpu/runtime/limits.h"
#include "host/vgpu/runtime/runtime.h"
#include "vgpu/enqueue.h"

namespace vgpu {
namespace {

struct FunctionSettings {
    size_t shared = kSharedDefault;  // the most dynamic shared memory that a launch may ask for
    bool big_clusters = false;
};
// Both under the runtime's lock.
std::unordered_map<const void*, FunctionSettings>& settings() {
    static auto* all = new std::unordered_map<const void*, FunctionSettings>;
    return *all;
}
std::unordered_map<const void*, const Signature*>& known() {
    static auto* all = new std::unordered_map<const void*, const Signature*>;
    return *all;
}

FunctionSettings settings_of(const void* kernel) {
    const auto it = settings().find(kernel);
    return it == settings().end() ? FunctionSettings{} : it->second;
}

std::string text(dim3 d) {
    return std::to_string(d.x) + "x" + std::to_string(d.y) + "x" + std::to_string(d.z);
}

cudaError_t check_code(const void* kernel) {
    if (!kernel) return explain(cudaErrorInvalidDeviceFunction, "the kernel is null");
    if (code_for(current_device()).architecture) return cudaSuccess;
    return explain(cudaErrorNoKernelImageForDevice,
                   symbol_name(kernel) + ": built for " + built_architectures() +
                       " (VGPU_ARCHS), and device " + std::to_string(current_device()) + " is of " +
                       std::to_string(compute_capability(current_device())) + " (VGPU_CAPABILITY)");
}

// What hardware of compute capability 9.0 refuses.
cudaError_t check_shape(const cudaLaunchConfig_t& c, const void* kernel, dim3& cluster,
                        bool& dependent) {
    const dim3 g = c.gridDim, b = c.blockDim;
    const auto refuse = [&](cudaError_t e, const std::string& why) {
        return explain(e, symbol_name(kernel) + ": " + why);
    };
    if (!g.x || !g.y || !g.z || g.x > INT_MAX || g.y > kGridYz || g.z > kGridYz)
        return refuse(cudaErrorInvalidConfiguration,
                      "grid " + text(g) + " must be 1 to 2^31-1, 65535, 65535 blocks");
    if (!b.x || !b.y || !b.z || b.z > kBlockZ || uint64_t(b.x) * b.y * b.z > kBlockThreads)
        return refuse(cudaErrorInvalidConfiguration,
                      "block " + text(b) + " must have 1 to 1024 threads, z up to 64");
    const bool special = c.dynamicSmemBytes > kSharedDefault || c.numAttrs;
    const FunctionSettings f = special ? settings_of(kernel) : FunctionSettings{};
    if (c.dynamicSmemBytes > f.shared)
        return refuse(cudaErrorInvalidValue,
                      std::to_string(c.dynamicSmemBytes) + " bytes of shared memory, but " +
                          std::to_string(f.shared) + " are allowed" +
                          (c.dynamicSmemBytes <= kSharedMax
                               ? " without cudaFuncAttributeMaxDynamicSharedMemorySize"
                               : ""));
    for (unsigned i = 0; i < c.numAttrs; ++i) {
        const cudaLaunchAttribute& a = c.attrs[i];
        switch (a.id) {
            case cudaLaunchAttributeIgnore:
            case cudaLaunchAttributePriority: break;
            // a later start is always legal
            case cudaLaunchAttributeProgrammaticStreamSerialization:
                dependent = a.val.programmaticStreamSerializationAllowed != 0;
                break;
            case cudaLaunchAttributeClusterDimension:
                cluster = {a.val.clusterDim.x, a.val.clusterDim.y, a.val.clusterDim.z};
                break;
            case cudaLaunchAttributeCooperative:
                if (a.val.cooperative)
                    return refuse(cudaErrorNotSupported,
                                  "virtual GPUs have no cooperative launches");
                break;
            default:
                return refuse(cudaErrorNotSupported, "launch attribute " + std::to_string(a.id));
        }
    }
    const uint64_t blocks = uint64_t(cluster.x) * cluster.y * cluster.z;
    if (!blocks || blocks > (f.big_clusters ? kClusterBlocksNonPortable : kClusterBlocks) ||
        g.x % cluster.x || g.y % cluster.y || g.z % cluster.z)
        return refuse(cudaErrorInvalidClusterSize, "cluster " + text(cluster) +
                                                       " must divide grid " + text(g) +
                                                       " and have at most 8 blocks");
    return cudaSuccess;
}

// Blocks of a kernel that fit a multiprocessor.
int blocks_per_sm(const void* kernel, int threads, size_t shared) {
    const int by_threads = kSmThreads / ((threads + 31) / 32 * 32);
    const int by_shared = shared > settings_of(kernel).shared
                              ? 0
                              : static_cast<int>(kSharedPerSm / (shared + kSharedReserved));
    return std::min({kSmBlocks, by_threads, by_shared});
}

// In a program that runs compiled PTX: what is launched instead of g++'s version of the kernel.
cudaError_t find_ptx(const cudaLaunchConfig_t& c, const void* kernel, const Signature*& signature) {
    const ptx_exec::Found found = ptx_exec::find(kernel, *signature);
    if (!found.signature) return explain(cudaErrorInvalidDeviceFunction, found.why);
    const uint64_t threads = uint64_t(c.blockDim.x) * c.blockDim.y * c.blockDim.z;
    if (found.bound && threads > found.bound)
        return explain(cudaErrorInvalidValue,
                       symbol_name(kernel) + ": blocks of " + std::to_string(threads) +
                           " threads, and it is compiled for at most " +
                           std::to_string(found.bound) + " (__launch_bounds__)");
    if (ptx_exec::counting() && !found.counting)
        return explain(cudaErrorInvalidDeviceFunction,
                       symbol_name(kernel) + ": this program has no kernel of it that counts");
    signature = ptx_exec::counting() ? found.counting : found.signature;
    return cudaSuccess;
}

}  // namespace

ArgumentBlock::ArgumentBlock(const Signature& s, const void* const* args)
    : bytes_(static_cast<std::byte*>(s.align > 16 ? ::operator new(s.bytes, std::align_val_t(128))
                                                  : ::operator new(s.bytes)),
             Release{s.align > 16}) {
    for (uint32_t i = 0; i < s.count; ++i)
        std::memcpy(bytes_.get() + s.parameters[i].offset, args[i], s.parameters[i].size);
}

// Every aligned 8-byte word of every argument, also inside structs, that is an address where a
// virtual GPU has ever had memory must point into (or just past) a live allocation that the device
// may use. A parameter that is a pointer must do so whatever it holds, or be null, or point to
// page-locked memory. Inside a struct an address of freed memory is let pass: padding keeps what
// the stack held before, old pointers too (and g++ 12's __builtin_clear_padding clears the wrong
// bytes of structs with arrays of structs).
std::string check_arguments(const Runtime& rt, const Kernel& k, int device) {
    const Signature& s = *k.signature;
    for (uint32_t i = 0; i < s.count; ++i) {
        const uint32_t end = s.parameters[i].offset + s.parameters[i].size;
        for (uint32_t at = (s.parameters[i].offset + 7) / 8 * 8; at + 8 <= end; at += 8) {
            uint64_t word;
            std::memcpy(&word, k.args.data() + at, 8);
            const void* p = reinterpret_cast<const void*>(word);
            const int owner = owner_of(p);
            const bool exists = owner >= 0 && owner < static_cast<int>(rt.devices.size());
            if (s.parameters[i].pointer ? !word
                                        : !exists || !rt.devices[owner]->arena.touched(word))
                continue;
            const auto where = [&] {
                return "kernel " + symbol_name(k.grid.kernel) + " on device " +
                       std::to_string(device) + ": argument " + std::to_string(i) + " points to ";
            };
            if (!exists) {
                if (rt.find_pinned(p, 0)) continue;
                return where() + "host memory that is not page-locked, which kernels cannot use";
            }
            const bool live = rt.devices[owner]->arena.find(p).first != 0;
            if (!live && !s.parameters[i].pointer) continue;
            if (owner != device && !rt.devices[device]->peer[owner])
                return where() + "memory of device " + std::to_string(owner) +
                       ", and peer access is not enabled (cudaDeviceEnablePeerAccess)";
            if (!live)
                return where() + "freed memory of device " + std::to_string(owner) +
                       " (no live allocation is there)";
        }
    }
    return {};
}

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, const Signature& host,
                   const void* const* args) {
    return device_api([&](Runtime& rt, Lock& lock) {
        if (cudaError_t e = check_code(kernel); e != cudaSuccess) return e;
        const Signature* signature = &host;
        if (ptx_exec::present())
            if (cudaError_t e = find_ptx(config, kernel, signature); e != cudaSuccess) return e;
        const auto stream = rt.stream(config.stream);
        if (!stream)
            return explain(cudaErrorInvalidResourceHandle,
                           symbol_name(kernel) + ": not a live stream");
        if (stream->device != current_device())
            return explain(cudaErrorInvalidResourceHandle,
                           symbol_name(kernel) + ": the stream belongs to device " +
                               std::to_string(stream->device) + ", but device " +
                               std::to_string(current_device()) + " is current (cudaSetDevice)");
        dim3 cluster;
        bool dependent = false;
        if (cudaError_t e = check_shape(config, kernel, cluster, dependent); e != cudaSuccess)
            return e;
        known().try_emplace(kernel, &host);
        Kernel k{{kernel, config.gridDim, config.blockDim, cluster, config.dynamicSmemBytes,
                  stream->device, dependent, nullptr, signature->loop},
                 signature,
                 ArgumentBlock(*signature, args)};
        k.grid.args = k.args.data();
        k.doomed = check_arguments(rt, k, stream->device);
        return rt.submit(lock, *stream, std::move(k));
    });
}

void know(const void* kernel, const Signature& signature) {
    Lock lock(runtime().mutex);
    known().try_emplace(kernel, &signature);
}

cudaError_t enqueue(cudaStream_t handle, const char* name, std::function<void()> work) {
    return api([&](Runtime& rt, Lock& lock) {
        const auto stream = rt.stream(handle);
        if (!stream)
            return explain(cudaErrorInvalidResourceHandle,
                           std::string(name) + ": not a live stream");
        return rt.submit(lock, *stream, Closure{name, std::move(work)});
    });
}

}  // namespace vgpu

using namespace vgpu;

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* kernel, void** args) {
    const Signature* s = nullptr;
    const cudaError_t e = api([&](Runtime&, Lock&) {
        const auto it = known().find(kernel);
        if (it == known().end())
            return explain(cudaErrorInvalidDeviceFunction,
                           symbol_name(kernel) +
                               ": virtual GPUs know its parameter types only after a typed call");
        s = it->second;
        return cudaSuccess;
    });
    return e == cudaSuccess ? launch(*config, kernel, *s, args) : e;
}

cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** args, size_t shared,
                             cudaStream_t stream) {
    cudaLaunchConfig_t c;
    c.gridDim = grid, c.blockDim = block, c.dynamicSmemBytes = shared, c.stream = stream;
    return cudaLaunchKernelExC(&c, kernel, args);
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
    return device_api([&](Runtime&, Lock&) {
        if (cudaError_t e = check_code(kernel); e != cudaSuccess) return e;
        switch (attribute) {
            case cudaFuncAttributeMaxDynamicSharedMemorySize:
                if (value < 0 || static_cast<size_t>(value) > kSharedMax)
                    return explain(cudaErrorInvalidValue,
                                   symbol_name(kernel) + ": " + std::to_string(value) +
                                       " bytes of shared memory, of " + std::to_string(kSharedMax));
                settings()[kernel].shared = std::max<size_t>(value, kSharedDefault);
                return cudaSuccess;
            case cudaFuncAttributeNonPortableClusterSizeAllowed:
                settings()[kernel].big_clusters = value != 0;
                return cudaSuccess;
            case cudaFuncAttributePreferredSharedMemoryCarveout: return cudaSuccess;
        }
        return cudaErrorInvalidValue;
    });
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* a, const void* kernel) {
    return device_api([&](Runtime&, Lock&) {
        if (cudaError_t e = check_code(kernel); e != cudaSuccess) return e;
        *a = {};
        a->maxThreadsPerBlock = kBlockThreads;
        a->numRegs = 32;
        const DeviceCode code = code_for(current_device());
        a->ptxVersion = code.architecture;
        a->binaryVersion =
            code.translated ? compute_capability(current_device()) : code.architecture;
        a->maxDynamicSharedSizeBytes = static_cast<int>(settings_of(kernel).shared);
        a->preferredShmemCarveout = -1;
        return cudaSuccess;
    });
}

cudaError_t cudaFuncGetName(const char** name, const void* kernel) {
    return api([&](Runtime&, Lock&) {
        static auto* names = new std::unordered_map<const void*, std::string>;
        *name = names->try_emplace(kernel, symbol_name(kernel)).first->second.c_str();
        return cudaSuccess;
    });
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* kernel,
                                                          int threads, size_t shared) {
    return device_api([&](Runtime&, Lock&) {
        if (cudaError_t e = check_code(kernel); e != cudaSuccess) return e;
        if (threads <= 0 || threads > kBlockThreads) return cudaErrorInvalidValue;
        *blocks = blocks_per_sm(kernel, threads, shared);
        return cudaSuccess;
    });
}

cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void* kernel,
                                           const cudaLaunchConfig_t* config) {
    return device_api([&](Runtime&, Lock&) {
        if (cudaError_t e = check_code(kernel); e != cudaSuccess) return e;
        if (!clusters || !config)
            return explain(cudaErrorInvalidValue, symbol_name(kernel) + ": null argument");
        dim3 cluster;
        bool dependent = false;
        if (cudaError_t e = check_shape(*config, kernel, cluster, dependent); e != cudaSuccess)
            return e;
        const dim3 block = config->blockDim;
        const int size = static_cast<int>(cluster.x * cluster.y * cluster.z);
        *clusters = active_clusters(
            size, blocks_per_sm(kernel, static_cast<int>(block.x * block.y * block.z),
                                config->dynamicSmemBytes));
        return cudaSuccess;
    });
}
