// Operands of the update.
#include <algorithm>
#include <cmath>

#include "host/bench/ops/set_pointers.h"
#include "kernels/sgd/problem.h"

namespace wt::bench {

// Tensors of very different sizes, as a network's are.
void set_pointers(const SgdProblem& p, SgdArgs& a, Operands& o) {
    std::vector<SgdTensor> tensors;
    double shares = 0;
    for (int i = 0; i < p.tensors; ++i) shares += std::pow(i + 1, 3);
    int64_t left = p.total;
    for (int i = 0; i < p.tensors; ++i) {
        const int64_t count =
            i + 1 == p.tensors
                ? left
                : std::min(left, static_cast<int64_t>(p.total * std::pow(i + 1, 3) / shares));
        left -= count;
        const Input w = o.random(count, DType::f32), v = o.random(count, DType::f32),
                    g = o.random(count, DType::f32);
        const auto momentum = [=](int64_t j) {
            return kState.momentum * v[j] - double(5e-4f) * kState.lr * w[j] - kState.lr * g[j];
        };
        float* wp = static_cast<float*>(o.changed(
            w, {1, count, count}, 1, [=](int64_t j, double) { return w[j] + momentum(j); }));
        float* vp = static_cast<float*>(
            o.changed(v, {1, count, count}, 1, [=](int64_t j, double) { return momentum(j); }));
        tensors.push_back({wp, vp, g.as<float>(), nullptr, count, 5e-4f, 1});
    }
    a.tensors = o.host(std::move(tensors));
    a.state = o.values(std::vector<StepState>{kState});
}

template void fill(const SgdProblem&, SgdArgs&, Operands&);

}  // namespace wt::bench
