// The three matrix products of the fc layers in fp64 (kernels/gemm/problem.h), with leading
// dimensions, and what their epilogues do.
#pragma once

#include <vector>

#include "kernels/gemm/problem.h"
#include "test/reference/conv.h"
#include "test/reference/dropout.h"

namespace wt::reference {

// Elements of A, B and C from the first to the last one that the problem touches, rounded up to
// whole rows.
inline size_t a_count(const GemmProblem& p) {
    return size_t(p.layout == GemmLayout::tn ? p.k : p.m) * p.lda;
}
inline size_t b_count(const GemmProblem& p) {
    return size_t(p.layout == GemmLayout::nt ? p.n : p.k) * p.ldb;
}
inline size_t c_count(const GemmProblem& p) { return size_t(p.m) * p.ldc; }

// C as a dense m x n.
inline Sums gemm(const GemmProblem& p, const std::vector<double>& a, const std::vector<double>& b,
                 const std::vector<double>& bias) {
    Sums c(size_t(p.m) * p.n);
    for (int m = 0; m < p.m; ++m)
        for (int n = 0; n < p.n; ++n) {
            const size_t i = size_t(m) * p.n + n;
            for (int k = 0; k < p.k; ++k) {
                const double av = p.layout == GemmLayout::tn ? a[size_t(k) * p.lda + m]
                                                             : a[size_t(m) * p.lda + k];
                const double bv = p.layout == GemmLayout::nt ? b[size_t(n) * p.ldb + k]
                                                             : b[size_t(k) * p.ldb + n];
                c.add(i, av * bv);
            }
            if (p.bias && p.layout == GemmLayout::nt) c.add(i, bias[n]);
            if (p.relu && c.value[i] < 0) c.value[i] = 0;
        }
    return c;
}

// Dropout of a dense m x n, by the definition's draw.
inline void gemm_dropout(const GemmProblem& p, const StepState& state, uint32_t layer, int64_t row0,
                         int64_t col0, Sums& c) {
    for (int m = 0; m < p.m; ++m)
        for (int n = 0; n < p.n; ++n)
            c.scale(size_t(m) * p.n + n, dropout_keep(state, layer, row0 + m, col0 + n, p.dropout)
                                             ? 1 / (1 - double(p.dropout))
                                             : 0);
}

// The gradient of ReLU (and of a dropout, by its scale); mask dense.
inline void gemm_drelu(const std::vector<double>& mask, double scale, Sums& c) {
    for (size_t i = 0; i < mask.size(); ++i) c.scale(i, mask[i] > 0 ? scale : 0);
}

// SGD with a product as the gradient: the new momentum in v, the new weights in w, both dense and
// given as they were. Each also carries what was added up for it.
inline void gemm_sgd(const Sums& gradient, double lr, double momentum, double weight_decay, Sums& v,
                     Sums& w) {
    for (size_t i = 0; i < gradient.value.size(); ++i) {
        const double old_w = w.value[i], old_v = v.value[i];
        Sums g(1);
        g.value[0] = gradient.value[i], g.magnitude[0] = gradient.magnitude[i],
        g.square[0] = gradient.square[i];
        g.scale(0, -lr);
        v.value[i] = g.value[0] + momentum * old_v - weight_decay * lr * old_w;
        v.magnitude[i] =
            g.magnitude[0] + std::abs(momentum * old_v) + std::abs(weight_decay * lr * old_w);
        w.value[i] = old_w + v.value[i];
        w.magnitude[i] = std::abs(old_w) + v.magnitude[i];
        // of the products: the rest is not rounded to tf32
        v.square[i] = w.square[i] = g.square[0];
    }
}

inline Sums gemm_bias_grad(const GemmProblem& p, const std::vector<double>& a) {
    Sums g(p.m);
    for (int k = 0; k < p.k; ++k)
        for (int m = 0; m < p.m; ++m) g.add(m, a[size_t(k) * p.lda + m]);
    return g;
}

}  // namespace wt::reference
