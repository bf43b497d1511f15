// Named ranges for Nsight Systems: step, phase, layer.op, exchange, loader. Free when no profiler
// is attached. On virtual GPUs they name the lines of VGPU_PROFILE=1's table. With a stream they
// are spans of the step's timeline as well, while one is recorded.
#pragma once

#include "host/cuda/timeline.h"

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
    // Names the work that is put on `stream` meanwhile.
    Range(const char* name, cudaStream_t stream, SpanKind kind = SpanKind::compute) : Range(name) {
        if ((timeline_ = Timeline::current())) span_ = timeline_->begin(name, kind, stream);
    }
    ~Range() {
        if (span_ >= 0) timeline_->end(span_);
#ifdef VGPU
        vgpu::pop_range();
#else
        nvtxRangePop();
#endif
    }
    Range(const Range&) = delete;
    Range& operator=(const Range&) = delete;

private:
    Timeline* timeline_ = nullptr;
    int span_ = -1;
};

}  // namespace wt
