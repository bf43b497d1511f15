// Every wait of one stream for the work of another in a step goes through here, so that a test can
// take each of them away and see whether that is noticed.
#pragma once

#include <functional>
#include <string>

#include "host/cuda/nvtx.h"
#include "host/cuda/stream.h"

namespace wt {

struct WaitId {
    int rank = 0;  // who waits
    const char* what = "";
    int number = 0;  // of the transfer, bucket, microbatch or layer
    int from = -1;   // for whose work; -1: its own
    std::string text() const {
        return std::string(what) + " " + std::to_string(number) + " by " + std::to_string(rank) +
               (from < 0 ? "" : " for " + std::to_string(from));
    }
};

// For tests: says which waits are left out. Called by all workers' threads at once.
inline std::function<bool(const WaitId&)> leave_out_wait;

inline void wait_for(cudaStream_t stream, const Event& event, const WaitId& id) {
    if (leave_out_wait && leave_out_wait(id)) return;
    const std::string name = Timeline::current() ? std::string("wait ") + id.what : "wait";
    const Range range(name.c_str(), stream, SpanKind::wait);
    WT_CUDA(cudaStreamWaitEvent(stream, event.get(), 0));
}

}  // namespace wt
