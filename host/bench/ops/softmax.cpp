// Operands of softmax and loss.
#include <cmath>

#include "host/bench/ops/set_pointers.h"
#include "host/bench/reference.h"
#include "kernels/softmax/problem.h"

namespace wt::bench {

void set_pointers(const SoftmaxProblem& p, SoftmaxArgs& a, Operands& o) {
    const Input z = o.random(int64_t(p.rows) * p.ld_logits, DType::f32, -5, 5);
    std::vector<int> labels(p.rows);
    for (int i = 0; i < p.rows; ++i) labels[i] = i * 7 % p.classes;
    a.logits = z.as<float>(), a.labels = o.values(labels);
    const int* label = o.host(std::move(labels));
    a.dlogits =
        o.output({p.rows, p.classes, p.ld_dlogits}, p.dtype, p.classes, [=](int64_t i, double) {
            const int64_t row = i / p.classes, first = row * p.ld_logits;
            const int j = static_cast<int>(i % p.classes);
            const exact::Softmax s = exact::softmax(z, first, p.classes);
            const double smoothing = p.smoothing,
                         q = (1 - smoothing) * (j == label[row]) + smoothing / p.classes;
            return p.scale * (std::exp(z[first + j] - s.top) / s.sum - q);
        });
    a.stats = static_cast<SoftmaxStats*>(o.scratch(sizeof(SoftmaxStats)));
    const double all = double(p.rows) * p.classes;
    o.field(&a.stats->loss_sum, probe::Kind::f64, all, [=](int64_t, double) {
        double loss = 0;
        for (int i = 0; i < p.rows; ++i) {
            const exact::Softmax s = exact::softmax(z, int64_t(i) * p.ld_logits, p.classes);
            const int64_t first = int64_t(i) * p.ld_logits;
            double mean = 0;  // of the logits
            for (int j = 0; j < p.classes; ++j) mean += z[first + j] / p.classes;
            loss += std::log(s.sum) + s.top - (1 - p.smoothing) * z[first + label[i]] -
                    p.smoothing * mean;
        }
        return loss;
    });
    const auto within = [=](int places) {  // rows whose label is among the first so many classes
        return [=](int64_t, double) {
            double count = 0;
            for (int i = 0; i < p.rows; ++i) {
                const int64_t first = int64_t(i) * p.ld_logits;
                int rank = 0;
                for (int j = 0; j < p.classes; ++j)
                    rank += z[first + j] > z[first + label[i]] ||
                            (z[first + j] == z[first + label[i]] && j < label[i]);
                count += rank < places;
            }
            return count;
        };
    };
    o.field(&a.stats->rows, probe::Kind::i32, 1, [=](int64_t, double) { return p.rows; });
    o.field(&a.stats->top1, probe::Kind::i32, all, within(1));
    o.field(&a.stats->top5, probe::Kind::i32, all, within(5));
}

template void fill(const SoftmaxProblem&, SoftmaxArgs&, Operands&);

}  // namespace wt::bench
