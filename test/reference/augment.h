// Augmentation in fp64, as kernels/augment/problem.h defines it.
#pragma once

#include <vector>

#include "kernels/augment/problem.h"
#include "test/reference/conv.h"

namespace wt::reference {

inline std::vector<double> augment(AugmentProblem p, const std::vector<uint8_t>& images,
                                   const std::vector<AugmentParams>& params, const float* mean,
                                   const float* inv_std) {
    if (p.planes) {
        p.planes = false;
        return as_planes(augment(p, images, params, mean, inv_std), p.fold * p.fold * 3);
    }
    std::vector<double> y;
    auto pixel = [&](int n, int i, int j, int ch) {
        const AugmentParams& a = params[n];
        const int row = a.y0 + i, col = a.x0 + (a.mirror ? p.out_w - 1 - j : j);
        const size_t at =
            ((size_t(n) * p.src_h + row) * p.src_w + col) * p.src_c + (p.src_c == 3 ? ch : 0);
        return (double(images[at]) + a.noise[ch] - mean[ch]) * inv_std[ch];
    };
    if (p.fold > 1) {  // a scatter, unlike any kernel
        y.assign(p.y_count(), 0.0);
        for (int n = 0; n < p.n; ++n)
            for (int i = 0; i < p.out_h; ++i)
                for (int j = 0; j < p.out_w; ++j) {
                    const int f = p.fold, row = i + p.pad, col = j + p.pad;
                    // not read by any filter
                    if (row / f >= p.fold_h || col / f >= p.fold_w) continue;
                    for (int ch = 0; ch < 3; ++ch)
                        y[((((size_t(n) * p.fold_h + row / f) * p.fold_w + col / f) * f + row % f) *
                               f +
                           col % f) *
                              3 +
                          ch] = pixel(n, i, j, ch);
                }
        return y;
    }
    for (int n = 0; n < p.n; ++n)
        for (int i = 0; i < p.out_h; ++i)
            for (int j = 0; j < p.out_w; ++j)
                for (int ch = 0; ch < 3; ++ch) y.push_back(pixel(n, i, j, ch));
    return y;
}

}  // namespace wt::reference
