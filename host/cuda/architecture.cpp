#include "host/cuda/architecture.h"

#include <algorithm>
#include <sstream>

#include "host/cuda/device.h"
#include "kernels/probe/pattern.h"
#ifdef VGPU
#include "host/vgpu/runtime/faults.h"
#endif

namespace wt {

namespace {

// What lower ones lack: cp.async, and mma.sync of bf16.
constexpr int kLeast = 80;

std::string built_architectures() {
#ifdef VGPU
    return vgpu::built_architectures();
#else
    return WT_ARCHS;
#endif
}

int capability(int device) {
    int major = 0, minor = 0;
    WT_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    WT_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
    return major * 10 + minor;
}

std::string dotted(int capability) {
    return std::to_string(capability / 10) + "." + std::to_string(capability % 10);
}

// There is no code for the device, or only PTX that its driver cannot translate.
bool lacks_code(cudaError_t e) {
    switch (static_cast<int>(e)) {
        case cudaErrorNoKernelImageForDevice:
        case cudaErrorInvalidDeviceFunction:
#ifndef VGPU
        case cudaErrorInvalidKernelImage:
        case cudaErrorUnsupportedPtxVersion:
        case cudaErrorJitCompilerNotFound:
        case cudaErrorJitCompilationDisabled:
#endif
            return true;
        default: return false;
    }
}

}  // namespace

std::string missing_architecture(const std::string& gpu, int missing, const std::string& built,
                                 std::vector<int> capabilities) {
    std::string code, last;
    std::stringstream list(built);
    for (std::string a; list >> a; last = a) code += (code.empty() ? "sm_" : ", sm_") + a;
    std::string s = gpu + " has compute capability " + dotted(missing) +
                    ", and the kernels were built for " + code + " and, as PTX, for compute_" +
                    last + " and later: ";
    if (missing < kLeast)
        return s + "they need " + dotted(kLeast) +
               " or later; use another GPU, or virtual ones (make TARGET=vgpu)";
    std::sort(capabilities.begin(), capabilities.end());
    capabilities.erase(std::unique(capabilities.begin(), capabilities.end()), capabilities.end());
    std::string wanted;
    for (const int c : capabilities)
        if (c >= kLeast) wanted += (wanted.empty() ? "" : " ") + std::to_string(c);
    const bool several = wanted.find(' ') != std::string::npos;
    return s + "build with make ARCHS=" + (several ? "\"" + wanted + "\"" : wanted);
}

void check_architecture(const std::vector<int>& devices) {
    std::vector<int> capabilities;
    for (const int d : devices) capabilities.push_back(capability(d));
    for (size_t i = 0; i < devices.size(); ++i) {
        const DeviceGuard guard(devices[i]);
        cudaFuncAttributes attributes{};
        const cudaError_t e = cudaFuncGetAttributes(&attributes, probe::pattern_kernel());
        if (e == cudaSuccess) continue;
        if (!lacks_code(e)) throw_cuda(e, "cudaFuncGetAttributes", __FILE__, __LINE__);
        cudaGetLastError();
        throw Error(missing_architecture(
            "GPU " + std::to_string(devices[i]) + " (" + device_name(devices[i]) + ")",
            capabilities[i], built_architectures(), capabilities));
    }
}

}  // namespace wt
