// The three matrix products of the fc layers in fp64 (kernels/gemm/problem.h), with leading dimensions.
#pragma once

#include <vector>

#include "kernels/gemm/problem.h"
#include "test/reference/conv.h"

namespace wt::reference {

// Elements of A, B and C from the first to the last one that the problem touches, rounded up to whole rows.
inline size_t a_count(const GemmProblem& p) { return size_t(p.layout == GemmLayout::tn ? p.k : p.m) * p.lda; }
inline size_t b_count(const GemmProblem& p) { return size_t(p.layout == GemmLayout::nt ? p.n : p.k) * p.ldb; }
inline size_t c_count(const GemmProblem& p) { return size_t(p.m) * p.ldc; }

// C as a dense m x n.
inline Sums gemm(const GemmProblem& p, const std::vector<double>& a, const std::vector<double>& b,
                 const std::vector<double>& bias) {
    Sums c(size_t(p.m) * p.n);
    for (int m = 0; m < p.m; ++m)
        for (int n = 0; n < p.n; ++n) {
            const size_t i = size_t(m) * p.n + n;
            for (int k = 0; k < p.k; ++k) {
                const double av = p.layout == GemmLayout::tn ? a[size_t(k) * p.lda + m] : a[size_t(m) * p.lda + k];
                const double bv = p.layout == GemmLayout::nt ? b[size_t(n) * p.ldb + k] : b[size_t(k) * p.ldb + n];
                c.add(i, av * bv);
            }
            if (p.bias && p.layout == GemmLayout::nt) c.add(i, bias[n]);
            if (p.relu && c.value[i] < 0) c.value[i] = 0;
        }
    return c;
}

inline Sums gemm_bias_grad(const GemmProblem& p, const std::vector<double>& a) {
    Sums g(p.m);
    for (int k = 0; k < p.k; ++k)
        for (int m = 0; m < p.m; ++m) g.add(m, a[size_t(k) * p.lda + m]);
    return g;
}

}  // namespace wt::reference
