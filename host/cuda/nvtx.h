// Named ranges for Nsight Systems: step, phase, layer.pass, exchange, loader. Free when no profiler
// is attached; nothing on virtual GPUs.
#pragma once

#ifndef VGPU
#include <nvtx3/nvToolsExt.h>
#endif

namespace wt {

class Range {
public:
    explicit Range([[maybe_unused]] const char* name) {
#ifndef VGPU
        nvtxRangePushA(name);
#endif
    }
    ~Range() {
#ifndef VGPU
        nvtxRangePop();
#endif
    }
    Range(const Range&) = delete;
    Range& operator=(const Range&) = delete;
};

}  // namespace wt
