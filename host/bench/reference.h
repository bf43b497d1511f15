// Single elements of every operation's result in fp64, by the definitions in kernels/*/problem.h:
// what a sample of a large result is held against. (test/reference computes whole results of small
// problems, in another order; a test holds these against those.) `x`, `w`, ... are anything that
// operator[] turns into the element's value.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/activation/problem.h"
#include "kernels/augment/problem.h"
#include "kernels/common/dropout_draw.h"
#include "kernels/conv/problem.h"
#include "kernels/dropout/problem.h"
#include "kernels/gemm/problem.h"
#include "kernels/lrn/problem.h"
#include "kernels/lrn_pool/problem.h"
#include "kernels/pool/problem.h"

namespace wt::bench::exact {

// Element i of a tensor of images: sample, row, column, channel.
struct Nhwc {
    int n, h, w, c;
};
inline Nhwc nhwc(int64_t i, int h, int w, int c) {
    return {static_cast<int>(i / c / w / h), static_cast<int>(i / c / w % h),
            static_cast<int>(i / c % w), static_cast<int>(i % c)};
}
inline int64_t at(int n, int h, int w, int c, int H, int W, int C) {
    return ((int64_t(n) * H + h) * W + w) * C + c;
}

// Where channel `ch` of the pixel that tap (r, s) of output (p, q) reads lies in x; -1: padding.
inline int64_t conv_input(const ConvProblem& v, int n, int p, int q, int r, int s, int ch) {
    const int h = p * v.stride_h + r - v.pad_h, w = q * v.stride_w + s - v.pad_w;
    if (h < 0 || w < 0 || h >= v.h || w >= v.w) return -1;
    if (v.fold == 1) return at(n, h, w, ch, v.h, v.w, v.c);
    const int f = v.fold, sh = h + v.pad_h, sw = w + v.pad_w;
    const int channel = (sh % f * f + sw % f) * v.c + ch;
    if (!v.planes) return at(n, sh / f, sw / f, channel, v.fold_h(), v.fold_w(), f * f * v.c);
    const int64_t position = at(n, sh / f, sw / f, 0, v.fold_h(), v.fold_w(), 1);
    return plane_offset(position, channel, plane_pitch(v.positions()));
}
inline int64_t conv_filter(const ConvProblem& v, int k, int r, int s, int c) {
    return at(k, r, s, c, v.r, v.s, v.cg());
}

template <class X, class W, class B>
double conv_fprop(const ConvProblem& v, const X& x, const W& w, const B& bias, int64_t i) {
    const Nhwc o = nhwc(i, v.p(), v.q(), v.k);
    const int first = o.c / v.kg() * v.cg();
    double sum = v.bias ? bias[o.c] : 0;
    for (int r = 0; r < v.r; ++r)
        for (int s = 0; s < v.s; ++s)
            for (int c = 0; c < v.cg(); ++c)
                if (const int64_t in = conv_input(v, o.n, o.h, o.w, r, s, first + c); in >= 0)
                    sum += x[in] * w[conv_filter(v, o.c, r, s, c)];
    return v.relu ? std::max(sum, 0.0) : sum;
}

template <class D, class W, class X>
double conv_dgrad(const ConvProblem& v, const D& dy, const W& w, const X& x, int64_t i) {
    const Nhwc e = nhwc(i, v.h, v.w, v.c);
    if (v.drelu && !(x[i] > 0)) return 0;
    const int group = e.c / v.cg();
    double sum = 0;
    for (int r = 0; r < v.r; ++r)
        for (int s = 0; s < v.s; ++s) {
            const int h = e.h + v.pad_h - r, u = e.w + v.pad_w - s;
            if (h < 0 || u < 0 || h % v.stride_h || u % v.stride_w || h / v.stride_h >= v.p() ||
                u / v.stride_w >= v.q())
                continue;
            for (int k = group * v.kg(); k < (group + 1) * v.kg(); ++k)
                sum += dy[at(e.n, h / v.stride_h, u / v.stride_w, k, v.p(), v.q(), v.k)] *
                       w[conv_filter(v, k, r, s, e.c % v.cg())];
        }
    return sum;
}

template <class X, class D>
double conv_wgrad(const ConvProblem& v, const X& x, const D& dy, int64_t i) {
    const Nhwc f = nhwc(i, v.r, v.s, v.cg());  // n is the filter
    double sum = 0;
    for (int n = 0; n < v.n; ++n)
        for (int p = 0; p < v.p(); ++p)
            for (int q = 0; q < v.q(); ++q)
                if (const int64_t in =
                        conv_input(v, n, p, q, f.h, f.w, f.n / v.kg() * v.cg() + f.c);
                    in >= 0)
                    sum += x[in] * dy[at(n, p, q, f.n, v.p(), v.q(), v.k)];
    return sum;
}

// Sum of every `cols`-th element from `col` on: bias gradients.
template <class D>
double column_sum(const D& dy, int64_t rows, int64_t ld, int64_t col) {
    double sum = 0;
    for (int64_t r = 0; r < rows; ++r) sum += dy[r * ld + col];
    return sum;
}

// Without epilogue.
template <class A, class B>
double gemm(const GemmProblem& p, const A& a, const B& b, int64_t m, int64_t n) {
    double sum = 0;
    for (int64_t k = 0; k < p.k; ++k)
        sum += a[p.layout == GemmLayout::tn ? k * p.lda + m : m * p.lda + k] *
               b[p.layout == GemmLayout::nt ? n * p.ldb + k : k * p.ldb + n];
    return sum;
}

inline bool kept(const StepState& state, uint32_t layer, int64_t row, int64_t col, float p) {
    const PhiloxCounter words =
        philox4x32_10(dropout_counter(col / 8, row, state.step), dropout_key(state.seed, layer));
    return dropout_half_word(words, static_cast<int>(col % 8)) >= dropout_threshold(p);
}

template <class X>
double lrn_sum(const LrnProblem& p, const X& x, int64_t pixel, int i) {
    double sum = 0;
    for (int j = std::max(0, i - p.size / 2); j <= std::min(p.c - 1, i + p.size / 2); ++j)
        sum += x[pixel * p.c + j] * x[pixel * p.c + j];
    return p.k + p.alpha * sum;
}
template <class X>
double lrn_forward(const LrnProblem& p, const X& x, int64_t i) {
    return x[i] * std::pow(lrn_sum(p, x, i / p.c, static_cast<int>(i % p.c)), -double(p.beta));
}
template <class X, class D>
double lrn_backward(const LrnProblem& p, const X& x, const D& dy, int64_t i) {
    const int64_t pixel = i / p.c;
    const int c = static_cast<int>(i % p.c);
    double sum = 0;
    for (int j = std::max(0, c - p.size / 2); j <= std::min(p.c - 1, c + p.size / 2); ++j)
        sum += dy[pixel * p.c + j] * x[pixel * p.c + j] *
               std::pow(lrn_sum(p, x, pixel, j), -double(p.beta) - 1);
    return dy[i] * std::pow(lrn_sum(p, x, pixel, c), -double(p.beta)) -
           2.0 * p.alpha * p.beta * x[i] * sum;
}

struct Maximum {
    double value;
    int at;  // i * window + j
};
// Calls f(place in the window, index in x) for every element of output i's window that is inside
// the image.
template <class F>
void each_in_window(const PoolProblem& p, int64_t i, F&& f) {
    const Nhwc o = nhwc(i, p.p(), p.q(), p.c);
    for (int a = 0; a < p.window; ++a)
        for (int b = 0; b < p.window; ++b) {
            const int h = o.h * p.stride - p.pad + a, w = o.w * p.stride - p.pad + b;
            if (h >= 0 && w >= 0 && h < p.h && w < p.w)
                f(a * p.window + b, at(o.n, h, w, o.c, p.h, p.w, p.c));
        }
}
template <class X>
Maximum pool_forward(const PoolProblem& p, const X& x, int64_t i) {
    Maximum m{0, -1};
    each_in_window(p, i, [&](int place, int64_t in) {
        if (m.at < 0 || x[in] > m.value) m = {x[in], place};
    });
    return m;
}
template <class D, class A>
double pool_backward(const PoolProblem& p, const D& dy, const A& argmax, int64_t i) {
    const Nhwc e = nhwc(i, p.h, p.w, p.c);
    double sum = 0;
    for (int a = 0; a < p.window; ++a)
        for (int b = 0; b < p.window; ++b) {
            const int h = e.h + p.pad - a, w = e.w + p.pad - b;
            if (h < 0 || w < 0 || h % p.stride || w % p.stride || h / p.stride >= p.p() ||
                w / p.stride >= p.q())
                continue;
            const int64_t o = at(e.n, h / p.stride, w / p.stride, e.c, p.p(), p.q(), p.c);
            if (argmax[o] == a * p.window + b) sum += dy[o];
        }
    return sum;
}

// What the fused forward takes the maximum of.
template <class X>
struct LrnPooled {
    LrnPoolProblem p;
    X x;
    double operator[](int64_t i) const {
        return p.lrn ? lrn_forward(p.norm(), x, i) : double(x[i]);
    }
};

// Elements of the fused backward's dx.
template <class X>
struct LrnPoolBackward {
    LrnPoolProblem p;
    X x, y, dy;
    const uint8_t* argmax;

    struct Sent {  // what the windows send back; without LRN, those whose maximum is above 0
        const LrnPoolBackward& f;
        double operator[](int64_t o) const {
            return !f.p.lrn && f.p.relu && !(f.y[o] > 0) ? 0 : f.dy[o];
        }
    };
    struct Pooled {
        const LrnPoolBackward& f;
        double operator[](int64_t i) const {
            return pool_backward(f.p.pool(), Sent{f}, f.argmax, i);
        }
    };
    double operator[](int64_t i) const {
        if (!p.lrn) return Pooled{*this}[i];
        return p.relu && !(x[i] > 0) ? 0 : lrn_backward(p.norm(), x, Pooled{*this}, i);
    }
};

// The results of one row of logits.
struct Softmax {
    double top = -INFINITY, sum = 0;
};
template <class Z>
Softmax softmax(const Z& z, int64_t first, int classes) {
    Softmax s;
    for (int j = 0; j < classes; ++j) s.top = std::max(s.top, double(z[first + j]));
    for (int j = 0; j < classes; ++j) s.sum += std::exp(z[first + j] - s.top);
    return s;
}

// The pixel and channel of the crops that element i of the augmentation's result holds, however it
// is stored; n is -1 where it holds none and is zero.
inline Nhwc augmented(const AugmentProblem& p, int64_t i) {
    if (p.fold == 1) return nhwc(i, p.out_h, p.out_w, 3);
    const int f = p.fold, channels = f * f * 3;
    const PlaneElement e = p.planes ? plane_element(i, plane_pitch(p.positions()))
                                    : PlaneElement{i / channels, static_cast<int>(i % channels)};
    const Nhwc block = nhwc(e.position, p.fold_h, p.fold_w, 1);
    const Nhwc pixel{block.n, block.h * f + e.channel / 3 / f - p.pad,
                     block.w * f + e.channel / 3 % f - p.pad, e.channel % 3};
    const bool exists = e.position < p.positions() && pixel.h >= 0 && pixel.h < p.out_h &&
                        pixel.w >= 0 && pixel.w < p.out_w;
    return exists ? pixel : Nhwc{-1, 0, 0, 0};
}
template <class I, class D>
double augment(const AugmentProblem& p, const I& images, const D& draws, const float* mean,
               const float* inv_std, int64_t i) {
    const Nhwc e = augmented(p, i);
    if (e.n < 0) return 0;
    const AugmentParams& draw = draws[e.n];
    const int col = draw.x0 + (draw.mirror ? p.out_w - 1 - e.w : e.w);
    return (double(images[at(e.n, draw.y0 + e.h, col, p.src_c == 3 ? e.c : 0, p.src_h, p.src_w,
                             p.src_c)]) +
            draw.noise[e.c] - mean[e.c]) *
           inv_std[e.c];
}

}  // namespace wt::bench::exact
