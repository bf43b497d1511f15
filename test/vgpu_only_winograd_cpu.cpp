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
        {.n = 128, .h = 13, .w = 13, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1},
        {.n = 5, .h = 17, .w = 9, .r = 5, .s = 5, .pad_h = 4, .pad_w = 1},
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

float value(int pixel, int channel) { return std::sin(float(pixel * 131 + channel * 17)); }

// A transform of N x N values to points, by CPU vectors and by the matrices. Points of the matrices
// come in another order and scale: what both compute of one convolution is compared.
template <int M, int R>
void check_convolution(const Leaves& leaves) {
    CAPTURE(M);
    CAPTURE(R);
    using winograd::matrices;
    constexpr auto w = matrices<M, R>();
    std::vector<float> x(64 * kPitch), taps(R * R * kPitch), points(64 * kPitch),
        filter(64 * kPitch), y(M * M * kPitch);
    std::vector<const float*> x_at(64), taps_at(R * R);
    std::vector<float*> y_at(M * M);
    for (int i = 0; i < 64; ++i) {
        x_at[i] = &x[i * kPitch];
        for (int c = 0; c < kChannels; ++c) x[i * kPitch + c] = value(i, c);
    }
    for (int i = 0; i < R * R; ++i) {
        taps_at[i] = &taps[i * kPitch];
        for (int c = 0; c < kChannels; ++c) taps[i * kPitch + c] = value(i + 64, c);
    }
    for (int i = 0; i < M * M; ++i) y_at[i] = &y[i * kPitch];
    leaves.input(x_at.data(), kChannels, points.data(), kPitch);
    leaves.taps(R)(taps_at.data(), kChannels, filter.data(), kPitch);
    for (size_t i = 0; i < points.size(); ++i) points[i] *= filter[i];
    leaves.output(M)(points.data(), kPitch, kChannels, {}, y_at.data());
    double worst = 0;
    for (int c = 0; c < kChannels; ++c) {
        std::vector<double> xs(64), ws(R * R);
        for (int i = 0; i < 64; ++i) xs[i] = x[i * kPitch + c];
        for (int i = 0; i < R * R; ++i) ws[i] = taps[i * kPitch + c];
        auto product = both_ways(w.bt, xs);
        const auto u = both_ways(w.g, ws);
        for (int i = 0; i < 64; ++i) product[i] *= u[i];
        const auto want = both_ways(w.at, product);
        for (int i = 0; i < M * M; ++i)
            worst = std::max(worst, std::abs(want[i] - y[i * kPitch + c]));
    }
    CHECK(worst > 0);
    CHECK(worst < 2e-4);
    for (int i = 0; i < M * M; ++i)
        for (int c = kChannels; c < kPitch; ++c) CHECK(y[i * kPitch + c] == 0);
}

}  // namespace

TEST_CASE("winograd on a CPU: tiles have every result once, and read its pixels") {
    for (const ConvProblem& problem : shapes()) {
        const ConvProblem p = unstrided(problem);
        const Tiles tiles = tiles_of(p);
        CAPTURE(p.h);
        CAPTURE(p.n);
        const int m = tiles.down.tile;
        REQUIRE(m == 9 - p.r);
        struct At {
            int image, row, col;
            bool operator==(const At&) const = default;
        };
        std::vector<int> seen(p.n * p.p() * p.q());
        bool right = true;
        for (int64_t t = 0; t < tiles.count(); ++t) {
            At read[kSide][kSide];
            tiles.each(t, true, kSide, [&](int i, int j, int image, int row, int col) {
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
        check_convolution<6, 3>(*leaves);
        check_convolution<4, 5>(*leaves);
        check_convolution<3, 6>(*leaves);  // wgrad's
        check_convolution<5, 4>(*leaves);
    }
}
