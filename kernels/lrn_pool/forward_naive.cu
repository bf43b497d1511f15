// LRN + max pooling forward, one thread per output element, which normalizes every element of its
// window anew.
#include "kernels/launch.h"
#include "kernels/lrn_pool/problem.h"

namespace wt::lrn_pool_forward_naive {
namespace {

template <class T>
__device__ float normalized(const LrnPoolProblem& s, const T* pixel, int c) {
    const float v = to_float(pixel[c]);
    if (!s.lrn) return v;
    float sum = 0;
    for (int j = max(0, c - s.size / 2); j <= min(s.c - 1, c + s.size / 2); ++j)
        sum += to_float(pixel[j]) * to_float(pixel[j]);
    return v * powf(s.k + s.alpha * sum, -s.beta);
}

template <class T>
__global__ void lrn_pool_forward_naive_kernel(LrnPoolProblem s, const T* x, T* y, uint8_t* argmax) {
    const int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (e >= s.y_count()) return;
    const int c = static_cast<int>(e % s.c);
    const int q = static_cast<int>(e / s.c % s.q());
    const int p = static_cast<int>(e / s.c / s.q() % s.p());
    const int n = static_cast<int>(e / s.c / s.q() / s.p());
    float best = 0;
    int chosen = -1;
    for (int i = 0; i < s.window; ++i) {
        const int h = p * s.stride - s.pad + i;
        if (h < 0 || h >= s.h) continue;
        for (int j = 0; j < s.window; ++j) {
            const int w = q * s.stride - s.pad + j;
            if (w < 0 || w >= s.w) continue;
            const float v = normalized(s, x + ((int64_t(n) * s.h + h) * s.w + w) * s.c, c);
            // The first NaN stays: nothing is greater than it, and a NaN replaces only what is no
            // NaN.
            if (chosen < 0 || v > best || (v != v && best == best))
                best = v, chosen = i * s.window + j;
        }
    }
    y[e] = from_float<T>(best);
    argmax[e] = static_cast<uint8_t>(s.closes() && best <= 0 ? closed_place(s.window) : chosen);
}

void run(const LrnPoolProblem& s, const LrnPoolForwardArgs& a) {
    if (!s.y_count()) return;
    by_dtype(s.dtype, [&]<class T>() {
        launch("lrn_pool_forward_naive", {dim3(ceil_div(s.y_count(), 256)), dim3(256), a.stream},
               lrn_pool_forward_naive_kernel<T>, s, static_cast<const T*>(a.x),
               static_cast<T*>(a.y), a.argmax);
    });
}

}  // namespace

extern const LrnPoolForward variant;
const LrnPoolForward variant{
    .name = "naive", .refuses = lrn_pool_refuses, .workspace = nullptr, .launch = run};

}  // namespace wt::lrn_pool_forward_naive
