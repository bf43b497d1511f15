#include "kernels/launch.h"

#include <string>
#include <unordered_map>

namespace wt {

namespace {

// Whether the code that runs for this kernel has the wait: on sm_80 there is none, and code for
// sm_80 that the driver has translated for a newer GPU has none either.
bool can_wait(const void* kernel) {
    thread_local std::unordered_map<const void*, bool> known;  // the answer takes microseconds
    const auto [at, fresh] = known.try_emplace(kernel, false);
    if (fresh) {
        cudaFuncAttributes a{};
        WT_CUDA(cudaFuncGetAttributes(&a, kernel));
        at->second = a.ptxVersion >= 90;
    }
    return at->second;
}

}  // namespace

LaunchConfig::LaunchConfig(const LaunchShape& shape, const void* kernel) {
    if (shape.shared > 48 * 1024)  // more than the default needs an opt-in per kernel
        WT_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     static_cast<int>(shape.shared)));
    config_.gridDim = shape.grid;
    config_.blockDim = shape.block;
    config_.dynamicSmemBytes = shape.shared;
    config_.stream = shape.stream;
    config_.attrs = attributes_;
    if (shape.cluster > 1) {
        cudaLaunchAttribute& a = attributes_[config_.numAttrs++];
        a.id = cudaLaunchAttributeClusterDimension;
        a.val.clusterDim.x = shape.cluster;
        a.val.clusterDim.y = a.val.clusterDim.z = 1;
    }
    if (shape.pdl && pdl_enabled && can_wait(kernel)) {
        cudaLaunchAttribute& a = attributes_[config_.numAttrs++];
        a.id = cudaLaunchAttributeProgrammaticStreamSerialization;
        a.val.programmaticStreamSerializationAllowed = 1;
    }
}

void throw_refused(const char* name, const LaunchShape& shape, cudaError_t error) {
    cudaGetLastError();
    throw Error(std::string("kernel ") + name + ": " + cudaGetErrorName(error) + " (" +
                cudaGetErrorString(error) + "), grid " + std::to_string(shape.grid.x) + "x" +
                std::to_string(shape.grid.y) + "x" + std::to_string(shape.grid.z) + ", block " +
                std::to_string(shape.block.x) + ", " + std::to_string(shape.shared) +
                " bytes of shared memory");
}

}  // namespace wt
