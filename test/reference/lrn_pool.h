// LRN + max pooling in fp64, composed of the references of its parts.
#pragma once

#include "kernels/lrn_pool/problem.h"
#include "test/reference/lrn.h"
#include "test/reference/pool.h"

namespace wt::reference {

inline std::vector<double> lrn_pool_normalized(const LrnPoolProblem& s,
                                               const std::vector<double>& x) {
    return s.lrn ? lrn_forward(s.norm(), x) : x;
}

// Pooling of what is normalized already.
inline Pooled lrn_pool_pooled(const LrnPoolProblem& s, const std::vector<double>& normalized) {
    Pooled out = pool_forward(s.pool(), normalized);
    for (size_t i = 0; s.closes() && i < out.y.size(); ++i)
        if (out.y[i] <= 0) out.argmax[i] = static_cast<uint8_t>(closed_place(s.window));
    return out;
}

inline Pooled lrn_pool_forward(const LrnPoolProblem& s, const std::vector<double>& x) {
    return lrn_pool_pooled(s, lrn_pool_normalized(s, x));
}

struct LrnPoolGradients {
    std::vector<double> dx, db, db_magnitude;  // the last: sums of |dx|
};

inline LrnPoolGradients lrn_pool_backward(const LrnPoolProblem& s, const std::vector<double>& x,
                                          const std::vector<double>& dy,
                                          const std::vector<uint8_t>& argmax) {
    LrnPoolGradients out{pool_backward(s.pool(), dy, argmax), std::vector<double>(s.c, 0.0),
                         std::vector<double>(s.c, 0.0)};
    if (s.lrn) out.dx = lrn_backward(s.norm(), x, out.dx);
    for (int64_t i = 0; i < s.x_count(); ++i) {
        if (s.relu && !(x[i] > 0)) out.dx[i] = 0;
        out.db[i % s.c] += out.dx[i];
        out.db_magnitude[i % s.c] += std::abs(out.dx[i]);
    }
    return out;
}

}  // namespace wt::reference
