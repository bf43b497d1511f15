// Operands of copies and sums between workers.
#include "host/bench/ops/set_pointers.h"
#include "kernels/exchange/problem.h"

namespace wt::bench {

void set_pointers(const CopyProblem& p, CopyArgs& a, Operands& o) {
    const Input src = o.random(p.rows * p.ld_src, p.dtype);
    a.src = src;
    a.dst = o.output({p.rows, p.cols, p.ld_dst}, p.dtype, 1,
                     [=](int64_t i, double) { return src[i / p.cols * p.ld_src + i % p.cols]; });
}

void set_pointers(const ReduceProblem& p, ReduceArgs& a, Operands& o) {
    std::vector<Input> src;
    for (int r = 0; r < p.sources; ++r)
        a.src[r] = src.emplace_back(o.random(p.rows * p.ld_src, p.dtype));
    a.dst = o.output({p.rows, p.cols, p.ld_dst}, p.dtype, p.sources, [=](int64_t i, double) {
        double sum = 0;
        for (const Input& s : src) sum += s[i / p.cols * p.ld_src + i % p.cols];
        return sum;
    });
}

template void fill(const CopyProblem&, CopyArgs&, Operands&);
template void fill(const ReduceProblem&, ReduceArgs&, Operands&);

}  // namespace wt::bench
