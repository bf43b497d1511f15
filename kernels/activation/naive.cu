// ReLU and tanh, one thread per element.
#include "kernels/activation/problem.h"
#include "kernels/launch.h"

namespace wt::activation_naive {
namespace {

template <class T>
__global__ void activation_forward_naive_kernel(ActivationProblem p, const T* x, T* y) {
    const int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (e >= p.count()) return;
    const int64_t at = e / p.cols * p.ld_y + e % p.cols;
    const float v = to_float(x[at]);
    // !(v < 0) and not max: a NaN stays one, so that training stops on it.
    y[at] = from_float<T>(p.kind == Activation::relu ? (v < 0 ? 0.f : v) : tanhf(v));
}

template <class T>
__global__ void activation_backward_naive_kernel(ActivationProblem p, const T* y, const T* dy,
                                                 T* dx) {
    const int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (e >= p.count()) return;
    const int64_t row = e / p.cols, col = e % p.cols;
    const float out = to_float(y[row * p.ld_y + col]), d = to_float(dy[row * p.ld_dy + col]);
    dx[row * p.ld_dy + col] =
        from_float<T>(p.kind == Activation::relu ? (out > 0 ? d : 0.f) : d * (1 - out * out));
}

void run_forward(const ActivationProblem& p, const ActivationForwardArgs& a) {
    if (!p.count()) return;
    by_dtype(p.dtype, [&]<class T>() {
        launch("activation_forward_naive", {dim3(ceil_div(p.count(), 256)), dim3(256), a.stream},
               activation_forward_naive_kernel<T>, p, static_cast<const T*>(a.x),
               static_cast<T*>(a.y));
    });
}

void run_backward(const ActivationProblem& p, const ActivationBackwardArgs& a) {
    if (!p.count()) return;
    by_dtype(p.dtype, [&]<class T>() {
        launch("activation_backward_naive", {dim3(ceil_div(p.count(), 256)), dim3(256), a.stream},
               activation_backward_naive_kernel<T>, p, static_cast<const T*>(a.y),
               static_cast<const T*>(a.dy), static_cast<T*>(a.dx));
    });
}

}  // namespace

extern const ActivationForward forward;
extern const ActivationBackward backward;
const ActivationForward forward{.name = "naive",
                                .refuses = fits_all<ActivationProblem>,
                                .workspace = nullptr,
                                .launch = run_forward};
const ActivationBackward backward{.name = "naive",
                                  .refuses = fits_all<ActivationProblem>,
                                  .workspace = nullptr,
                                  .launch = run_backward};

}  // namespace wt::activation_naive
