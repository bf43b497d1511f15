// Operands of a convolution with pooling.
#include <cmath>

#include "host/bench/ops/set_pointers.h"
#include "host/bench/reference.h"
#include "kernels/conv_pool/problem.h"

namespace wt::bench {

void set_pointers(const ConvPoolProblem& p, ConvPoolForwardArgs& a, Operands& o) {
    const ConvProblem conv = p.conv();
    const Input x = conv_x(conv, o), w = o.matrix(p.w_count(), p.dtype),
                bias = o.random(p.k, DType::f32);
    a.x = x, a.w = w, a.bias = bias.as<float>();
    const auto convolved = [=](int64_t i) { return exact::conv_fprop(conv, x, w, bias, i); };
    // Of a window's maximum: its value and its place, the place that closes it where that is 0.
    const auto maximum = [=](int64_t i) {
        exact::Maximum m{0, closed_place(p.window)};
        exact::each_in_window(p.pool(), i, [&](int place, int64_t in) {
            if (const double v = convolved(in); v > m.value) m = {v, place};
        });
        return m;
    };
    const double cost = double(p.r) * p.s * p.c, window = double(p.window) * p.window;
    a.y = o.output(p.y_count(), p.dtype, cost * window,
                   [=](int64_t i, double) { return maximum(i).value; });
    // Where rounding decides which of two is larger, either is right: numbers of one bf16 are 2^-7
    // apart at most. And sums of as many products are off by as much as their own error: where the
    // largest is that small, it may be 0.
    const double slack = p.dtype == DType::bf16 ? 1.0 / 128 : 1e-5,
                 zero = (p.tf32 ? 1e-3 : 1e-6) * std::sqrt(cost);
    a.argmax = static_cast<uint8_t*>(
        o.output({1, p.y_count(), p.y_count()}, probe::Kind::u8, cost * window,
                 [=](int64_t i, double got) -> double {
                     const exact::Maximum m = maximum(i);
                     double there = -INFINITY;
                     if (got == closed_place(p.window)) there = 0;
                     exact::each_in_window(p.pool(), i, [&](int place, int64_t in) {
                         if (place == got) there = convolved(in);
                     });
                     return there >= m.value - slack * m.value - zero ? got : m.at;
                 }));
    o.last().several = true;
}

template void fill(const ConvPoolProblem&, ConvPoolForwardArgs&, Operands&);

}  // namespace wt::bench
