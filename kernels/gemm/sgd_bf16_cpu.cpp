// The gradient of a fully connected layer's weights and SGD's step with it, in plain C++ for a CPU
// with AVX512_BF16, for virtual GPUs: dw = dy^T x, tile by tile, each of which is complete at once,
// the batch being short, and is used up while the first cache holds it. So the gradient, as large
// as the weights, is neither written nor read. dy and x, which are small, are copied to the order
// that the products want.
//
// One instruction multiplies 16 pairs of neighbours in the batch and adds both products to 16 sums,
// twice the multiplications of fp32's. Each gradient is one sum in one order: the same bits
// whatever the number of threads.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "host/vgpu/exec/grid.h"
#include "kernels/gemm/problem.h"
#include "kernels/launch.h"
#ifdef WT_ONEDNN
#include "kernels/vendor/onednn.h"
#endif

namespace wt::gemm_sgd_bf16_cpu {

namespace {

// Two elements of a column of dy or x, the first in the lower half; zero behind the last.
using Pair = uint32_t;

constexpr int kRows = 12, kVectors = 2;  // of a tile of sums that stays in registers
constexpr int kPanel = 16 * kVectors;    // its columns
constexpr int kStrip = 4 * kRows;        // rows that a thread takes through all columns
constexpr int kDepth = 512;              // pairs at the most: a panel of them is 64 KB

int pairs_of(const GemmProblem& p) { return int(ceil_div(p.k, 2)); }
int64_t panels_of(const GemmProblem& p) { return ceil_div(p.n, kPanel); }

Pair pair_of(const bf16* column, int64_t ld, int pair, int depth) {
    const bf16* first = column + 2 * pair * ld;
    return first->bits_ | (2 * pair + 1 < depth ? Pair(first[ld].bits_) << 16 : 0);
}

// Columns [0, cols) of x as rows of kPanel pairs; zeros beside them.
void make_panel(const bf16* x, int64_t ld, int depth, int cols, Pair* panel) {
    for (int i = 0; i < (depth + 1) / 2; ++i, panel += kPanel) {
        for (int c = 0; c < cols; ++c) panel[c] = pair_of(x + c, ld, i, depth);
        std::fill(panel + cols, panel + kPanel, 0);
    }
}

// Columns [0, rows) of dy, each one's pairs behind the other.
void make_rows(const bf16* dy, int64_t ld, int depth, int rows, Pair* to) {
    const int pairs = (depth + 1) / 2;
    for (int i = 0; i < pairs; ++i)
        for (int r = 0; r < rows; ++r) to[int64_t(r) * pairs + i] = pair_of(dy + r, ld, i, depth);
}

// What SGD's step of a tile needs besides its gradient, from the tile's first element on.
struct Step {
    float *w, *v;
    bf16* low;   // or null
    int64_t ld;  // of all three
    float rate, momentum, decay;
};

}  // namespace

#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx512bf16,avx2,fma")
namespace {

typedef uint32_t Words __attribute__((vector_size(64)));
typedef uint16_t HalfWords __attribute__((vector_size(32)));

// `lanes` are the columns that there are, of 16.
inline __attribute__((always_inline)) void step_of_16(const Step& s, int64_t at, __m512 gradient,
                                                      __mmask16 lanes) {
    const __m512 w = _mm512_maskz_loadu_ps(lanes, s.w + at),
                 v = _mm512_maskz_loadu_ps(lanes, s.v + at);
    __m512 moved = _mm512_mul_ps(_mm512_set1_ps(s.momentum), v);
    moved = _mm512_fnmadd_ps(_mm512_set1_ps(s.decay), w, moved);
    moved = _mm512_fnmadd_ps(_mm512_set1_ps(s.rate), gradient, moved);
    const __m512 now = _mm512_add_ps(w, moved);
    _mm512_mask_storeu_ps(s.v + at, lanes, moved);
    _mm512_mask_storeu_ps(s.w + at, lanes, now);
    if (!s.low) return;
    // to nearest even; a NaN becomes 0x7fff, as __float2bfloat16's
    const Words u = (Words)now, nearest = (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
    const Words bits = (u & 0x7fffffffu) > 0x7f800000u ? nearest * 0u + 0x7fffu : nearest;
    _mm256_mask_storeu_epi16(s.low + at, lanes, (__m256i) __builtin_convertvector(bits, HalfWords));
}

// R rows of dw from rows of `pairs` pairs and a panel, and the step of their first `cols` columns.
// Memory is asked for the next kPanel columns meanwhile: 12 rows of three matrices are more streams
// than a CPU foresees.
template <int R>
void tile(int pairs, const Pair* a, const Pair* b, const Step& s, int cols) {
    __m512 sum[R][kVectors];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
        for (int c = 0; c < kVectors; ++c) sum[r][c] = _mm512_setzero_ps();
    for (int i = 0; i < pairs; ++i) {
        __m512bh column[kVectors];
#pragma GCC unroll 2
        for (int c = 0; c < kVectors; ++c)
            column[c] = (__m512bh)_mm512_loadu_si512(b + i * kPanel + c * 16);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
            const __m512bh row = (__m512bh)_mm512_set1_epi32(int(a[r * pairs + i]));
#pragma GCC unroll 2
            for (int c = 0; c < kVectors; ++c)
                sum[r][c] = _mm512_dpbf16_ps(sum[r][c], row, column[c]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
        for (int c = 0; c < kVectors; ++c) {
            const int64_t at = r * s.ld + c * 16;
            const int there = std::clamp(cols - c * 16, 0, 16);
            step_of_16(s, at, sum[r][c], __mmask16((1u << there) - 1));
            _mm_prefetch(reinterpret_cast<const char*>(s.w + at + kPanel), _MM_HINT_T1);
            _mm_prefetch(reinterpret_cast<const char*>(s.v + at + kPanel), _MM_HINT_T1);
            if (c == 0 && s.low)
                _mm_prefetch(reinterpret_cast<const char*>(s.low + at + kPanel), _MM_HINT_T1);
        }
}

template <int R>
void last_rows(int rows, int pairs, const Pair* a, const Pair* b, const Step& s, int cols) {
    if constexpr (R > 0) {
        if (rows == R)
            tile<R>(pairs, a, b, s, cols);
        else
            last_rows<R - 1>(rows, pairs, a, b, s, cols);
    }
}

}  // namespace
#pragma GCC pop_options

namespace {

// Pairs of x in panels, then those of dy in rows.
size_t workspace(const GemmProblem& p) {
    return sizeof(Pair) * (p.m + panels_of(p) * kPanel) * pairs_of(p);
}

// db of rows [unit, unit + rows)
void sum_columns(const GemmProblem& p, const bf16* dy, int unit, int rows, float* db) {
    float sum[kStrip] = {};
    for (int k = 0; k < p.k; ++k)
        for (int r = 0; r < rows; ++r) sum[r] += to_float(dy[int64_t(k) * p.lda + unit + r]);
    std::copy(sum, sum + rows, db + unit);
}

void run(const GemmProblem& p, const GemmArgs& g) {
    const bf16 *dy = static_cast<const bf16*>(g.a), *x = static_cast<const bf16*>(g.b);
    const int pairs = pairs_of(p), panels = int(panels_of(p));
    Pair* columns = static_cast<Pair*>(g.workspace);
    Pair* rows = columns + int64_t(panels) * kPanel * pairs;
    const float rate = g.state->lr * g.lr_scale;
    Step whole{.w = static_cast<float*>(g.c),
               .v = g.momentum,
               .low = g.w_bf16,
               .ld = p.ldc,
               .rate = rate,
               .momentum = g.state->momentum,
               .decay = g.weight_decay * rate};
#pragma omp parallel num_threads(vgpu::core_count())
    {
#pragma omp for schedule(static) nowait
        for (int i = 0; i < panels; ++i)
            make_panel(x + i * kPanel, p.ldb, p.k, std::min(kPanel, p.n - i * kPanel),
                       columns + int64_t(i) * pairs * kPanel);
#pragma omp for schedule(static)
        for (int unit = 0; unit < p.m; unit += kStrip)
            make_rows(dy + unit, p.lda, p.k, std::min(kStrip, p.m - unit),
                      rows + int64_t(unit) * pairs);
#pragma omp for schedule(dynamic)
        for (int unit = 0; unit < p.m; unit += kStrip) {
            const int end = std::min(unit + kStrip, p.m);
            if (p.bias) sum_columns(p, dy, unit, end - unit, g.bias_grad);
            for (int i = 0; i < panels; ++i)
                for (int r = unit; r < end; r += kRows) {
                    Step s = whole;
                    const int64_t at = int64_t(r) * p.ldc + i * kPanel;
                    s.w += at, s.v += at;
                    if (s.low) s.low += at;
                    last_rows<kRows>(std::min(kRows, end - r), pairs, rows + int64_t(r) * pairs,
                                     columns + int64_t(i) * pairs * kPanel, s,
                                     std::min(kPanel, p.n - i * kPanel));
                }
        }
    }
}

std::string refuses(const GemmProblem& p) {
    if (p.dtype != DType::bf16) return "bf16 only";
    if (!p.sgd) return "with SGD in the epilogue only";
    if (pairs_of(p) > kDepth) return "at most 1024 products a sum";
#ifdef WT_ONEDNN  // one variable, ONEDNN_MAX_CPU_ISA, for both
    if (!onednn::refuses_dtype(p.dtype).empty()) return "needs a CPU with AVX512_BF16";
#endif
    if (!__builtin_cpu_supports("avx512bf16")) return "needs a CPU with AVX512_BF16";
    return {};
}

void launch_gemm(const GemmProblem& p, const GemmArgs& a) {
    WT_CUDA(vgpu::enqueue(a.stream, "gemm.sgd_bf16_cpu", [p, a] { run(p, a); }));
}

}  // namespace

extern const Gemm gemm;
const Gemm gemm = {.name = "sgd_bf16_cpu",
                   .refuses = refuses,
                   .workspace = workspace,
                   .launch = launch_gemm,
                   .cpu = true};

}  // namespace wt::gemm_sgd_bf16_cpu
