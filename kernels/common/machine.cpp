#include "kernels/common/machine.h"

#include <cuda_runtime.h>

namespace wt {

namespace {

[[maybe_unused]] int ask_device() {
    int device = 0, sms = 0;
    const bool known =
        cudaGetDevice(&device) == cudaSuccess &&
        cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device) == cudaSuccess;
    // planning needs no device; the next launch says what is wrong
    if (!known) cudaGetLastError();
    return known && sms > 0 ? sms : kReferenceSms;
}

}  // namespace

int planned_sms() {
    if (plan_overrides.sms > 0) return plan_overrides.sms;
#ifdef VGPU
    return kReferenceSms;
#else
    static const int sms = ask_device();
    return sms;
#endif
}

}  // namespace wt
