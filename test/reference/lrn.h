// LRN in fp64, as the formulas of kernels/lrn/problem.h stand.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/lrn/problem.h"

namespace wt::reference {

inline double lrn_norm(const LrnProblem& p, const double* x, int i) {
    double sum = 0;
    for (int j = std::max(0, i - p.size / 2); j <= std::min(p.c - 1, i + p.size / 2); ++j)
        sum += x[j] * x[j];
    return p.k + p.alpha * sum;
}

inline std::vector<double> lrn_forward(const LrnProblem& p, const std::vector<double>& x) {
    std::vector<double> y(x.size());
    for (int64_t n = 0; n < p.pixels; ++n)
        for (int i = 0; i < p.c; ++i)
            y[n * p.c + i] =
                x[n * p.c + i] * std::pow(lrn_norm(p, &x[n * p.c], i), -double(p.beta));
    return y;
}

inline std::vector<double> lrn_backward(const LrnProblem& p, const std::vector<double>& x,
                                        const std::vector<double>& dy) {
    std::vector<double> dx(x.size());
    for (int64_t n = 0; n < p.pixels; ++n) {
        const double *xp = &x[n * p.c], *dyp = &dy[n * p.c];
        for (int i = 0; i < p.c; ++i) {
            double sum = 0;
            for (int j = std::max(0, i - p.size / 2); j <= std::min(p.c - 1, i + p.size / 2); ++j)
                sum += dyp[j] * xp[j] * std::pow(lrn_norm(p, xp, j), -double(p.beta) - 1);
            dx[n * p.c + i] = dyp[i] * std::pow(lrn_norm(p, xp, i), -double(p.beta)) -
                              2.0 * p.alpha * p.beta * xp[i] * sum;
        }
    }
    return dx;
}

}  // namespace wt::reference
