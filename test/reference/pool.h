// Max pooling as kernels/pool/problem.h defines it.
#pragma once

#include <cmath>
#include <vector>

#include "kernels/pool/problem.h"

namespace wt::reference {

struct Pooled {
    std::vector<double> y;
    std::vector<uint8_t> argmax;
};

inline Pooled pool_forward(const PoolProblem& s, const std::vector<double>& x) {
    Pooled out{std::vector<double>(s.y_count()), std::vector<uint8_t>(s.y_count())};
    int64_t o = 0;
    for (int n = 0; n < s.n; ++n)
        for (int p = 0; p < s.p(); ++p)
            for (int q = 0; q < s.q(); ++q)
                for (int c = 0; c < s.c; ++c, ++o) {
                    bool any = false;
                    for (int i = 0; i < s.window; ++i)
                        for (int j = 0; j < s.window; ++j) {
                            const int h = p * s.stride - s.pad + i, w = q * s.stride - s.pad + j;
                            if (h < 0 || w < 0 || h >= s.h || w >= s.w) continue;
                            const double v = x[((int64_t(n) * s.h + h) * s.w + w) * s.c + c];
                            const bool beats =
                                !any || (!std::isnan(out.y[o]) && (std::isnan(v) || v > out.y[o]));
                            if (beats)
                                out.y[o] = v,
                                out.argmax[o] = static_cast<uint8_t>(i * s.window + j);
                            any = true;
                        }
                }
    return out;
}

// Scatters, where the kernels gather.
inline std::vector<double> pool_backward(const PoolProblem& s, const std::vector<double>& dy,
                                         const std::vector<uint8_t>& argmax) {
    std::vector<double> dx(s.x_count(), 0.0);
    int64_t o = 0;
    for (int n = 0; n < s.n; ++n)
        for (int p = 0; p < s.p(); ++p)
            for (int q = 0; q < s.q(); ++q)
                for (int c = 0; c < s.c; ++c, ++o) {
                    if (argmax[o] >= s.window * s.window) continue;  // lrn_pool's closed_place()
                    const int h = p * s.stride - s.pad + argmax[o] / s.window;
                    const int w = q * s.stride - s.pad + argmax[o] % s.window;
                    dx[((int64_t(n) * s.h + h) * s.w + w) * s.c + c] += dy[o];
                }
    return dx;
}

}  // namespace wt::reference
