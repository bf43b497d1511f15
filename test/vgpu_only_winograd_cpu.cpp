// Winograd on a CPU, piece by piece: its tiles cover every result once and read the right pixels;
// its transforms, in both instruction sets, are winograd.h's matrices. The passes as a whole are
// tested with the other variants (test_conv.cpp).
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "kernels/conv/winograd.h"
#include "kernels/conv/winograd_cpu.h"
#include "kernels/conv/winograd_fold_cpu.h"
#include "kernels/conv/winograd_passes_cpu.h"

using namespace wt;
using namespace wt::winograd_cpu;

namespace {

std::vector<ConvProblem> shapes() {
    return {
        {.n = 1, .h = 1, .w = 2, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1},
        {.n = 7, .h = 13, .w = 13, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1},
        {.n = 40, .h = 3, .w = 4, .r = 3, .s = 3, .pad_h = 2, .pad_w = 0},
        {.n = 40, .h = 3, .w = 4, .r = 3, .s = 3, .pad_h = 2, .pad_w = 0, .dtype = DType::bf16},
        {.n = 128, .h = 13, .w = 13, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1},
        {.n = 5, .h = 17, .w = 9, .r = 5, .s = 5, .pad_h = 4, .pad_w = 1},
        {.n = 5, .h = 17, .w = 9, .r = 5, .s = 5, .pad_h = 4, .pad_w = 1, .dtype = DType::bf16},
        {.n = 3, .h = 39, .w = 35, .c = 3, .r = 11, .s = 11, .stride_h = 4, .stride_w = 4},
    };
}

// rows x cols as the matrix says, of a one-dimensional transform in double.
template <class Matrix>
std::vector<double> times(const Matrix& m, const std::vector<double>& x) {
    std::vector<double> y(Matrix::kRows);
    for (int i = 0; i < Matrix::kRows; ++i)
        for (int j = 0; j < Matrix::kCols; ++j) y[i] += m.v[i][j] * x[j];
    return y;
}

// m x (side x side) m^T
template <class Matrix>
std::vector<double> both_ways(const Matrix& m, const std::vector<double>& x) {
    constexpr int kRows = Matrix::kRows, kCols = Matrix::kCols;
    std::vector<double> half(kRows * kCols), y(kRows * kRows);
    for (int j = 0; j < kCols; ++j) {
        std::vector<double> column(kCols);
        for (int i = 0; i < kCols; ++i) column[i] = x[i * kCols + j];
        const auto t = times(m, column);
        for (int i = 0; i < kRows; ++i) half[i * kCols + j] = t[i];
    }
    for (int i = 0; i < kRows; ++i) {
        const auto t = times(m, {half.begin() + i * kCols, half.begin() + (i + 1) * kCols});
        for (int j = 0; j < kRows; ++j) y[i * kRows + j] = t[j];
    }
    return y;
}

constexpr int kChannels = 37;  // whole vectors and a rest, of 8 lanes and of 16
constexpr int kPitch = 48;

// As T stores it.
template <class T>
T value(int pixel, int channel) {
    return from_float<T>(std::sin(float(pixel * 131 + channel * 17)));
}

// `pixels` x `pixels` values of kChannels from `first` on, and pointers to them.
template <class T>
struct Values {
    int count;
    std::vector<T> all;
    std::vector<const T*> at;
    Values(int side, int first) : count(side * side), all(count * kPitch), at(count) {
        for (int i = 0; i < count; ++i) {
            at[i] = &all[i * kPitch];
            for (int c = 0; c < kChannels; ++c) all[i * kPitch + c] = value<T>(first + i, c);
        }
    }
    std::vector<double> of(int channel) const {
        std::vector<double> v(count);
        for (int i = 0; i < count; ++i) v[i] = to_float(all[i * kPitch + channel]);
        return v;
    }
};

// F(M x M, R x R) of values stored as X and W into results stored as Y, by the CPU's vectors and by
// the matrices, whose points come in another order and scale in tiles of 8: what both compute of
// one convolution is compared. Y's rounding and `allowed` are what they may differ by.
template <int M, int R, class X, class W, class Y>
void check_convolution(ToPoints<X> input, ToPoints<W> taps, FromPoints<Y> output, double allowed) {
    CAPTURE(M);
    CAPTURE(R);
    constexpr int kPoints = (M + R - 1) * (M + R - 1);
    constexpr auto w = winograd::matrices<M, R>();
    const Values<X> x(M + R - 1, 0);
    const Values<W> filter(R, kPoints);
    std::vector<float> points(kPoints * kPitch), filter_points(kPoints * kPitch);
    std::vector<Y> y(M * M * kPitch);
    std::vector<Y*> y_at(M * M);
    for (int i = 0; i < M * M; ++i) y_at[i] = &y[i * kPitch];
    input(x.at.data(), kChannels, points.data(), kPitch);
    taps(filter.at.data(), kChannels, filter_points.data(), kPitch);
    for (size_t i = 0; i < points.size(); ++i) points[i] *= filter_points[i];
    output(points.data(), kPitch, kChannels, {}, y_at.data());
    const double rounding = std::is_same_v<Y, bf16> ? 1.0 / 256 : 0;
    double worst = 0;
    for (int c = 0; c < kChannels; ++c) {
        auto product = both_ways(w.bt, x.of(c));
        const auto u = both_ways(w.g, filter.of(c));
        for (int i = 0; i < kPoints; ++i) product[i] *= u[i];
        const auto want = both_ways(w.at, product);
        for (int i = 0; i < M * M; ++i)
            worst = std::max(worst, std::abs(want[i] - to_float(y[i * kPitch + c])) /
                                        (allowed + rounding * std::abs(want[i])));
    }
    CHECK(worst > 0);
    CHECK(worst < 1);
    for (int i = 0; i < M * M; ++i)
        for (int c = kChannels; c < kPitch; ++c) CHECK(to_float(y[i * kPitch + c]) == 0);
}

// All five transforms of activations stored as T, in the two convolutions that they are for.
template <int M, int R, class T>
void check_transforms(const Leaves& leaves, double allowed) {
    const Transforms<T>& t = leaves.of<T>(R);
    REQUIRE(t.side == side_of(dtype_of<T>));
    REQUIRE(t.side == M + R - 1);
    REQUIRE(t.taps == R);
    check_convolution<M, R>(t.input, t.filters, t.output, allowed);
    check_convolution<R, M>(t.input, t.gradient, t.of_filters, allowed);  // wgrad's
    // A tile's sum, which is what db is made of.
    const Values<T> dy(M, 7);
    std::vector<float> points(t.side * t.side * kPitch);
    t.gradient(dy.at.data(), kChannels, points.data(), kPitch);
    for (int c = 0; c < kChannels; ++c) {
        double sum = 0;
        for (const double v : dy.of(c)) sum += v;
        CHECK(points[t.one * kPitch + c] * t.one_scale == doctest::Approx(sum).epsilon(1e-4));
    }
}

}  // namespace

TEST_CASE("winograd on a CPU: tiles have every result once, and read its pixels") {
    for (const ConvProblem& problem : shapes()) {
        const ConvProblem p = unstrided(problem);
        const Tiles tiles = tiles_of(p);
        CAPTURE(p.h);
        CAPTURE(p.n);
        const int m = tiles.down.tile;
        REQUIRE(m == side_of(p.dtype) + 1 - p.r);
        struct At {
            int image, row, col;
            bool operator==(const At&) const = default;
        };
        std::vector<int> seen(p.n * p.p() * p.q());
        bool right = true;
        for (int64_t t = 0; t < tiles.count(); ++t) {
            At read[kMostSide][kMostSide];
            tiles.each(t, true, side_of(p.dtype), [&](int i, int j, int image, int row, int col) {
                read[i][j] = {image, row, col};
            });
            tiles.each(t, false, m, [&](int i, int j, int image, int row, int col) {
                if (image < 0) return;
                ++seen[(image * p.p() + row) * p.q() + col];
                for (int r = 0; r < p.r; ++r)
                    for (int s = 0; s < p.s; ++s) {
                        const At want = {image, row + r - p.pad_h, col + s - p.pad_w};
                        const bool inside =
                            want.row >= 0 && want.row < p.h && want.col >= 0 && want.col < p.w;
                        right &= inside ? read[i + r][j + s] == want : read[i + r][j + s].image < 0;
                    }
            });
        }
        CHECK(right);
        CHECK(std::all_of(seen.begin(), seen.end(), [](int n) { return n == 1; }));
    }
}

TEST_CASE("winograd on a CPU: a mosaic of 13 x 13 images saves two fifths of the tiles") {
    const Tiles t = tiles_of({.n = 144, .h = 13, .w = 13, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1});
    CHECK(t.count() == 144 / 9 * 7 * 7);  // 3 images of 14 are 7 tiles of 6
}

TEST_CASE("winograd on a CPU: the transforms are those of the matrices") {
    std::vector<const Leaves*> all;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        all.push_back(&avx2_leaves());
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
        all.push_back(&avx512_leaves());
    if (all.empty()) MESSAGE("this CPU has neither AVX2 nor AVX-512: nothing is checked");
    for (const Leaves* leaves : all) {
        CAPTURE(leaves->panel);
        check_transforms<6, 3, float>(*leaves, 2e-4);
        check_transforms<4, 5, float>(*leaves, 2e-4);
        // of sums of up to 64 products of 1 at the most
        check_transforms<8, 3, bf16>(*leaves, 2e-3);
        check_transforms<6, 5, bf16>(*leaves, 2e-3);
    }
}
