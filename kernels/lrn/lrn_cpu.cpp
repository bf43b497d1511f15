// LRN in plain C++ for a CPU with AVX-512, for virtual GPUs: windows of five channels, beta 3/4,
// channels in whole vectors. A window's sum is made of two vectors that lie in registers, shifted
// against one another: `pixel`, which has them in memory, waits for what it has just stored. Powers
// are made of the reciprocal root's estimate of 14 bits and one step of Newton's method; a square
// root and a division take longer.
#include <immintrin.h>

#include <algorithm>

#include "host/vgpu/exec/grid.h"
#include "kernels/launch.h"
#include "kernels/lrn/problem.h"
#ifdef WT_ONEDNN
#include "kernels/vendor/onednn.h"
#endif

namespace wt::lrn_cpu {

namespace {
constexpr int kMostChannels = 512;
constexpr int64_t kPixels = 64;  // that a thread takes at once
}  // namespace

#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")
namespace {

constexpr int kLanes = 16;
#include "kernels/common/vectors_cpu.h"

// The sums of five neighbours of the middle one of three vectors.
WT_INLINE V window(V below, V v, V above) {
    const V two_below = __builtin_shufflevector(below, v, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
                                                24, 25, 26, 27, 28, 29);
    const V one_below = __builtin_shufflevector(below, v, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,
                                                25, 26, 27, 28, 29, 30);
    const V one_above =
        __builtin_shufflevector(v, above, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
    const V two_above =
        __builtin_shufflevector(v, above, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17);
    return (two_below + one_below) + v + (one_above + two_above);
}

// 1 / sqrt(v)
WT_INLINE V inverse_root(V v) {
    const V r = (V)_mm512_maskz_rsqrt14_ps(0xffff, (__m512)v);
    return r * (1.5f - 0.5f * v * r * r);
}

struct Powers {
    V y, inverse;  // s^(-3/4), 1 / s
};
WT_INLINE Powers powers(V s) {
    const V r = inverse_root(s), inverse = r * r;
    return {inverse * inverse_root(r), inverse};
}

// One pixel; x is not y.
template <class T>
void forward(const LrnProblem& p, const T* x, T* y) {
    V below = {}, v = load(x), square = v * v;
    for (int c = 0; c < p.c; c += kLanes) {
        const V next = c + kLanes < p.c ? load(x + c + kLanes) : V{}, above = next * next;
        const V s = p.k + p.alpha * window(below, square, above);
        store(y + c, v * powers(s).y);
        below = square, square = above, v = next;
    }
}

// dx = d - 2 alpha beta x sum(d x / s), with d = dy s^(-3/4)
template <class T>
void backward(const LrnProblem& p, const T* x, const T* dy, T* dx) {
    V direct[kMostChannels / kLanes], terms[kMostChannels / kLanes + 2];
    const int vectors = p.c / kLanes;
    V below = {}, v = load(x), square = v * v;
    for (int i = 0; i < vectors; ++i) {
        const V next = i + 1 < vectors ? load(x + (i + 1) * kLanes) : V{}, above = next * next;
        const Powers power = powers(p.k + p.alpha * window(below, square, above));
        direct[i] = load(dy + i * kLanes) * power.y;
        terms[i + 1] = direct[i] * v * power.inverse;
        below = square, square = above, v = next;
    }
    terms[0] = terms[vectors + 1] = V{};
    const float factor = 2 * p.alpha * p.beta;
    for (int i = 0; i < vectors; ++i)
        store(dx + i * kLanes, direct[i] - factor * load(x + i * kLanes) *
                                               window(terms[i], terms[i + 1], terms[i + 2]));
}

template <class T>
void forward_all(const LrnProblem& p, const T* x, T* y) {
#pragma omp parallel for schedule(static) num_threads(vgpu::core_count())
    for (int64_t first = 0; first < p.pixels; first += kPixels)
        for (int64_t i = first; i < std::min(first + kPixels, p.pixels); ++i)
            forward(p, x + i * p.c, y + i * p.c);
}

template <class T>
void backward_all(const LrnProblem& p, const T* x, const T* dy, T* dx) {
#pragma omp parallel for schedule(static) num_threads(vgpu::core_count())
    for (int64_t first = 0; first < p.pixels; first += kPixels)
        for (int64_t i = first; i < std::min(first + kPixels, p.pixels); ++i)
            backward(p, x + i * p.c, dy + i * p.c, dx + i * p.c);
}

}  // namespace
#pragma GCC pop_options

namespace {

std::string refuses(const LrnProblem& p) {
    if (p.size != 5 || p.beta != 0.75f) return "windows of 5 channels and beta 3/4 only";
    if (p.c < kLanes || p.c % kLanes) return "channels must be a multiple of 16";
    if (p.c > kMostChannels) return "more than 512 channels";
#ifdef WT_ONEDNN  // one variable, ONEDNN_MAX_CPU_ISA, for both
    if (!onednn::has_avx512()) return "needs a CPU with AVX-512";
#endif
    if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512dq"))
        return "needs a CPU with AVX-512";
    return {};
}

// In bf16 oneDNN's is as fast: it rounds 16 numbers by one instruction of AVX512_BF16.
bool forward_suits(const LrnProblem& p) { return p.dtype == DType::f32; }

void launch_forward(const LrnProblem& p, const LrnForwardArgs& a) {
    WT_CUDA(vgpu::enqueue(a.stream, "lrn_forward.cpu", [p, a] {
        by_dtype(p.dtype, [&]<class T>() {
            forward_all(p, static_cast<const T*>(a.x), static_cast<T*>(a.y));
        });
    }));
}

void launch_backward(const LrnProblem& p, const LrnBackwardArgs& a) {
    WT_CUDA(vgpu::enqueue(a.stream, "lrn_backward.cpu", [p, a] {
        by_dtype(p.dtype, [&]<class T>() {
            backward_all(p, static_cast<const T*>(a.x), static_cast<const T*>(a.dy),
                         static_cast<T*>(a.dx));
        });
    }));
}

}  // namespace

extern const LrnForward forward_variant;
extern const LrnBackward backward_variant;
const LrnForward forward_variant{.name = "cpu",
                                 .refuses = refuses,
                                 .workspace = nullptr,
                                 .launch = launch_forward,
                                 .cpu = true,
                                 .suits = forward_suits};
const LrnBackward backward_variant{.name = "cpu",
                                   .refuses = refuses,
                                   .workspace = nullptr,
                                   .launch = launch_backward,
                                   .cpu = true};

}  // namespace wt::lrn_cpu
