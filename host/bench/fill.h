// Arguments for every operation at a problem: random inputs, outputs with what fp64 makes of them. An operation is
// known to bin/compare, the tuner and their checks once it has a function here and a line in kernels/operations.h.
#pragma once

#include "host/bench/operands.h"
#include "kernels/activation/problem.h"
#include "kernels/augment/problem.h"
#include "kernels/conv/problem.h"
#include "kernels/dropout/problem.h"
#include "kernels/exchange/problem.h"
#include "kernels/gemm/problem.h"
#include "kernels/lrn/problem.h"
#include "kernels/lrn_pool/problem.h"
#include "kernels/pool/problem.h"
#include "kernels/sgd/problem.h"
#include "kernels/softmax/problem.h"

namespace wt::bench {

// Sets every pointer of the arguments but workspace and stream.
void fill(const ConvProblem&, ConvFpropArgs&, Operands&);
void fill(const ConvProblem&, ConvDgradArgs&, Operands&);
void fill(const ConvProblem&, ConvWgradArgs&, Operands&);
void fill(const GemmProblem&, GemmArgs&, Operands&);
void fill(const LrnProblem&, LrnForwardArgs&, Operands&);
void fill(const LrnProblem&, LrnBackwardArgs&, Operands&);
void fill(const PoolProblem&, PoolForwardArgs&, Operands&);
void fill(const PoolProblem&, PoolBackwardArgs&, Operands&);
void fill(const LrnPoolProblem&, LrnPoolForwardArgs&, Operands&);
void fill(const LrnPoolProblem&, LrnPoolBackwardArgs&, Operands&);
void fill(const ActivationProblem&, ActivationForwardArgs&, Operands&);
void fill(const ActivationProblem&, ActivationBackwardArgs&, Operands&);
void fill(const DropoutProblem&, DropoutArgs&, Operands&);
void fill(const SoftmaxProblem&, SoftmaxArgs&, Operands&);
void fill(const AugmentProblem&, AugmentArgs&, Operands&);
void fill(const SgdProblem&, SgdArgs&, Operands&);
void fill(const CopyProblem&, CopyArgs&, Operands&);
void fill(const ReduceProblem&, ReduceArgs&, Operands&);

}  // namespace wt::bench
