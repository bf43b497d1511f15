// Arguments for every operation at a problem: random inputs, outputs with what fp64 makes of them.
// bin/compare, the tuner and their checks know an operation once it is in kernels/operations.h and
// ops/ has a file for it.
#pragma once

#include "host/bench/operands.h"
#include "kernels/operations.h"

namespace wt::bench {

// Sets every pointer of the arguments but workspace and stream. The linker misses it where ops/ has
// no file for the operation.
template <class Problem, class Args>
void fill(const Problem&, Args&, Operands&);

}  // namespace wt::bench
