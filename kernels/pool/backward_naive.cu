// Max-pool backward, one thread per input element: it gathers from the windows that cover it, in
// row order.
#include "kernels/launch.h"
#include "kernels/pool/problem.h"

namespace wt::pool_backward_naive {
namespace {

template <class T>
__global__ void pool_backward_naive_kernel(PoolProblem s, const T* dy, const uint8_t* argmax,
                                           T* dx) {
    const int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (e >= s.x_count()) return;
    const int c = static_cast<int>(e % s.c);
    const int w = static_cast<int>(e / s.c % s.w);
    const int h = static_cast<int>(e / s.c / s.w % s.h);
    const int n = static_cast<int>(e / s.c / s.w / s.h);
    float sum = 0;
    for (int p = 0; p < s.p(); ++p) {
        const int i = h + s.pad - p * s.stride;  // this pixel's row in window p
        if (i < 0 || i >= s.window) continue;
        for (int q = 0; q < s.q(); ++q) {
            const int j = w + s.pad - q * s.stride;
            if (j < 0 || j >= s.window) continue;
            const int64_t o = ((int64_t(n) * s.p() + p) * s.q() + q) * s.c + c;
            if (argmax[o] == i * s.window + j) sum += to_float(dy[o]);
        }
    }
    dx[e] = from_float<T>(sum);
}

std::string refuses(const PoolProblem& s) {
    if (s.window < 1 || s.window > 15) return "window must be 1 to 15: argmax is one byte";
    if (s.pad < 0 || s.pad >= s.window) return "pad must be less than the window";
    return {};
}

void run(const PoolProblem& s, const PoolBackwardArgs& a) {
    if (!s.x_count()) return;
    by_dtype(s.dtype, [&]<class T>() {
        launch("pool_backward_naive", {dim3(ceil_div(s.x_count(), 256)), dim3(256), a.stream},
               pool_backward_naive_kernel<T>, s, static_cast<const T*>(a.dy), a.argmax,
               static_cast<T*>(a.dx));
    });
}

}  // namespace

extern const PoolBackward variant;
const PoolBackward variant{
    .name = "naive", .refuses = refuses, .workspace = nullptr, .launch = run};

}  // namespace wt::pool_backward_naive
