// Winograd's transforms and products on a CPU's vectors: what winograd_avx2_cpu.cpp and
// winograd_avx512_cpu.cpp compile, each for its own vectors.
//
// No include guard, no include but of its own parts, and no call of a function from elsewhere:
// those two files name the width and the instruction set first, and code that was compiled for
// another set would not be inlined here. They define, in a namespace of their own:
//   kLanes         floats of a vector
//   kRows, kCols   products: rows and vectors of a tile of sums that stays in registers

#include "kernels/conv/winograd_transforms_cpu.h"

// ---- products -----------------------------------------------------------------------------------

// out[row, col] = sum over i of a[row, i] * b[i, col], one tile of R x C vectors. `a_next` is the
// distance of i and i + 1 in a, `a_row` of its rows.
template <int R, int C>
WT_INLINE void product_tile(const float* a, int64_t a_row, int64_t a_next, const float* b,
                            int64_t b_row, int depth, float* out, int64_t out_row, bool add) {
    V sum[R][C];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) sum[r][c] = add ? load(out + r * out_row + c * kLanes) : V{};
    for (int i = 0; i < depth; ++i) {
        V column[C];
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) column[c] = load(b + c * kLanes);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c) sum[r][c] += a[r * a_row] * column[c];
        a += a_next;
        b += b_row;
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) store(out + r * out_row + c * kLanes, sum[r][c]);
}

// Fewer rows than kRows, as many as there are.
template <int R, int C, bool across>
static void last_rows(int rows, const float* a, int64_t a_row, const float* b, int64_t b_row,
                      int depth, float* out, int64_t out_row, bool add) {
    if constexpr (R > 0) {
        if (rows == R)
            product_tile<R, C>(a, across ? 1 : a_row, across ? a_row : 1, b, b_row, depth, out,
                               out_row, add);
        else
            last_rows<R - 1, C, across>(rows, a, a_row, b, b_row, depth, out, out_row, add);
    }
}

// All rows of `columns` <= C vectors. across: a[i, row] is meant, not a[row, i].
template <int C, bool across>
static void product_rows(int rows, const float* a, int64_t a_row, const float* b, int64_t b_row,
                         int depth, float* out, int64_t out_row, bool add) {
    int r = 0;
    for (; r + kRows <= rows; r += kRows) {
        const float* first = a + (across ? r : r * a_row);
        product_tile<kRows, C>(first, across ? 1 : a_row, across ? a_row : 1, b, b_row, depth,
                               out + r * out_row, out_row, add);
    }
    if (r < rows)
        last_rows<kRows - 1, C, across>(rows - r, a + (across ? r : r * a_row), a_row, b, b_row,
                                        depth, out + r * out_row, out_row, add);
}

static void product(const Product& p) {
    constexpr int kWidth = kCols * kLanes;
    for (int col = 0; col < p.cols; col += kWidth) {
        const float* b = p.b + (p.across ? col : int64_t(col) * p.depth);
        const int64_t b_row = p.across ? p.b_row : kWidth;
        float* out = p.out + col;
        const bool narrow = p.cols - col <= kLanes;
        if (p.across && narrow)
            product_rows<1, true>(p.rows, p.a, p.a_row, b, b_row, p.depth, out, p.out_row, p.add);
        else if (p.across)
            product_rows<kCols, true>(p.rows, p.a, p.a_row, b, b_row, p.depth, out, p.out_row,
                                      p.add);
        else if (narrow)
            product_rows<1, false>(p.rows, p.a, p.a_row, b, b_row, p.depth, out, p.out_row, p.add);
        else
            product_rows<kCols, false>(p.rows, p.a, p.a_row, b, b_row, p.depth, out, p.out_row,
                                       p.add);
    }
}

// F(M x M, R x R) in tiles of 8.
template <int M, int R>
constexpr Transforms<float> of_8() {
    return {.side = 8,
            .taps = R,
            .one_scale = 4.5f * 4.5f,
            .one = 9,
            .input = input,
            .filters = taps<R>,
            .output = output<M>,
            .gradient = taps<M>,
            .of_filters = output<R>};
}

// The same by winograd.h's matrices.
template <class T, int M, int R>
constexpr Transforms<T> of_matrices() {
    using F = winograd::Winograd<M, R>;
    using Gradient = winograd::Winograd<R, M>;
    int one = 0;  // the point's place among winograd.h's
    while (winograd::Points<F::kTile>::p[one] != 1) ++one;
    const double factor = Gradient::G::matrix.v[one][0];
    return {.side = F::kTile,
            .taps = R,
            .one_scale = float(1 / (factor * factor)),
            .one = one * (F::kTile + 1),
            .input = by_matrix<typename F::BT, T>,
            .filters = by_matrix<typename F::G, float>,
            .output = output_by_matrix<typename F::AT, T>,
            .gradient = by_matrix<typename Gradient::G, T>,
            .of_filters = output_by_matrix<typename Gradient::AT, float>};
}

static const Leaves leaves = {
    .panel = kCols * kLanes,
    .f32 = {of_8<6, 3>(), of_8<4, 5>()},
    .b16 = {of_matrices<bf16, 8, 3>(), of_matrices<bf16, 6, 5>()},
    .product = product,
};
