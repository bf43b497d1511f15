// Operands of ReLU and tanh.
#include <algorithm>
#include <cmath>

#include "host/bench/ops/set_pointers.h"
#include "kernels/activation/problem.h"

namespace wt::bench {

void set_pointers(const ActivationProblem& p, ActivationForwardArgs& a, Operands& o) {
    const Input x = o.random(p.rows * p.ld_y, p.dtype);
    a.x = x;
    a.y = o.output({p.rows, p.cols, p.ld_y}, p.dtype, 1, [=](int64_t i, double) {
        const double v = x[i / p.cols * p.ld_y + i % p.cols];
        return p.kind == Activation::tanh ? std::tanh(v) : std::max(v, 0.0);
    });
}

void set_pointers(const ActivationProblem& p, ActivationBackwardArgs& a, Operands& o) {
    const Input y = o.random(p.rows * p.ld_y, p.dtype), dy = o.random(p.rows * p.ld_dy, p.dtype);
    a.y = y, a.dy = dy;
    a.dx = o.output({p.rows, p.cols, p.ld_dy}, p.dtype, 1, [=](int64_t i, double) {
        const double v = y[i / p.cols * p.ld_y + i % p.cols],
                     d = dy[i / p.cols * p.ld_dy + i % p.cols];
        return p.kind == Activation::tanh ? d * (1 - v * v) : v > 0 ? d : 0;
    });
}

template void fill(const ActivationProblem&, ActivationForwardArgs&, Operands&);
template void fill(const ActivationProblem&, ActivationBackwardArgs&, Operands&);

}  // namespace wt::bench
