// LRN + max pooling forward, a thread per row of the output: column by column it normalizes the
// pixels of the window's rows, keeps their maximum, and takes the maximum of the last columns.
// Every loop runs over the channels, which is SIMD on a virtual GPU; on a real one the arrays lie
// in local memory and `fused` has the threads it needs.
#include "kernels/launch.h"
#include "kernels/lrn/power.h"
#include "kernels/lrn_pool/problem.h"

namespace wt::lrn_pool_forward_row {
namespace {

constexpr int kMaxChannels = 512, kMaxHalf = 4, kMaxWindow = 3;
constexpr int kNoLrn = -1, kAnyHalf = -2;  // for kHalf

// Compiled for five channels and beta 3/4, which every network here has; others take the window's
// size and the power at run time.
template <class T, int kHalf, bool kThreeQuarters>
__global__ void lrn_pool_forward_row_kernel(LrnPoolProblem s, const T* __restrict__ x,
                                            T* __restrict__ y, uint8_t* __restrict__ argmax) {
    const int half = kHalf == kAnyHalf ? s.size / 2 : kHalf == kNoLrn ? 0 : kHalf;
    // Element w % window is column w's: the maximum over the window's rows, and where it is, as the
    // argmax of its first column.
    float top[kMaxWindow][kMaxChannels];
    int place[kMaxWindow][kMaxChannels];
    // square: of channel i at i + half
    float square[kMaxChannels + 2 * kMaxHalf], value[kMaxChannels];
    for (int i = 0; i < half; ++i) square[i] = square[s.c + half + i] = 0;

    const int width = s.q(), n = static_cast<int>(blockIdx.x) / s.p(),
              p = static_cast<int>(blockIdx.x) % s.p();
    // rows inside the image
    const int h0 = p * s.stride - s.pad, i0 = max(0, -h0), i1 = min(s.window, s.h - h0);
    int ready = 0;  // the columns of the window before this one are done
    for (int q = 0; q < width; ++q) {
        const int w0 = q * s.stride - s.pad, first = max(0, w0), end = min(s.w, w0 + s.window);
        for (ready = max(ready, first); ready < end; ++ready) {
            float* best = top[ready % s.window];
            int* where = place[ready % s.window];
            for (int i = i0; i < i1; ++i) {
                const T* pixel = x + ((int64_t(n) * s.h + h0 + i) * s.w + ready) * s.c;
                float* to = i == i0 ? best : value;
                for (int c = 0; c < s.c; ++c) {
                    to[c] = to_float(pixel[c]);
                    square[half + c] = to[c] * to[c];
                }
                if constexpr (kHalf != kNoLrn)
                    for (int c = 0; c < s.c; ++c) {
                        float sum = 0;
                        for (int d = 0; d <= 2 * half; ++d) sum += square[c + d];
                        to[c] *= lrn_powers<kThreeQuarters>(s.k + s.alpha * sum, s.beta).y;
                    }
                const int here = i * s.window;
                if (i == i0)
                    for (int c = 0; c < s.c; ++c) where[c] = here;
                else
                    for (int c = 0; c < s.c; ++c) {
                        // greater, or the first NaN
                        const bool take = !(value[c] <= best[c]) & (best[c] == best[c]);
                        best[c] = take ? value[c] : best[c];
                        where[c] = take ? here : where[c];
                    }
            }
        }
        float* best = value;
        int where[kMaxChannels];
        for (int c = 0; c < s.c; ++c) {
            best[c] = top[first % s.window][c];
            where[c] = place[first % s.window][c] + first - w0;
        }
        for (int w = first + 1; w < end; ++w) {
            const float* other = top[w % s.window];
            const int* other_place = place[w % s.window];
            for (int c = 0; c < s.c; ++c) {
                const float a = best[c], b = other[c];
                const int here = other_place[c] + w - w0;
                // then the first in row order
                const bool equal = (a == b) | ((a != a) & (b != b));
                const bool take = equal ? here < where[c] : !(b <= a) & (a == a);
                best[c] = take ? b : a;
                where[c] = take ? here : where[c];
            }
        }
        if (kHalf != kNoLrn && s.relu) {
            const int closed = closed_place(s.window);
            for (int c = 0; c < s.c; ++c) where[c] = best[c] <= 0 ? closed : where[c];
        }
        const int64_t out = (int64_t(blockIdx.x) * width + q) * s.c;
        for (int c = 0; c < s.c; ++c) y[out + c] = from_float<T>(best[c]);
        for (int c = 0; c < s.c; ++c) argmax[out + c] = static_cast<uint8_t>(where[c]);
    }
}

std::string refuses(const LrnPoolProblem& s) {
    if (std::string why = lrn_pool_refuses(s); !why.empty()) return why;
    if (s.window > kMaxWindow) return "window must be at most 3";
    if (s.lrn && (s.size < 1 || s.size > 2 * kMaxHalf + 1)) return "size must be at most 9";
    if (s.c > kMaxChannels) return "more than 512 channels";
    return {};
}

template <class T>
auto kernel_for(const LrnPoolProblem& s) -> void (*)(LrnPoolProblem, const T*, T*, uint8_t*) {
    if (!s.lrn) return lrn_pool_forward_row_kernel<T, kNoLrn, true>;
    if (s.size == 5 && s.beta == 0.75f) return lrn_pool_forward_row_kernel<T, 2, true>;
    return lrn_pool_forward_row_kernel<T, kAnyHalf, false>;
}

void run(const LrnPoolProblem& s, const LrnPoolForwardArgs& a) {
    if (!s.y_count()) return;
    by_dtype(s.dtype, [&]<class T>() {
        launch("lrn_pool_forward_row",
               {dim3(static_cast<unsigned>(s.n * s.p())), dim3(1), a.stream}, kernel_for<T>(s), s,
               static_cast<const T*>(a.x), static_cast<T*>(a.y), a.argmax);
    });
}

}  // namespace

extern const LrnPoolForward variant;
const LrnPoolForward variant{
    .name = "row", .refuses = refuses, .workspace = nullptr, .launch = run};

}  // namespace wt::lrn_pool_forward_row
