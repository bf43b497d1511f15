// Operands of pooling.
#include <algorithm>

#include "host/bench/ops/set_pointers.h"
#include "host/bench/reference.h"
#include "kernels/pool/problem.h"

namespace wt::bench {

void set_pointers(const PoolProblem& p, PoolForwardArgs& a, Operands& o) {
    const Input x = o.random(p.x_count(), p.dtype, -1, 1, off(p));
    a.x = x;
    a.y = o.output({1, p.y_count(), p.y_count(), off(p)}, p.dtype, 1,
                   [=](int64_t i, double) { return exact::pool_forward(p, x, i).value; });
    a.argmax = static_cast<uint8_t*>(
        o.output({1, p.y_count(), p.y_count(), off(p)}, probe::Kind::u8, 1,
                 [=](int64_t i, double) { return exact::pool_forward(p, x, i).at; }));
}

std::vector<uint8_t> some_argmax(const PoolProblem& p) {
    std::vector<uint8_t> argmax(p.y_count());
    const auto inside = [&](int out, int extent, uint32_t draw) {
        const int first = out * p.stride - p.pad, low = std::max(0, -first),
                  high = std::min(p.window, extent - first);
        return low + static_cast<int>(draw % static_cast<uint32_t>(high - low));
    };
    int64_t i = 0;
    for (int n = 0; n < p.n; ++n)
        for (int y = 0; y < p.p(); ++y)
            for (int x = 0; x < p.q(); ++x)
                for (int c = 0; c < p.c; ++c, ++i) {
                    const uint32_t draw = static_cast<uint32_t>(i) * 2654435761u;
                    argmax[i] = static_cast<uint8_t>(inside(y, p.h, draw >> 8) * p.window +
                                                     inside(x, p.w, draw >> 20));
                }
    return argmax;
}

void set_pointers(const PoolProblem& p, PoolBackwardArgs& a, Operands& o) {
    const Input dy = o.random(p.y_count(), p.dtype, -1, 1, off(p));
    std::vector<uint8_t> argmax = some_argmax(p);
    a.dy = dy, a.argmax = o.values(argmax, off(p));
    const uint8_t* host = o.host(std::move(argmax));
    a.dx = o.output({1, p.x_count(), p.x_count(), off(p)}, p.dtype, 1,
                    [=](int64_t i, double) { return exact::pool_backward(p, dy, host, i); });
}

template void fill(const PoolProblem&, PoolForwardArgs&, Operands&);
template void fill(const PoolProblem&, PoolBackwardArgs&, Operands&);

}  // namespace wt::bench
