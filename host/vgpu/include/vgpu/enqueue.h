// What virtual GPUs offer beyond CUDA: host work in streams, and control over order and failures.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "driver_types.h"

namespace vgpu {

// Puts `work` on a stream as if it were a kernel: ordered, capturable into graphs (and then run at
// each replay), run on the dispatcher with all cores (OpenMP). It must not call the CUDA runtime.
// An exception it throws fails the device as a kernel's fault would (cudaErrorLaunchFailure).
cudaError_t enqueue(cudaStream_t stream, const char* name, std::function<void()> work);

// Chooses the order among operations that streams and events leave open: 0 is the order of
// submission, any other seed a pseudo-random one that the same program repeats. Waits for all
// queued work, then counts streams and operations from zero again, so that a piece of a test can be
// replayed. Start: VGPU_SEED, or 0.
void set_seed(uint64_t seed);
uint64_t seed();

// Why the last grid or closure of any device failed, in one line; empty when none has since the
// reset.
std::string last_failure();

}  // namespace vgpu
