// A strided convolution as one of stride 1, for Winograd on a CPU: a block of stride_h x stride_w
// pixels becomes one pixel of stride_h stride_w c channels (problem.h, "folded input"). AlexNet's
// first layer becomes 3x3 over 48 channels: 19% more multiplications (11 taps of 12), of which
// Winograd then saves four fifths, and whole vectors of channels instead of 3.
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels/conv/problem.h"
#include "kernels/launch.h"

namespace wt::winograd_cpu {

inline constexpr int kMostFolded = 64;  // channels of a block that is gathered on the way

inline bool is_strided(const ConvProblem& p) { return p.stride_h > 1 || p.stride_w > 1; }

// The convolution of stride 1 that p is; p itself where it is one.
inline ConvProblem unstrided(ConvProblem p) {
    if (!is_strided(p)) return p;
    const int rows = p.p(), cols = p.q();
    p.r = int(ceil_div(p.r, p.stride_h)), p.s = int(ceil_div(p.s, p.stride_w));
    p.h = rows - 1 + p.r, p.w = cols - 1 + p.s;
    p.c *= p.stride_h * p.stride_w;
    p.stride_h = p.stride_w = 1;
    p.pad_h = p.pad_w = 0;
    p.fold = 1;
    return p;
}

// The block (row, col) of an image of the strided problem, zeros outside it.
template <class T>
void gather_block(const ConvProblem& p, const T* image, int row, int col, T* to) {
    const int left = col * p.stride_w - p.pad_w, run = p.stride_w * p.c;
    const int from = std::clamp(-left, 0, p.stride_w);
    const int until = std::clamp(p.w - left, from, p.stride_w);
    for (int i = 0; i < p.stride_h; ++i, to += run) {
        const int y = row * p.stride_h - p.pad_h + i;
        const bool inside = y >= 0 && y < p.h;
        const T* in = image + (int64_t(inside ? y : 0) * p.w + left) * p.c;
        if (inside && until - from == p.stride_w && run == 12) {
            std::memcpy(to, in, 12 * sizeof(T));  // AlexNet's: three moves, not a call
            continue;
        }
        std::memset(to, 0, run * sizeof(T));  // zeros in either type
        if (inside && until > from)
            std::memcpy(to + from * p.c, in + from * p.c, (until - from) * p.c * sizeof(T));
    }
}

// Calls f(weight, its place among the filters of `unstrided(p)`) for runs of p.c weights.
template <class F>
void each_run(const ConvProblem& p, F&& f) {
    const ConvProblem u = unstrided(p);
    int64_t at = 0;
    for (int k = 0; k < p.k; ++k)
        for (int r = 0; r < p.r; ++r)
            for (int s = 0; s < p.s; ++s, at += p.c)
                f(at, ((int64_t(k) * u.r + r / p.stride_h) * u.s + s / p.stride_w) * u.c +
                          (r % p.stride_h * p.stride_w + s % p.stride_w) * p.c);
}

}  // namespace wt::winograd_cpu
