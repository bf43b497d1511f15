// Errors: the last one of each host thread, those that stay with a device, and their texts.

#include <cstdio>
#include <set>

#include "host/vgpu/runtime/runtime.h"
#include "vgpu/enqueue.h"

namespace vgpu {
namespace {

thread_local cudaError_t last_error = cudaSuccess;
thread_local cudaError_t explained = cudaSuccess;
thread_local std::string explanation;

struct Text {
    cudaError_t code;
    const char *name, *text;
};
constexpr Text kTexts[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorCudartUnloading, "cudaErrorCudartUnloading", "driver shutting down"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInvalidPitchValue, "cudaErrorInvalidPitchValue", "invalid pitch argument"},
    {cudaErrorInvalidDevicePointer, "cudaErrorInvalidDevicePointer", "invalid device pointer"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection",
     "invalid copy direction for memcpy"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorPeerAccessUnsupported, "cudaErrorPeerAccessUnsupported",
     "peer access is not supported between these two devices"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorIllegalState, "cudaErrorIllegalState",
     "the operation cannot be performed in the present state"},
    {cudaErrorSymbolNotFound, "cudaErrorSymbolNotFound", "named symbol not found"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources",
     "too many resources requested for launch"},
    {cudaErrorLaunchTimeout, "cudaErrorLaunchTimeout", "the launch timed out and was terminated"},
    {cudaErrorPeerAccessAlreadyEnabled, "cudaErrorPeerAccessAlreadyEnabled",
     "peer access is already enabled"},
    {cudaErrorPeerAccessNotEnabled, "cudaErrorPeerAccessNotEnabled",
     "peer access has not been enabled"},
    {cudaErrorAssert, "cudaErrorAssert", "device-side assert triggered"},
    {cudaErrorHostMemoryAlreadyRegistered, "cudaErrorHostMemoryAlreadyRegistered",
     "part or all of the requested memory range is already mapped"},
    {cudaErrorHostMemoryNotRegistered, "cudaErrorHostMemoryNotRegistered",
     "pointer does not correspond to a registered memory region"},
    {cudaErrorIllegalInstruction, "cudaErrorIllegalInstruction",
     "an illegal instruction was encountered"},
    {cudaErrorMisalignedAddress, "cudaErrorMisalignedAddress", "misaligned address"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotPermitted, "cudaErrorNotPermitted", "operation not permitted"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureMerge, "cudaErrorStreamCaptureMerge",
     "operation would result in a merge of separate capture sequences"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "capture was not ended in the same stream as it began"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined",
     "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent",
     "operation not permitted on an event last recorded in a capturing stream"},
    {cudaErrorStreamCaptureWrongThread, "cudaErrorStreamCaptureWrongThread",
     "attempt to terminate a thread-local capture sequence from another thread"},
    {cudaErrorInvalidClusterSize, "cudaErrorInvalidClusterSize", "cluster misconfiguration"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};

const Text* find(cudaError_t e) {
    for (const Text& t : kTexts)
        if (t.code == e) return &t;
    return nullptr;
}

}  // namespace

void set_last_error(cudaError_t e) { last_error = e; }

cudaError_t explain(cudaError_t e, std::string why) {
    explained = e;
    explanation = std::move(why);
    return e;
}

void fail_device(Runtime& rt, int device, cudaError_t code, const std::string& message,
                 const std::string& detail) {
    Device& d = *rt.devices[device];
    if (d.failed != cudaSuccess) return;
    d.failed = code;
    d.failure = rt.last_failure = message;
    if (!detail.empty()) std::fprintf(stderr, "vgpu: %s\n%s\n", message.c_str(), detail.c_str());
}

std::string last_failure() {
    if (unloading()) return {};
    Lock lock(runtime().mutex);
    return runtime().last_failure;
}

}  // namespace vgpu

using namespace vgpu;

cudaError_t cudaPeekAtLastError() {
    if (unloading() || runtime().devices.empty()) return last_error;
    Lock lock(runtime().mutex);
    const cudaError_t failed = runtime().current().failed;
    return failed != cudaSuccess ? failed : last_error;
}

cudaError_t cudaGetLastError() {
    const cudaError_t e = cudaPeekAtLastError();
    last_error = cudaSuccess;
    return e;
}

const char* cudaGetErrorName(cudaError_t e) {
    const Text* t = find(e);
    return t ? t->name : "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t e) {
    const Text* t = find(e);
    if (!t) return "unrecognized error code";
    std::string more;
    if (!unloading() && e != cudaSuccess) {
        Runtime& rt = runtime();
        Lock lock(rt.mutex);
        const int mine = current_device();
        for (int d = 0; d < static_cast<int>(rt.devices.size()); ++d)
            if (rt.devices[d]->failed == e && (more.empty() || d == mine))
                more = rt.devices[d]->failure;
        if (more.empty() && explained == e) more = explanation;
    }
    if (more.empty()) return t->text;
    // Callers keep the pointer: texts stay for good. There are as many as there are different
    // failures.
    static std::mutex mutex;
    static auto* texts = new std::set<std::string>;
    std::lock_guard guard(mutex);
    return texts->insert(std::string(t->text) + ": " + more).first->c_str();
}
