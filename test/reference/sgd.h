// One SGD step of one tensor in fp64, as kernels/sgd/problem.h defines it.
#pragma once

#include <vector>

namespace wt::reference {

inline void sgd(std::vector<double>& w, std::vector<double>& v, const std::vector<double>& g,
                double lr, double momentum, double weight_decay) {
    for (size_t i = 0; i < w.size(); ++i) {
        v[i] = momentum * v[i] - weight_decay * lr * w[i] - lr * g[i];
        w[i] += v[i];
    }
}

}  // namespace wt::reference
