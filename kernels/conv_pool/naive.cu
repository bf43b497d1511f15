// Convolution, bias, ReLU and max pooling, as plain as it gets: one thread per pooled output, which
// computes every output of its window anew, each sum in the order of conv's plain variant.
#include "kernels/conv/gemm_map.h"
#include "kernels/conv_pool/problem.h"
#include "kernels/launch.h"

namespace wt::conv_pool_naive {
namespace {

template <class T, bool kPlanes>
__device__ float convolved(const ConvShape& v, const T* x, const T* w, const float* bias,
                           int filter, const Pixel& out) {
    float sum = bias[filter];
    for (int r = 0; r < v.r; ++r)
        for (int s = 0; s < v.s; ++s) {
            const int row = input_row(v, out.row, r), col = input_col(v, out.col, s);
            // padding
            if (v.fold == 1 && (row < 0 || row >= v.h || col < 0 || col >= v.w)) continue;
            const T* ws = w + filter_offset(v, 0, filter, r, s, 0);
            for (int c = 0; c < v.cg; ++c) {
                const int64_t at = kPlanes      ? planes_offset(v, out, 0, {r, s, c})
                                   : v.fold > 1 ? folded_offset(v, out, 0, {r, s, c})
                                                : input_offset(v, out.n, row, col, 0, c);
                sum += to_float(x[at]) * to_float(ws[c]);
            }
        }
    return to_float(from_float<T>(sum < 0 ? 0.0f : sum));
}

template <class T, bool kPlanes>
__global__ void conv_pool_naive_kernel(ConvShape v, PoolProblem s, const T* x, const T* w,
                                       const float* bias, T* y, uint8_t* argmax) {
    const int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (e >= s.y_count()) return;
    const int filter = static_cast<int>(e % s.c);
    const Pixel window = pixel_at(e / s.c, s.p(), s.q());
    float best = 0;
    int chosen = -1;
    for (int i = 0; i < s.window; ++i)
        for (int j = 0; j < s.window; ++j) {
            const float value = convolved<T, kPlanes>(
                v, x, w, bias, filter,
                {window.n, window.row * s.stride + i, window.col * s.stride + j});
            // The first NaN stays: nothing is greater than it, and a NaN replaces only what is no
            // NaN.
            if (chosen < 0 || value > best || (value != value && best == best))
                best = value, chosen = i * s.window + j;
        }
    y[e] = from_float<T>(best);
    argmax[e] = static_cast<uint8_t>(best <= 0 ? closed_place(s.window) : chosen);
}

void run(const ConvPoolProblem& p, const ConvPoolForwardArgs& a) {
    by_dtype(p.dtype, [&]<class T>() {
        launch("conv_pool_forward.naive", {dim3(ceil_div(p.y_count(), 256)), dim3(256), a.stream},
               p.planes ? conv_pool_naive_kernel<T, true> : conv_pool_naive_kernel<T, false>,
               ConvShape(p.conv()), p.pool(), static_cast<const T*>(a.x),
               static_cast<const T*>(a.w), a.bias, static_cast<T*>(a.y), a.argmax);
    });
}

}  // namespace

extern const ConvPoolForward forward = {
    .name = "naive", .refuses = conv_pool_refuses, .workspace = nullptr, .launch = run};

}  // namespace wt::conv_pool_naive
