#include "host/bench/clocks.h"

#include <cuda_runtime.h>
#include <dlfcn.h>

namespace wt::bench {

// The few functions that are called, by their names in nvml.h. 0 is success; clock 1 is the SMs', 2
// the memory's.
struct Clocks::Library {
    using Device = void*;
    void* handle = nullptr;
    Device device = nullptr;
    int (*shutdown)() = nullptr;
    int (*clock)(Device, int, unsigned*) = nullptr;
    int (*max_clock)(Device, int, unsigned*) = nullptr;
    int (*driver)(char*, unsigned) = nullptr;

    template <class F>
    bool find(F& f, const char* name) {
        return (f = reinterpret_cast<F>(dlsym(handle, name))) != nullptr;
    }
    ~Library() {
        if (device) shutdown();
        if (handle) dlclose(handle);
    }
};

Clocks::Clocks([[maybe_unused]] int device) {
#ifndef VGPU
    auto l = std::make_unique<Library>();
    l->handle = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!l->handle) return;
    int (*init)() = nullptr;
    int (*by_bus)(const char*, Library::Device*) = nullptr;
    if (!l->find(init, "nvmlInit_v2") || !l->find(by_bus, "nvmlDeviceGetHandleByPciBusId_v2") ||
        !l->find(l->shutdown, "nvmlShutdown") || !l->find(l->clock, "nvmlDeviceGetClockInfo") ||
        !l->find(l->max_clock, "nvmlDeviceGetMaxClockInfo") ||
        !l->find(l->driver, "nvmlSystemGetDriverVersion"))
        return;
    char bus[64] = "";
    if (cudaDeviceGetPCIBusId(bus, sizeof bus, device) != cudaSuccess) {
        cudaGetLastError();
        return;
    }
    if (init() != 0) return;
    if (by_bus(bus, &l->device) != 0 || !l->device) {
        l->device = nullptr;
        l->shutdown();
        return;
    }
    library_ = std::move(l);
#endif
}

Clocks::~Clocks() = default;

namespace {
template <class F>
std::optional<Clocks::Mhz> ask(F&& clock) {
    unsigned sm = 0, memory = 0;
    if (clock(1, &sm) != 0 || clock(2, &memory) != 0) return {};
    return Clocks::Mhz{static_cast<int>(sm), static_cast<int>(memory)};
}
}  // namespace

std::optional<Clocks::Mhz> Clocks::now() const {
    if (!library_) return {};
    return ask(
        [&](int which, unsigned* mhz) { return library_->clock(library_->device, which, mhz); });
}

std::optional<Clocks::Mhz> Clocks::most() const {
    if (!library_) return {};
    return ask([&](int which, unsigned* mhz) {
        return library_->max_clock(library_->device, which, mhz);
    });
}

std::string Clocks::driver() const {
    char text[96] = "";
    return library_ && library_->driver(text, sizeof text) == 0 ? text : "";
}

}  // namespace wt::bench
