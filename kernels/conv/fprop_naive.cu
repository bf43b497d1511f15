// Convolution forward, as plain as it gets: one thread per output element, the sum in the order r,
// s, c. The yardstick for every other variant's results; its speed is of no interest.
#include "kernels/conv/gemm_map.h"
#include "kernels/launch.h"

namespace wt::conv_naive {

// Planes: how x is stored (problem.h), a parameter of the kernel so that plain images are read as
// simply as they look.
template <class T, bool Planes>
__global__ void fprop_kernel(ConvShape v, const T* x, const T* w, const float* bias, bool relu,
                             T* y) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= static_cast<int64_t>(v.n) * v.p * v.q * v.k) return;
    const int filter = static_cast<int>(i % v.k);
    const int group = filter / v.kg;
    const Pixel out = pixel_at(i / v.k, v.p, v.q);

    float sum = bias ? bias[filter] : 0.0f;
    for (int r = 0; r < v.r; ++r)
        for (int s = 0; s < v.s; ++s) {
            const int row = input_row(v, out.row, r), col = input_col(v, out.col, s);
            // padding
            if (v.fold == 1 && (row < 0 || row >= v.h || col < 0 || col >= v.w)) continue;
            const T* ws = w + filter_offset(v, group, filter % v.kg, r, s, 0);
            if constexpr (Planes) {
                for (int c = 0; c < v.cg; ++c)
                    sum += to_float(x[planes_offset(v, out, group, {r, s, c})]) * to_float(ws[c]);
                continue;
            }
            const T* xs = x + (v.fold > 1 ? folded_offset(v, out, group, {r, s, 0})
                                          : input_offset(v, out.n, row, col, group, 0));
            for (int c = 0; c < v.cg; ++c) sum += to_float(xs[c]) * to_float(ws[c]);
        }
    y[i] = from_float<T>(relu && sum < 0 ? 0.0f : sum);
}

static void launch_fprop(const ConvProblem& p, const ConvFpropArgs& a) {
    by_dtype(p.dtype, [&]<class T>() {
        launch("conv_fprop.naive", {dim3(ceil_div(p.y_count(), 256)), dim3(256), a.stream},
               p.planes ? fprop_kernel<T, true> : fprop_kernel<T, false>, ConvShape(p),
               static_cast<const T*>(a.x), static_cast<const T*>(a.w), p.bias ? a.bias : nullptr,
               p.relu, static_cast<T*>(a.y));
    });
}

extern const ConvFprop fprop = {
    .name = "naive", .refuses = fits_all, .workspace = nullptr, .launch = launch_fprop};

}  // namespace wt::conv_naive
