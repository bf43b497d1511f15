// Winograd's minimal filtering: m results of a filter of r taps from m + r - 1 products instead of
// m r. Lavin and Gray 2016, https://arxiv.org/abs/1509.09308. In two dimensions F(4x4, 3x3) does
// 36 products a tile for 144, F(4x4, 5x5) 64 for 400. For any m and r whose sum has points below:
//
//   fprop  Winograd<m, r>:  y = A^T [ (G w G^T) .* (B^T x B) ] A,  tiles of x overlap by r - 1
//   dgrad  the same of dy and the filters turned by 180 degrees
//   wgrad  Winograd<r, m>:  dy's tile of m x m is the filter, dw the r x r results. B^T is fprop's,
//          since it depends on m + r alone, and x's tiles lie where fprop has them
//
// How it works. x as a polynomial's coefficients times w as another's is multiplication of their
// values at m + r - 2 points and "at infinity" (the leading coefficients); a correlation is the
// transpose of that. So A^T has the powers of the points, G the same over the products N_j of the
// differences to the other points, B^T's row j the coefficients of prod (t - p_k) over the k other
// than j. `matrices` computes them of the points.
//
// Error. The results are differences of larger products. Let each of the products be off by an
// independent relative error e, as rounding, and the sum over channels that a product stands for,
// leave it. Of operands at random, product j has the size |G_j| |B_j| (norms of rows), so that the
// results are off by
//
//   growth = sqrt( sum_ij A_ij^2 |G_j|^2 |B_j|^2 / (m r) )
//
// times what a direct sum of r products is that are off by e each; in two dimensions by its square,
// `growth<m, r>()`: 4.8 for F(4x4, 3x3), 19 for F(4x4, 5x5), 5.4 for F(2x2, 5x5). A direct sum has
// r^2 times as many terms, which costs it a factor of r in rounding: in fp32 the transforms lose
// less than growth says. Where operands are rounded to tf32 it is what they lose. Whatever the
// operands, with w_max and x_max the largest of them, a result is off by at most e r^2 w_max x_max
// times `worst_growth<m, r>()`, which is made of |A_ij| |G_j|_1 |B_j|_1.
//
// Points: those with the least growth among symmetric sets of eighths and sixteenths. In pairs +-p
// a transform needs half the multiplications (even and odd parts), and in short binary fractions
// B^T and A^T are exact in fp32. For 6 points +-5/8 and +-3/2 have 4.8 where the usual +-1 and +-2
// have 10.8; for 8, +-1/2, +-1 and +-2 are the best; for 10 these are the best with 1 among them,
// where a tile's plain sum is (152 for F(6x6, 5x5); 102 without). Scaling a row by a power of two
// changes no error.
#pragma once

namespace wt::winograd {

template <int Rows, int Cols>
struct Matrix {
    static constexpr int kRows = Rows, kCols = Cols;
    double v[Rows][Cols] = {};
};

// The finite points for tiles of n = m + r - 1.
template <int n>
struct Points;
template <>
struct Points<4> {
    static constexpr double p[] = {0, 1, -1};
};
template <>
struct Points<6> {
    static constexpr double p[] = {0, 0.625, -0.625, 1.5, -1.5};
};
template <>
struct Points<8> {
    static constexpr double p[] = {0, 0.5, -0.5, 1, -1, 2, -2};
};
template <>
struct Points<10> {
    static constexpr double p[] = {0, 0.375, -0.375, 1, -1, 1.25, -1.25, 2.5, -2.5};
};

template <int M, int R>
struct Matrices {
    static constexpr int N = M + R - 1;
    Matrix<N, N> bt;
    Matrix<N, R> g;
    Matrix<M, N> at;
};

template <int M, int R>
constexpr Matrices<M, R> matrices() {
    constexpr int N = M + R - 1;
    const auto& p = Points<N>::p;
    Matrices<M, R> w;
    for (int j = 0; j < N; ++j) {
        // the product of (t - p_k), a factor at a time; at infinity of all k
        double* t = w.bt.v[j];
        t[0] = 1;
        double differences = 1;
        for (int k = 0; k < N - 1; ++k) {
            if (k == j) continue;
            for (int i = N - 1; i >= 0; --i) t[i] = (i > 0 ? t[i - 1] : 0) - p[k] * t[i];
            if (j < N - 1) differences *= p[j] - p[k];
        }
        if (j == N - 1) {
            w.g.v[j][R - 1] = w.at.v[M - 1][j] = 1;
            continue;
        }
        double power = 1;
        for (int i = 0; i < (M > R ? M : R); ++i, power *= p[j]) {
            if (i < R) w.g.v[j][i] = power / differences;
            if (i < M) w.at.v[i][j] = power;
        }
    }
    return w;
}

// F(M, R) and what its transforms multiply by: types, so that device code sees constants only.
template <int M, int R>
struct Winograd {
    static constexpr int kOut = M, kTaps = R, kTile = M + R - 1, kPlanes = kTile * kTile;
    struct BT {
        static constexpr auto matrix = matrices<M, R>().bt;
    };
    struct G {
        static constexpr auto matrix = matrices<M, R>().g;
    };
    struct AT {
        static constexpr auto matrix = matrices<M, R>().at;
    };
};

// ---- error --------------------------------------------------------------------------------------

// The growth of independent relative errors in one dimension, squared, of result i of m.
template <int M, int R>
constexpr double growth_of_result(int i) {
    constexpr auto w = matrices<M, R>();
    double sum = 0;
    for (int j = 0; j < w.N; ++j) {
        double b = 0, g = 0;
        for (int k = 0; k < w.N; ++k) b += w.bt.v[j][k] * w.bt.v[j][k];
        for (int k = 0; k < R; ++k) g += w.g.v[j][k] * w.g.v[j][k];
        sum += w.at.v[i][j] * w.at.v[i][j] * b * g;
    }
    return sum / R;
}

// The same in two dimensions, in norm over a tile: see above. The square of the square root.
template <int M, int R>
constexpr double growth() {
    double sum = 0;
    for (int i = 0; i < M; ++i) sum += growth_of_result<M, R>(i);
    return sum / M;
}

// And of the results of a tile that have it worst: a corner.
template <int M, int R>
constexpr double corner_growth() {
    double most = 0;
    for (int i = 0; i < M; ++i)
        most = growth_of_result<M, R>(i) > most ? growth_of_result<M, R>(i) : most;
    return most;
}

// The same of the worst operands, for the worst result.
template <int M, int R>
constexpr double worst_growth() {
    constexpr auto w = matrices<M, R>();
    const auto size = [](double v) { return v < 0 ? -v : v; };
    double worst = 0;
    for (int i = 0; i < M; ++i) {
        double sum = 0;
        for (int j = 0; j < w.N; ++j) {
            double b = 0, g = 0;
            for (int k = 0; k < w.N; ++k) b += size(w.bt.v[j][k]);
            for (int k = 0; k < R; ++k) g += size(w.g.v[j][k]);
            sum += size(w.at.v[i][j]) * b * g;
        }
        worst = sum > worst ? sum : worst;
    }
    return worst * worst / (R * R);
}

}  // namespace wt::winograd
