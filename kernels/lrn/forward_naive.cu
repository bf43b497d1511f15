// LRN forward, one thread per element: the formula of problem.h as it stands.
#include "kernels/launch.h"
#include "kernels/lrn/problem.h"

namespace wt::lrn_forward_naive {
namespace {

template <class T>
__global__ void lrn_forward_naive_kernel(LrnProblem p, const T* x, T* y) {
    const int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (e >= p.count()) return;
    const int i = static_cast<int>(e % p.c), half = p.size / 2;
    const T* row = x + (e - i);
    float sum = 0;
    for (int j = max(0, i - half); j <= min(p.c - 1, i + half); ++j) {
        const float v = to_float(row[j]);
        sum += v * v;
    }
    y[e] = from_float<T>(to_float(row[i]) * powf(p.k + p.alpha * sum, -p.beta));
}

std::string refuses(const LrnProblem& p) { return p.size % 2 ? "" : "size must be odd"; }

void run(const LrnProblem& p, const LrnForwardArgs& a) {
    if (!p.count()) return;
    by_dtype(p.dtype, [&]<class T>() {
        launch("lrn_forward_naive", {dim3(ceil_div(p.count(), 256)), dim3(256), a.stream},
               lrn_forward_naive_kernel<T>, p, static_cast<const T*>(a.x), static_cast<T*>(a.y));
    });
}

}  // namespace

extern const LrnForward variant;
const LrnForward variant{.name = "naive", .refuses = refuses, .workspace = nullptr, .launch = run};

}  // namespace wt::lrn_forward_naive
