// Operands of normalization with pooling.
#include <cmath>

#include "host/bench/ops/set_pointers.h"
#include "host/bench/reference.h"
#include "kernels/lrn_pool/problem.h"

namespace wt::bench {
namespace {

// Behind a ReLU nothing is below 0, and a pixel that a window chose is above it.
double lowest(const LrnPoolProblem& p) { return p.closes() ? kLrnHigh / 64 : -kLrnHigh / 4; }

}  // namespace

void set_pointers(const LrnPoolProblem& p, LrnPoolForwardArgs& a, Operands& o) {
    const Input x = o.random(p.x_count(), p.dtype, lowest(p), kLrnHigh, off(p));
    const exact::LrnPooled normalized{p, x};
    a.x = x;
    a.y = o.output(
        {1, p.y_count(), p.y_count(), off(p)}, p.dtype, p.size * p.window * p.window,
        [=](int64_t i, double) { return exact::pool_forward(p.pool(), normalized, i).value; });
    // Where rounding decides which of two elements is larger, either is right: what rounds to one
    // bf16 is 2^-7 apart at most.
    const double slack = p.dtype == DType::bf16 ? 1.0 / 128 : 1e-5;
    a.argmax = static_cast<uint8_t*>(
        o.output({1, p.y_count(), p.y_count(), off(p)}, probe::Kind::u8,
                 p.size * p.window * p.window, [=](int64_t i, double got) {
                     const exact::Maximum m = exact::pool_forward(p.pool(), normalized, i);
                     double there = -INFINITY;
                     exact::each_in_window(p.pool(), i, [&](int place, int64_t in) {
                         if (place == got) there = normalized[in];
                     });
                     return there >= m.value - slack * std::abs(m.value) ? got : m.at;
                 }));
    o.last().several = true;
}

void set_pointers(const LrnPoolProblem& p, LrnPoolBackwardArgs& a, Operands& o) {
    const Input dy = o.random(p.y_count(), p.dtype, -1, 1, off(p));
    const Input x = p.lrn ? o.random(p.x_count(), p.dtype, lowest(p), kLrnHigh, off(p)) : Input();
    const Input y = !p.lrn && p.relu ? o.random(p.y_count(), p.dtype, -1, 1, off(p)) : Input();
    std::vector<uint8_t> argmax = some_argmax(p.pool());
    a.dy = dy, a.x = x, a.y = y, a.argmax = o.values(argmax, off(p));
    const exact::LrnPoolBackward dx{p, x, y, dy, o.host(std::move(argmax))};
    const double cost = p.lrn ? 4.0 * p.size * p.size : 4;
    a.dx = o.output({1, p.x_count(), p.x_count(), off(p)}, p.dtype, cost,
                    [=](int64_t i, double) { return dx[i]; });
    if (!p.bias) return;
    const int64_t pixels = p.x_count() / p.c;
    a.db = static_cast<float*>(o.output(p.c, DType::f32, cost * pixels, [=](int64_t i, double) {
        return exact::column_sum(dx, pixels, p.c, i);
    }));
    o.last().rounding = p.dtype;  // of dx, which may be summed as it is stored
}

template void fill(const LrnPoolProblem&, LrnPoolForwardArgs&, Operands&);
template void fill(const LrnPoolProblem&, LrnPoolBackwardArgs&, Operands&);

}  // namespace wt::bench
