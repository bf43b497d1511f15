// Gradient of the filters (one thread per weight) and of the bias (one thread per filter): each
// walks over all output pixels in order.
#include "kernels/conv/gemm_map.h"
#include "kernels/launch.h"

namespace wt::conv_naive {

template <class T>
__global__ void wgrad_kernel(ConvShape v, const T* x, const T* dy, float* dw) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    const int taps = v.r * v.s * v.cg;
    if (i >= static_cast<int64_t>(v.k) * taps) return;
    const int filter = static_cast<int>(i / taps);
    const int group = filter / v.kg;
    const Tap tap = tap_at(static_cast<int>(i % taps), v.s, v.cg);

    float sum = 0;
    for (int n = 0; n < v.n; ++n)
        for (int p = 0; p < v.p; ++p) {
            const int row = input_row(v, p, tap.r);
            if (v.fold == 1 && (row < 0 || row >= v.h)) continue;
            for (int q = 0; q < v.q; ++q) {
                const int col = input_col(v, q, tap.s);
                if (v.fold == 1 && (col < 0 || col >= v.w)) continue;
                const int64_t at = v.plane_pitch ? planes_offset(v, {n, p, q}, group, tap)
                                   : v.fold > 1  ? folded_offset(v, {n, p, q}, group, tap)
                                                 : input_offset(v, n, row, col, group, tap.c);
                sum +=
                    to_float(dy[output_offset(v, n, p, q, group, filter % v.kg)]) * to_float(x[at]);
            }
        }
    dw[i] = sum;
}

template <class T>
__global__ void bias_grad_kernel(ConvShape v, const T* dy, float* db) {
    const int filter = blockIdx.x * blockDim.x + threadIdx.x;
    if (filter >= v.k) return;
    const int64_t pixels = static_cast<int64_t>(v.n) * v.p * v.q;
    float sum = 0;
    for (int64_t m = 0; m < pixels; ++m) sum += to_float(dy[m * v.k + filter]);
    db[filter] = sum;
}

static void launch_wgrad(const ConvProblem& p, const ConvWgradArgs& a) {
    by_dtype(p.dtype, [&]<class T>() {
        const T* dy = static_cast<const T*>(a.dy);
        launch("conv_wgrad.naive", {dim3(ceil_div(p.w_count(), 256)), dim3(256), a.stream},
               wgrad_kernel<T>, ConvShape(p), static_cast<const T*>(a.x), dy, a.dw);
        if (p.bias)
            launch("conv_wgrad.naive bias", {dim3(ceil_div(p.k, 64)), dim3(64), a.stream},
                   bias_grad_kernel<T>, ConvShape(p), dy, a.db);
    });
}

extern const ConvWgrad wgrad = {
    .name = "naive", .refuses = fits_all, .workspace = nullptr, .launch = launch_wgrad};

}  // namespace wt::conv_naive
