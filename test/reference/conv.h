// Convolution and its gradients in fp64, by their definitions (kernels/conv/problem.h), written as
// scatters over (output, tap) pairs: another loop order than any kernel's. Each also returns for
// every result the sums of the magnitudes and of the squares added up, against which rounding
// errors are judged.
#pragma once

#include <cmath>
#include <vector>

#include "kernels/conv/problem.h"

namespace wt::reference {

struct Sums {
    std::vector<double> value, magnitude, square;
    explicit Sums(size_t n) : value(n), magnitude(n), square(n) {}
    void add(size_t i, double v) { value[i] += v, magnitude[i] += std::abs(v), square[i] += v * v; }
    void scale(size_t i, double f) {
        value[i] *= f, magnitude[i] *= std::abs(f), square[i] *= f * f;
    }
};

// Blocks of `channels` elements one after the other, as planes of 8 channels with zeros behind the
// last block up to twice 128 positions behind the start of the last run of 128.
inline std::vector<double> as_planes(const std::vector<double>& blocks, int channels) {
    const size_t positions = blocks.size() / channels, last_run = (positions - 1) / 128 * 128;
    std::vector<double> planes;
    for (int plane = 0; plane < channels; plane += 8)
        for (size_t i = 0; i < last_run + 256; ++i)
            for (int c = plane; c < plane + 8; ++c)
                planes.push_back(i < positions ? blocks[i * channels + c] : 0);
    return planes;
}

// An image stack as ConvProblem::fold and planes have it stored: from plain NHWC, zeros outside the
// images.
inline std::vector<double> fold_input(ConvProblem v, const std::vector<double>& x) {
    if (v.planes) {
        v.planes = false;
        return as_planes(fold_input(v, x), v.fold * v.fold * v.c);
    }
    std::vector<double> folded(v.x_count());
    size_t to = 0;
    for (int n = 0; n < v.n; ++n)
        for (int i = 0; i < v.fold_h(); ++i)
            for (int j = 0; j < v.fold_w(); ++j)
                for (int a = 0; a < v.fold; ++a)
                    for (int b = 0; b < v.fold; ++b)
                        for (int c = 0; c < v.c; ++c, ++to) {
                            const int row = v.fold * i + a - v.pad_h,
                                      col = v.fold * j + b - v.pad_w;
                            if (row >= 0 && col >= 0 && row < v.h && col < v.w)
                                folded[to] = x[((size_t(n) * v.h + row) * v.w + col) * v.c + c];
                        }
    return folded;
}

// Calls f(x index, w index, y index) for every product of the convolution, padding left out; x
// unfolded.
template <class F>
void for_each_product(const ConvProblem& v, F&& f) {
    for (int n = 0; n < v.n; ++n)
        for (int p = 0; p < v.p(); ++p)
            for (int q = 0; q < v.q(); ++q)
                for (int k = 0; k < v.k; ++k)
                    for (int r = 0; r < v.r; ++r)
                        for (int s = 0; s < v.s; ++s) {
                            const int h = p * v.stride_h + r - v.pad_h,
                                      w = q * v.stride_w + s - v.pad_w;
                            if (h < 0 || w < 0 || h >= v.h || w >= v.w) continue;
                            const size_t x =
                                ((size_t(n) * v.h + h) * v.w + w) * v.c + k / v.kg() * v.cg();
                            const size_t f0 = ((size_t(k) * v.r + r) * v.s + s) * v.cg();
                            const size_t y = ((size_t(n) * v.p() + p) * v.q() + q) * v.k + k;
                            for (int c = 0; c < v.cg(); ++c) f(x + c, f0 + c, y);
                        }
}

inline Sums conv_fprop(const ConvProblem& v, const std::vector<double>& x,
                       const std::vector<double>& w, const std::vector<double>& bias) {
    Sums y(v.y_count());
    if (v.bias)
        for (size_t i = 0; i < y.value.size(); ++i) y.add(i, bias[i % v.k]);
    for_each_product(v, [&](size_t xi, size_t wi, size_t yi) { y.add(yi, x[xi] * w[wi]); });
    if (v.relu)
        for (double& e : y.value) e = std::max(e, 0.0);
    return y;
}

// x is read with drelu only.
inline Sums conv_dgrad(const ConvProblem& v, const std::vector<double>& dy,
                       const std::vector<double>& w, const std::vector<double>& x = {}) {
    Sums dx(v.x_count());
    for_each_product(v, [&](size_t xi, size_t wi, size_t yi) { dx.add(xi, dy[yi] * w[wi]); });
    if (v.drelu)
        for (size_t i = 0; i < x.size(); ++i)
            if (!(x[i] > 0)) dx.scale(i, 0);
    return dx;
}

inline Sums conv_wgrad(const ConvProblem& v, const std::vector<double>& x,
                       const std::vector<double>& dy) {
    Sums dw(v.w_count());
    for_each_product(v, [&](size_t xi, size_t wi, size_t yi) { dw.add(wi, dy[yi] * x[xi]); });
    return dw;
}

inline Sums conv_bias_grad(const ConvProblem& v, const std::vector<double>& dy) {
    Sums db(v.k);
    for (size_t i = 0; i < dy.size(); ++i) db.add(i % v.k, dy[i]);
    return db;
}

}  // namespace wt::reference
