// Winograd's transforms on a CPU's vectors: part of winograd_leaves_cpu.h, which says how it is
// compiled.
//
// Points 0, +-1, +-2, +-1/2 and infinity; for tiles of 10 those of winograd.h. Pairs of +-p share
// their even and their odd terms, which halves the multiplications of a transform.

#include "kernels/common/vectors_cpu.h"

// ---- one dimension, 8 points --------------------------------------------------------------------

// B^T: 8 pixels to 8 points.
WT_INLINE void input_1d(const V (&x)[8], V (&y)[8]) {
    const V e1 = x[2] + x[6] - 4.25f * x[4], o1 = x[1] + x[5] - 4.25f * x[3];
    const V e2 = 0.25f * x[2] + x[6] - 1.25f * x[4], o2 = 0.25f * x[1] + x[5] - 1.25f * x[3];
    const V e3 = 4.f * x[2] + x[6] - 5.f * x[4], o3 = 4.f * x[1] + x[5] - 5.f * x[3];
    y[0] = x[0] - x[6] + 5.25f * (x[4] - x[2]);
    y[1] = e1 + o1;
    y[2] = e1 - o1;
    y[3] = e2 + 2.f * o2;
    y[4] = e2 - 2.f * o2;
    y[5] = e3 + 0.5f * o3;
    y[6] = e3 - 0.5f * o3;
    y[7] = x[7] - x[1] + 5.25f * (x[3] - x[5]);
}

// G: N taps to 8 points.
template <int N>
WT_INLINE void taps_1d(const V (&w)[N], V (&y)[8]) {
    V e1 = w[0] + w[2], o1 = w[1];
    V e2 = w[0] + 4.f * w[2], o2 = 2.f * w[1];
    V e3 = w[0] + 0.25f * w[2], o3 = 0.5f * w[1];
    if constexpr (N > 3) {
        o1 += w[3];
        o2 += 8.f * w[3];
        o3 += 0.125f * w[3];
    }
    if constexpr (N > 4) {
        e1 += w[4];
        e2 += 16.f * w[4];
        e3 += 0.0625f * w[4];
    }
    if constexpr (N > 5) {
        o1 += w[5];
        o2 += 32.f * w[5];
        o3 += 0.03125f * w[5];
    }
    y[0] = w[0];
    y[1] = (e1 + o1) * (-2.f / 9);
    y[2] = (e1 - o1) * (-2.f / 9);
    y[3] = (e2 + o2) * (1.f / 90);
    y[4] = (e2 - o2) * (1.f / 90);
    y[5] = (e3 + o3) * (32.f / 45);
    y[6] = (e3 - o3) * (32.f / 45);
    y[7] = w[N - 1];
}

// A^T: 8 points to N results.
template <int N>
WT_INLINE void output_1d(const V (&m)[8], V (&y)[N]) {
    const V s1 = m[1] + m[2], d1 = m[1] - m[2];
    const V s2 = m[3] + m[4], d2 = m[3] - m[4];
    const V s3 = m[5] + m[6], d3 = m[5] - m[6];
    y[0] = m[0] + s1 + s2 + s3;
    y[1] = d1 + 2.f * d2 + 0.5f * d3;
    y[2] = s1 + 4.f * s2 + 0.25f * s3;
    if constexpr (N > 3) y[3] = d1 + 8.f * d2 + 0.125f * d3;
    if constexpr (N > 4) y[4] = s1 + 16.f * s2 + 0.0625f * s3;
    if constexpr (N > 5) y[5] = d1 + 32.f * d2 + 0.03125f * d3;
    y[N - 1] += m[7];
}

// ---- one dimension, by the matrices of winograd.h ----------------------------------------------

// The sum of matrix[J][k] x[k] over k = K, K + 2, ...; terms with 0 are left out.
template <class M, int J, int K, int N>
constexpr bool has_terms() {
    for (int k = K; k < N; k += 2)
        if (M::matrix.v[J][k] != 0) return true;
    return false;
}
template <class M, int J, int K, int N>
WT_INLINE V terms(const V (&x)[N]) {
    constexpr float factor = float(M::matrix.v[J][K]);
    if constexpr (!has_terms<M, J, K + 2, N>())
        return factor * x[K];
    else if constexpr (factor == 0)
        return terms<M, J, K + 2>(x);
    else
        return factor * x[K] + terms<M, J, K + 2>(x);
}

// B^T or G: x to points, which are 0, pairs of +-p, and infinity.
template <class M, int J = 1, int N, int S>
WT_INLINE void points_1d(const V (&x)[N], V (&y)[S]) {
    if constexpr (J == 1) {
        y[0] = terms<M, 0, 0>(x);
        y[S - 1] = terms<M, S - 1, (N - 1) % 2>(x);
    }
    if constexpr (J < S - 1) {
        const V even = terms<M, J, 0>(x), odd = terms<M, J, 1>(x);
        y[J] = even + odd;
        y[J + 1] = even - odd;
        points_1d<M, J + 2>(x, y);
    }
}

// A^T: points to results.
template <class M, int I = 0, int S, int N>
WT_INLINE void results_1d(const V (&even)[S], const V (&odd)[S], V (&y)[N]) {
    if constexpr (I < N) {
        y[I] = I % 2 ? terms<M, I, 1>(odd) : terms<M, I, 1>(even);
        if constexpr (I == 0) y[0] += even[0];
        results_1d<M, I + 1>(even, odd, y);
    }
}
template <class M, int S, int N>
WT_INLINE void from_points_1d(const V (&m)[S], V (&y)[N]) {
    V even[S], odd[S];  // of a pair at its first point's place
    even[0] = odd[0] = m[0];
    even[S - 1] = odd[S - 1] = m[S - 1];
#pragma GCC unroll 10
    for (int j = 1; j < S - 1; j += 2) {
        even[j] = m[j] + m[j + 1];
        odd[j] = m[j] - m[j + 1];
    }
    results_1d<M>(even, odd, y);
}

// ---- two dimensions -----------------------------------------------------------------------------

// N x N vectors, of pixels or taps, to S x S points `stride` floats apart. transform: N to S.
template <int S, int N, bool whole, class T, class Transform>
WT_INLINE void to_points(const T* const* in, int c, int lanes, float* out, int64_t stride,
                         Transform transform) {
    V columns[S][N];  // after the transform down the columns
    for (int j = 0; j < N; ++j) {
        V x[N], y[S];
#pragma GCC unroll 10
        for (int i = 0; i < N; ++i) x[i] = load_lanes<whole>(in[i * N + j] + c, lanes);
        transform(x, y);
#pragma GCC unroll 10
        for (int i = 0; i < S; ++i) columns[i][j] = y[i];
    }
    for (int i = 0; i < S; ++i) {
        V x[N], y[S];
#pragma GCC unroll 10
        for (int j = 0; j < N; ++j) x[j] = columns[i][j];
        transform(x, y);
#pragma GCC unroll 10
        for (int j = 0; j < S; ++j) store(out + (i * S + j) * stride + c, y[j]);
    }
}

template <int S, int N, class T, class Transform>
WT_INLINE void all_to_points(const T* const* in, int channels, float* out, int64_t stride,
                             Transform transform) {
    int c = 0;
    for (; c + kLanes <= channels; c += kLanes)
        to_points<S, N, true>(in, c, kLanes, out, stride, transform);
    if (c < channels) to_points<S, N, false>(in, c, channels - c, out, stride, transform);
}

static void input(const float* const* pixels, int channels, float* out, int64_t stride) {
    all_to_points<8, 8>(pixels, channels, out, stride,
                        [](const V(&x)[8], V(&y)[8]) WT_ALWAYS { input_1d(x, y); });
}

template <int N>
static void taps(const float* const* in, int channels, float* out, int64_t stride) {
    all_to_points<8, N>(in, channels, out, stride,
                        [](const V(&x)[N], V(&y)[8]) WT_ALWAYS { taps_1d<N>(x, y); });
}

// By a matrix, B^T or G: N to S.
template <class M, class T>
static void by_matrix(const T* const* in, int channels, float* out, int64_t stride) {
    constexpr int S = decltype(M::matrix)::kRows, N = decltype(M::matrix)::kCols;
    all_to_points<S, N>(in, channels, out, stride,
                        [](const V(&x)[N], V(&y)[S]) WT_ALWAYS { points_1d<M>(x, y); });
}

// S x S points to N x N results.
template <int S, int N, class Transform>
WT_INLINE void from_points(const float* m, int64_t stride, V (&result)[N][N], Transform transform) {
    V columns[N][S];
    for (int j = 0; j < S; ++j) {
        V x[S], y[N];
#pragma GCC unroll 10
        for (int i = 0; i < S; ++i) x[i] = load(m + (i * S + j) * stride);
        transform(x, y);
#pragma GCC unroll 10
        for (int i = 0; i < N; ++i) columns[i][j] = y[i];
    }
    for (int i = 0; i < N; ++i) {
        V x[S], y[N];
#pragma GCC unroll 10
        for (int j = 0; j < S; ++j) x[j] = columns[i][j];
        transform(x, y);
#pragma GCC unroll 10
        for (int j = 0; j < N; ++j) result[i][j] = y[j];
    }
}

template <int S, int N, bool whole, class T, class Transform>
WT_INLINE void output_lanes(const float* m, int64_t stride, int c, int lanes, const Epilogue<T>& e,
                            T* const* pixels, Transform transform) {
    V result[N][N];
    from_points<S>(m + c, stride, result, transform);
    const V bias = e.bias ? load_lanes<whole>(e.bias + c, lanes) : V{};
    for (int i = 0; i < N * N; ++i) {
        if (!pixels[i]) continue;
        V v = result[i / N][i % N] + bias;
        if (e.relu) v = v > 0.f ? v : V{};
        if (e.mask)
            v = load_lanes<whole>(e.mask + (pixels[i] - e.results) + c, lanes) > 0.f ? v : V{};
        store_lanes<whole>(pixels[i] + c, v, lanes);
    }
}

template <int S, int N, class T, class Transform>
WT_INLINE void all_output(const float* m, int64_t stride, int channels, const Epilogue<T>& e,
                          T* const* pixels, Transform transform) {
    int c = 0;
    for (; c + kLanes <= channels; c += kLanes)
        output_lanes<S, N, true>(m, stride, c, kLanes, e, pixels, transform);
    if (c < channels) output_lanes<S, N, false>(m, stride, c, channels - c, e, pixels, transform);
}

template <int N>
static void output(const float* m, int64_t stride, int channels, const Epilogue<float>& e,
                   float* const* pixels) {
    all_output<8, N>(m, stride, channels, e, pixels,
                     [](const V(&x)[8], V(&y)[N]) WT_ALWAYS { output_1d<N>(x, y); });
}

// By a matrix, A^T: S to N.
template <class M, class T>
static void output_by_matrix(const float* m, int64_t stride, int channels, const Epilogue<T>& e,
                             T* const* pixels) {
    constexpr int N = decltype(M::matrix)::kRows, S = decltype(M::matrix)::kCols;
    all_output<S, N>(m, stride, channels, e, pixels,
                     [](const V(&x)[S], V(&y)[N]) WT_ALWAYS { from_points_1d<M>(x, y); });
}
