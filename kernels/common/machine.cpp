#include "kernels/common/machine.h"

#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/common/sm_limit.h"

namespace wt {

namespace {

thread_local int sm_limit = 0;  // 0: none

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

SmLimit::SmLimit(int sms) : before_(sm_limit) {
    if (sms > 0) sm_limit = sm_limit > 0 ? std::min(sm_limit, sms) : sms;
}

SmLimit::~SmLimit() { sm_limit = before_; }

int planned_sms() {
#ifdef VGPU
    int sms = kReferenceSms;
#else
    static const int of_device = ask_device();
    int sms = of_device;
#endif
    if (plan_overrides.sms > 0) sms = plan_overrides.sms;
    return sm_limit > 0 ? std::min(sms, sm_limit) : sms;
}

}  // namespace wt
