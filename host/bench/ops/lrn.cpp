// Operands of normalization.
#include "host/bench/ops/set_pointers.h"
#include "host/bench/reference.h"
#include "kernels/lrn/problem.h"

namespace wt::bench {

void set_pointers(const LrnProblem& p, LrnForwardArgs& a, Operands& o) {
    const Input x = o.random(p.count(), p.dtype, 0, kLrnHigh, off(p));
    a.x = x;
    a.y = o.output({1, p.count(), p.count(), off(p)}, p.dtype, p.size,
                   [=](int64_t i, double) { return exact::lrn_forward(p, x, i); });
}

void set_pointers(const LrnProblem& p, LrnBackwardArgs& a, Operands& o) {
    const Input x = o.random(p.count(), p.dtype, 0, kLrnHigh, off(p)),
                dy = o.random(p.count(), p.dtype, -1, 1, off(p));
    a.x = x, a.dy = dy;
    a.dx = o.output({1, p.count(), p.count(), off(p)}, p.dtype, p.size * p.size,
                    [=](int64_t i, double) { return exact::lrn_backward(p, x, dy, i); });
}

template void fill(const LrnProblem&, LrnForwardArgs&, Operands&);
template void fill(const LrnProblem&, LrnBackwardArgs&, Operands&);

}  // namespace wt::bench
