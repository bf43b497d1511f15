// Named ranges for Nsight Systems: step, phase, layer.pass, exchange, loader. Free when no profiler
// is attached. On virtual GPUs they name the lines of VGPU_PROFILE=1's table.
#pragma once

#ifdef VGPU
#include "vgpu/profile.h"
#else
#include <nvtx3/nvToolsExt.h>
#endif

namespace wt {

class Range {
public:
    explicit Range(const char* name) {
#ifdef VGPU
        vgpu::push_range(name);
#else
        nvtxRangePushA(name);
#endif
    }
    ~Range() {
#ifdef VGPU
        vgpu::pop_range();
#else
        nvtxRangePop();
#endif
    }
    Range(const Range&) = delete;
    Range& operator=(const Range&) = delete;
};

}  // namespace wt
