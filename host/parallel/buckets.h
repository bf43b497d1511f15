// Parameters that every worker holds whole, and what is updated.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/net/kernel_settings.h"
#include "host/parallel/memory_plan.h"
#include "kernels/exchange/problem.h"
#include "kernels/sgd/problem.h"

namespace wt {

// A parameter that this worker updates, in the elements that are its own (Layout::own).
struct Update {
    int param;
    BufferRef grad;  // of these elements
};

// Parameters that every worker holds whole, of layers next to each other, whose gradients are
// summed together: first all the weights, then all the biases. Each worker sums its segment,
// updates what lies in it, and the others copy the result.
struct Bucket {
    std::string name;  // its layers', "conv5+conv4"
    // Indices of parameters, from the top layer down; each one's bias follows it.
    std::vector<int> weights;
    bool head = false;    // of fully connected layers
    bool trained = true;  // false: of frozen layers, values alone
    BufferRef grads;      // fp32
    // What the layers read: weights as the matrix units have them, then fp32 biases.
    BufferRef values;
    int64_t weight_count = 0, count = 0;  // elements: of weights, of all
    // first element of each parameter: of the weights, then of the biases
    std::vector<int64_t> at;
    size_t value_size = 4;  // bytes of a weight in `values`
    size_t value_offset(int64_t element) const {
        return element < weight_count ? element * value_size
                                      : weight_count * value_size + (element - weight_count) * 4;
    }
    std::vector<Update> updates;
    Bound<ReduceProblem, ReduceArgs> reduce;
    std::vector<Bound<CopyProblem, CopyArgs>> share;  // by source rank
    Bound<SgdProblem, SgdArgs> update;
};

// Where the gradients of a step's earlier micro-steps add up (MicroStep).
struct GradientSum {
    BufferRef gradients, sum;              // of the same elements, fp32
    Bound<ReduceProblem, ReduceArgs> add;  // of both
    std::string name;                      // of that launch
};

}  // namespace wt
