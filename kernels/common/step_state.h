// What changes from step to step and is read by kernels: kept in device memory, so that a
// captured graph of a step can be replayed.
#pragma once

#include <cstdint>

namespace wt {

struct StepState {
    uint64_t seed;  // of the run
    uint64_t step;  // counts from 0; keys the dropout masks
    float lr;       // learning rate of this step
    float momentum;
    // Samples of the step before those of this pass over the network: where a step accumulates the
    // gradients of several batches, their dropout masks are those of one batch of them all.
    int64_t row0 = 0;
};

}  // namespace wt
