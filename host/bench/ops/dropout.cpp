// Operands of dropout.
#include "host/bench/ops/set_pointers.h"
#include "host/bench/reference.h"
#include "kernels/dropout/problem.h"

namespace wt::bench {

void set_pointers(const DropoutProblem& p, DropoutArgs& a, Operands& o) {
    const Input x = o.random(p.rows * p.ld_x, p.dtype);
    a.x = x, a.state = o.values(std::vector<StepState>{kState}), a.layer = 3, a.row0 = a.col0 = 0;
    a.y = o.output({p.rows, p.cols, p.ld_y}, p.dtype, 1, [=](int64_t i, double) {
        const int64_t r = i / p.cols, c = i % p.cols;
        return exact::kept(kState, 3, r, c, p.p) ? x[r * p.ld_x + c] / (1 - double(p.p)) : 0;
    });
}

template void fill(const DropoutProblem&, DropoutArgs&, Operands&);

}  // namespace wt::bench
