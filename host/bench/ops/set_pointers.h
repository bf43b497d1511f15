// What the files of this folder share. Each has the operands of one operation of kernels/, for
// every type of its arguments:
//
//   void set_pointers(const OpProblem& p, OpForwardArgs& a, Operands& o) { ... }
//   template void fill(const OpProblem&, OpForwardArgs&, Operands&);  // as fill.h declares it
//
// So there is no list of them: who calls `fill` finds it by the types of its arguments.
#pragma once

#include <cstdint>
#include <vector>

#include "host/bench/fill.h"
#include "kernels/common/step_state.h"

namespace wt::bench {

template <class Problem, class Args>
void fill(const Problem& p, Args& a, Operands& o) {
    set_pointers(p, a, o);
}

// Of everything that reads it. Momentum and rate are as in training, so that repeated updates stay
// finite.
inline const StepState kState{1, 2, 0.01f, 0.9f};

// Where a tensor of the problem starts, in elements behind an aligned place.
template <class P>
int64_t off(const P& p) {
    return p.aligned ? 0 : 1;
}

// LRN's x is a convolution's sums through a ReLU: large enough that the normalization does
// something.
constexpr float kLrnHigh = 40;

// A convolution's stored input (ops/conv.cpp).
Input conv_x(const ConvProblem& p, Operands& o);

// For every window of a pooling one of its elements inside the image, in no order.
std::vector<uint8_t> some_argmax(const PoolProblem& p);

}  // namespace wt::bench
