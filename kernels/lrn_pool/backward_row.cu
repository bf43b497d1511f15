// LRN + max pooling backward, a thread per row of dx: pixel by pixel it gathers from the windows
// that cover it, then three passes over the channels through arrays with borders of zeros, as lrn's
// `pixel`. SIMD on a virtual GPU; on a real one the arrays lie in local memory and `fused` has the
// threads it needs.
#include "kernels/common/pack.h"
#include "kernels/launch.h"
#include "kernels/lrn/power.h"
#include "kernels/lrn_pool/bias_sum.h"
#include "kernels/lrn_pool/problem.h"

namespace wt::lrn_pool_backward_row {
namespace {

constexpr int kGroup = 8;
constexpr int kMaxChannels = 512, kMaxHalf = 4;
constexpr int kNoLrn = -1, kAnyHalf = -2;  // for kHalf

// Compiled for five channels and beta 3/4, which every network here has; others take the window's
// size and the power at run time.
template <class T, int kHalf, bool kThreeQuarters>
__global__ void lrn_pool_backward_row_kernel(LrnPoolProblem s, bool aligned,
                                             const T* __restrict__ x, const T* __restrict__ y,
                                             const T* __restrict__ dy,
                                             const uint8_t* __restrict__ argmax, T* __restrict__ dx,
                                             float* __restrict__ partial) {
    const int half = kHalf == kAnyHalf ? s.size / 2 : kHalf == kNoLrn ? 0 : kHalf;
    // of channel i at i + half
    float square[kMaxChannels + 2 * kMaxHalf], term[kMaxChannels + 2 * kMaxHalf];
    float d[kMaxChannels], bias[kMaxChannels];
    for (int i = 0; i < half; ++i)
        square[i] = square[s.c + half + i] = term[i] = term[s.c + half + i] = 0;
    for (int c = 0; c < s.c; ++c) bias[c] = 0;

    const int n = static_cast<int>(blockIdx.x) / s.h,
              h = static_cast<int>(blockIdx.x) % s.h + s.pad;
    const int p0 = h < s.window ? 0 : (h - s.window) / s.stride + 1,
              p1 = min(s.p(), h / s.stride + 1);
    const float factor = 2 * s.alpha * s.beta;
    for (int w = 0; w < s.w; ++w) {
        const int wp = w + s.pad;
        const int q0 = wp < s.window ? 0 : (wp - s.window) / s.stride + 1,
                  q1 = min(s.q(), wp / s.stride + 1);
        for (int c = 0; c < s.c; ++c) d[c] = 0;
        for (int p = p0; p < p1; ++p)
            for (int q = q0; q < q1; ++q) {
                const int64_t from = ((int64_t(n) * s.p() + p) * s.q() + q) * s.c;
                const int here = (h - p * s.stride) * s.window + wp - q * s.stride;
                const bool gate = kHalf == kNoLrn && s.relu;
                for (int c = 0; c + kGroup <= s.c; c += kGroup) {
                    float v[kGroup], open[kGroup];
                    int chosen[kGroup];
                    load_pack(dy + from + c, kGroup, aligned, v);
                    if (aligned || kPacksAnywhere)
                        load_pack(argmax + from + c, chosen);
                    else
                        for (int e = 0; e < kGroup; ++e) chosen[e] = argmax[from + c + e];
                    if (gate) {
                        load_pack(y + from + c, kGroup, aligned, open);
                        WT_LANES
                        for (int e = 0; e < kGroup; ++e) v[e] = open[e] > 0 ? v[e] : 0.f;
                    }
                    WT_LANES
                    for (int e = 0; e < kGroup; ++e) d[c + e] += chosen[e] == here ? v[e] : 0.f;
                }
                for (int c = s.c / kGroup * kGroup; c < s.c; ++c)
                    if (argmax[from + c] == here && (!gate || to_float(y[from + c]) > 0))
                        d[c] += to_float(dy[from + c]);
            }
        const int64_t at = (int64_t(blockIdx.x) * s.w + w) * s.c;
        if constexpr (kHalf != kNoLrn) {
            const T* pixel = x + at;
            for (int c = 0; c < s.c; ++c) {
                const float v = to_float(pixel[c]);
                square[half + c] = v * v;
            }
            for (int c = 0; c < s.c; ++c) {
                float sum = 0;
                for (int e = 0; e <= 2 * half; ++e) sum += square[c + e];
                const LrnPowers power = lrn_powers<kThreeQuarters>(s.k + s.alpha * sum, s.beta);
                d[c] *= power.y;
                term[half + c] = d[c] * to_float(pixel[c]) * power.inverse;
            }
            const bool relu = s.relu;
            for (int c = 0; c < s.c; ++c) {
                float sum = 0;
                for (int e = 0; e <= 2 * half; ++e) sum += term[c + e];
                const float v = to_float(pixel[c]), out = d[c] - factor * v * sum;
                d[c] = v > 0 || !relu ? out : 0.f;
            }
        }
        for (int c = 0; c < s.c; ++c) {
            dx[at + c] = from_float<T>(d[c]);
            bias[c] += d[c];
        }
    }
    if (s.bias)
        for (int c = 0; c < s.c; ++c) partial[int64_t(blockIdx.x) * s.c + c] = bias[c];
}

std::string refuses(const LrnPoolProblem& s) {
    if (std::string why = lrn_pool_refuses(s); !why.empty()) return why;
    if (s.lrn && (s.size < 1 || s.size > 2 * kMaxHalf + 1)) return "size must be at most 9";
    if (s.c > kMaxChannels) return "more than 512 channels";
    return {};
}

size_t workspace(const LrnPoolProblem& s) { return s.bias ? sizeof(float) * s.n * s.h * s.c : 0; }

template <class T>
auto kernel_for(const LrnPoolProblem& s)
    -> void (*)(LrnPoolProblem, bool, const T*, const T*, const T*, const uint8_t*, T*, float*) {
    if (!s.lrn) return lrn_pool_backward_row_kernel<T, kNoLrn, true>;
    if (s.size == 5 && s.beta == 0.75f) return lrn_pool_backward_row_kernel<T, 2, true>;
    return lrn_pool_backward_row_kernel<T, kAnyHalf, false>;
}

void run(const LrnPoolProblem& s, const LrnPoolBackwardArgs& a) {
    const int rows = s.x_count() ? s.n * s.h : 0;
    const size_t size = size_of(s.dtype);
    const bool aligned = packs_aligned(a.dy, s.c, size) && packs_aligned(a.y, s.c, size) &&
                         packs_aligned(a.argmax, s.c, 1);
    auto* partial = static_cast<float*>(a.workspace);
    if (rows)
        by_dtype(s.dtype, [&]<class T>() {
            launch("lrn_pool_backward_row", {dim3(static_cast<unsigned>(rows)), dim3(1), a.stream},
                   kernel_for<T>(s), s, aligned, static_cast<const T*>(a.x),
                   static_cast<const T*>(a.y), static_cast<const T*>(a.dy), a.argmax,
                   static_cast<T*>(a.dx), partial);
        });
    if (s.bias) launch_lrn_pool_bias_sum(rows, s.c, partial, a.db, a.stream);
}

}  // namespace

extern const LrnPoolBackward variant;
const LrnPoolBackward variant{
    .name = "row", .refuses = refuses, .workspace = workspace, .launch = run};

}  // namespace wt::lrn_pool_backward_row
