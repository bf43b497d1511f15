// Max-pool forward, one thread per output element.
#include "kernels/launch.h"
#include "kernels/pool/problem.h"

namespace wt::pool_forward_naive {
namespace {

template <class T>
__global__ void pool_forward_naive_kernel(PoolProblem s, const T* x, T* y, uint8_t* argmax) {
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
            const float v = to_float(x[((int64_t(n) * s.h + h) * s.w + w) * s.c + c]);
            // The first NaN stays: nothing is greater than it, and a NaN replaces only what is no
            // NaN.
            if (chosen < 0 || v > best || (v != v && best == best))
                best = v, chosen = i * s.window + j;
        }
    }
    y[e] = from_float<T>(best);
    argmax[e] = static_cast<uint8_t>(chosen);
}

std::string refuses(const PoolProblem& s) {
    if (s.window < 1 || s.window > 15) return "window must be 1 to 15: argmax is one byte";
    if (s.pad < 0 || s.pad >= s.window) return "pad must be less than the window";
    return {};
}

void run(const PoolProblem& s, const PoolForwardArgs& a) {
    if (!s.y_count()) return;
    by_dtype(s.dtype, [&]<class T>() {
        launch("pool_forward_naive", {dim3(ceil_div(s.y_count(), 256)), dim3(256), a.stream},
               pool_forward_naive_kernel<T>, s, static_cast<const T*>(a.x), static_cast<T*>(a.y),
               a.argmax);
    });
}

}  // namespace

extern const PoolForward variant;
const PoolForward variant{.name = "naive", .refuses = refuses, .workspace = nullptr, .launch = run};

}  // namespace wt::pool_forward_naive
