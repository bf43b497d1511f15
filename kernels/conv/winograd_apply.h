// Winograd's transforms of what a thread has in registers: y = T x for the matrices of winograd.h,
// whose entries are constants here. Rows and columns of the points p and -p share their even and
// odd parts: half the multiplications.
#pragma once

#include "kernels/common/vec.h"
#include "kernels/conv/winograd.h"

namespace wt::winograd {

// What a transform is of: float, double, or a vector of floats. A type of one's own needs these
// three and operator+. c is a constant: the conversion costs nothing.
__device__ __forceinline__ float times(double c, float x) { return static_cast<float>(c) * x; }
__device__ __forceinline__ double times(double c, double x) { return c * x; }
__device__ __forceinline__ float add_times(double c, float x, float sum) {
    return sum + static_cast<float>(c) * x;
}
__device__ __forceinline__ double add_times(double c, double x, double sum) { return sum + c * x; }
__device__ __forceinline__ float minus(float a, float b) { return a - b; }
__device__ __forceinline__ double minus(double a, double b) { return a - b; }

template <int N>
__device__ __forceinline__ Vec<N> times(double c, const Vec<N>& x) {
    const float f = static_cast<float>(c);
    Vec<N> r;
#ifdef VGPU
    if constexpr (N > 1) {
        r.lanes = f * x.lanes;
        return r;
    }
#endif
    unroll<N>([&](auto i) { r.set(i, f * x[i]); });
    return r;
}
template <int N>
__device__ __forceinline__ Vec<N> add_times(double c, const Vec<N>& x, const Vec<N>& sum) {
    return fma(static_cast<float>(c), x, sum);
}
template <int N>
__device__ __forceinline__ Vec<N> minus(const Vec<N>& a, const Vec<N>& b) {
    return fma(-1.0f, b, a);
}

// sum += c x for a constant c; the first term of a sum only sets it.
template <class C, bool First, class V>
__device__ __forceinline__ void accumulate(V& sum, const V& x) {
    constexpr double c = C::value;
    if constexpr (c == 0)
        return;
    else if constexpr (First)
        sum = c == 1 ? x : times(c, x);
    else if constexpr (c == 1)
        sum = sum + x;
    else if constexpr (c == -1)
        sum = minus(sum, x);
    else
        sum = add_times(c, x, sum);
}

// The first entry from `k` on, in steps, that is not 0.
template <int Rows, int Cols>
constexpr int first_in_row(const Matrix<Rows, Cols>& m, int row, int k, int step) {
    while (k < Cols && m.v[row][k] == 0) k += step;
    return k;
}

// Whether row i + 1 is row i with the odd columns' signs turned: the points p and -p.
template <int Rows, int Cols>
constexpr bool opposite_rows(const Matrix<Rows, Cols>& m, int i) {
    if (i < 0 || i + 1 >= Rows) return false;
    bool both = false;  // parts, even and odd
    for (int k = 0; k < Cols; ++k) {
        if (m.v[i + 1][k] != (k % 2 ? -m.v[i][k] : m.v[i][k])) return false;
        both |= k % 2 && m.v[i][k] != 0;
    }
    return both;
}
template <int Rows, int Cols>
constexpr bool opposite_columns(const Matrix<Rows, Cols>& m, int j) {
    if (j < 0 || j + 1 >= Cols) return false;
    bool both = false;
    for (int i = 0; i < Rows; ++i) {
        if (m.v[i][j + 1] != (i % 2 ? -m.v[i][j] : m.v[i][j])) return false;
        both |= i % 2 && m.v[i][j] != 0;
    }
    return both;
}

// What device code asks of a matrix, computed outside of it.
template <class T, int I, int K>
struct Entry {
    static constexpr double value = T::matrix.v[I][K];
};
template <class T, int I>
struct Row {
    static constexpr bool kFirst = opposite_rows(T::matrix, I),  // of a pair
        kSecond = opposite_rows(T::matrix, I - 1);
};
template <class T, int J>
struct Column {
    static constexpr bool kFirst = opposite_columns(T::matrix, J),
                          kSecond = opposite_columns(T::matrix, J - 1);
};
template <class T, int I, int From, int Step>
struct FirstInRow {
    static constexpr int value = first_in_row(T::matrix, I, From, Step);
    static_assert(value < T::matrix.kCols, "no row is empty, nor its even or odd part");
};

// The sum of row I times x over every Step-th column.
template <class T, int I, int From, int Step, class V, int Cols>
__device__ __forceinline__ V row_times(const V (&x)[Cols]) {
    V sum;
    unroll<Cols>([&](auto k) {
        constexpr int K = decltype(k)::value, kFirst = FirstInRow<T, I, From, Step>::value;
        if constexpr (K >= kFirst && (K - kFirst) % Step == 0)
            accumulate<Entry<T, I, K>, K == kFirst>(sum, x[K]);
    });
    return sum;
}

// y = T x for T = B^T or G, whose rows come in pairs.
template <class T, class V, int Cols, int Rows>
__device__ __forceinline__ void transform(const V (&x)[Cols], V (&y)[Rows]) {
    static_assert(Cols == T::matrix.kCols && Rows == T::matrix.kRows);
    unroll<Rows>([&](auto i) {
        constexpr int I = decltype(i)::value;
        if constexpr (Row<T, I>::kFirst) {
            const V even = row_times<T, I, 0, 2>(x), odd = row_times<T, I, 1, 2>(x);
            y[I] = even + odd;
            y[I + 1] = minus(even, odd);
        } else if constexpr (!Row<T, I>::kSecond) {
            y[I] = row_times<T, I, 0, 1>(x);
        }
    });
}

// y = A^T x, whose columns come in pairs.
template <class T, class V, int Cols, int Rows>
__device__ __forceinline__ void transform_back(const V (&x)[Cols], V (&y)[Rows]) {
    static_assert(Cols == T::matrix.kCols && Rows == T::matrix.kRows);
    V part[Cols];  // of a pair, the sum and the difference
    unroll<Cols>([&](auto j) {
        constexpr int J = decltype(j)::value;
        if constexpr (Column<T, J>::kFirst) {
            part[J] = x[J] + x[J + 1];
            part[J + 1] = minus(x[J], x[J + 1]);
        } else if constexpr (!Column<T, J>::kSecond) {
            part[J] = x[J];
        }
    });
    unroll<Rows>([&](auto i) {
        unroll<Cols>([&](auto j) {
            // Even rows take a pair's sum, odd ones its difference, times the first's entry.
            constexpr int I = decltype(i)::value, J = decltype(j)::value;
            constexpr bool kFirst = J == FirstInRow<T, I, 0, 1>::value;
            if constexpr (Column<T, J>::kFirst)
                accumulate<Entry<T, I, J>, kFirst>(y[I], part[J + I % 2]);
            else if constexpr (!Column<T, J>::kSecond)
                accumulate<Entry<T, I, J>, kFirst>(y[I], part[J]);
        });
    });
}

}  // namespace wt::winograd
