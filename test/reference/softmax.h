// Softmax cross-entropy in fp64, as kernels/softmax/problem.h defines it. Logits without gaps
// between the rows.
#pragma once

#include <cmath>
#include <vector>

#include "kernels/softmax/problem.h"

namespace wt::reference {

struct SoftmaxResult {
    std::vector<double> dlogits;
    SoftmaxStats stats{0, 0, 0, 0};
    double loss_magnitude = 0;  // sum of |loss| and of the terms it is the difference of
};

inline SoftmaxResult softmax(const SoftmaxProblem& p, const std::vector<double>& logits,
                             const std::vector<int>& labels) {
    SoftmaxResult r;
    r.dlogits.assign(logits.size(), 0.0);
    for (int i = 0; i < p.rows; ++i) {
        if (labels[i] == -1) continue;
        const double* z = &logits[size_t(i) * p.classes];
        double top = -INFINITY, sum = 0;
        bool nan = false;
        for (int j = 0; j < p.classes; ++j)
            top = std::fmax(top, z[j]), nan = nan || std::isnan(z[j]);
        for (int j = 0; j < p.classes; ++j) sum += std::exp(z[j] - top);
        const double smoothing = p.smoothing;
        double wanted = 0, wanted_magnitude = 0;  // the sum of q_j z_j, less the maximum
        for (int j = 0; j < p.classes; ++j) {
            const double q = (1 - smoothing) * (j == labels[i]) + smoothing / p.classes;
            r.dlogits[size_t(i) * p.classes + j] = p.scale * (std::exp(z[j] - top) / sum - q);
            if (q == 0) continue;  // of a logit of -inf
            wanted += q * (z[j] - top);
            wanted_magnitude += q * std::abs(z[j] - top);
        }
        int rank = 0;
        for (int j = 0; j < p.classes; ++j)
            rank += z[j] > z[labels[i]] || (z[j] == z[labels[i]] && j < labels[i]);
        r.stats.loss_sum += std::log(sum) - wanted;
        // With smoothing the kernels' terms are differences from the label's logit.
        const double from_label = smoothing > 0 ? std::abs(z[labels[i]] - top) : 0;
        r.loss_magnitude += std::log(sum) + wanted_magnitude + from_label;
        r.stats.rows += 1;
        r.stats.top1 += !nan && rank == 0;
        r.stats.top5 += !nan && rank < 5;
    }
    return r;
}

}  // namespace wt::reference
