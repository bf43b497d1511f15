// LRN backward, one thread per element: the formula of problem.h as it stands, every s_j of the
// window summed anew.
#include "kernels/launch.h"
#include "kernels/lrn/problem.h"

namespace wt::lrn_backward_naive {
namespace {

template <class T>
__device__ float norm_at(const LrnProblem& p, const T* row, int i) {
    const int half = p.size / 2;
    float sum = 0;
    for (int j = max(0, i - half); j <= min(p.c - 1, i + half); ++j) {
        const float v = to_float(row[j]);
        sum += v * v;
    }
    return p.k + p.alpha * sum;
}

template <class T>
__global__ void lrn_backward_naive_kernel(LrnProblem p, const T* x, const T* dy, T* dx) {
    const int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (e >= p.count()) return;
    const int i = static_cast<int>(e % p.c), half = p.size / 2;
    const T* xr = x + (e - i);
    const T* dyr = dy + (e - i);
    float sum = 0;
    for (int j = max(0, i - half); j <= min(p.c - 1, i + half); ++j)
        sum += to_float(dyr[j]) * to_float(xr[j]) * powf(norm_at(p, xr, j), -p.beta - 1);
    dx[e] = from_float<T>(to_float(dyr[i]) * powf(norm_at(p, xr, i), -p.beta) -
                          2 * p.alpha * p.beta * to_float(xr[i]) * sum);
}

std::string refuses(const LrnProblem& p) { return p.size % 2 ? "" : "size must be odd"; }

void run(const LrnProblem& p, const LrnBackwardArgs& a) {
    if (!p.count()) return;
    by_dtype(p.dtype, [&]<class T>() {
        launch("lrn_backward_naive", {dim3(ceil_div(p.count(), 256)), dim3(256), a.stream},
               lrn_backward_naive_kernel<T>, p, static_cast<const T*>(a.x),
               static_cast<const T*>(a.dy), static_cast<T*>(a.dx));
    });
}

}  // namespace

extern const LrnBackward variant;
const LrnBackward variant{.name = "naive", .refuses = refuses, .workspace = nullptr, .launch = run};

}  // namespace wt::lrn_backward_naive
