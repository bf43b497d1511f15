// Gradient of the convolution's input: one thread per input element gathers every output that read
// it.
#include "kernels/conv/gemm_map.h"
#include "kernels/launch.h"

namespace wt::conv_naive {

template <class T>
__global__ void dgrad_kernel(ConvShape v, const T* dy, const T* w, const T* x, T* dx) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= static_cast<int64_t>(v.n) * v.h * v.w * v.c) return;
    const int channel = static_cast<int>(i % v.c);
    const int group = channel / v.cg, c = channel % v.cg;
    const Pixel in = pixel_at(i / v.c, v.h, v.w);

    float sum = 0;
    for (int r = 0; r < v.r; ++r) {
        const int p = output_index(in.row, r, v.pad_h, v.stride_h, v.p);
        if (p < 0) continue;
        for (int s = 0; s < v.s; ++s) {
            const int q = output_index(in.col, s, v.pad_w, v.stride_w, v.q);
            if (q < 0) continue;
            const T* dys = dy + output_offset(v, in.n, p, q, group, 0);
            for (int k = 0; k < v.kg; ++k)
                sum += to_float(dys[k]) * to_float(w[filter_offset(v, group, k, r, s, c)]);
        }
    }
    dx[i] = from_float<T>(x && !(to_float(x[i]) > 0) ? 0.0f : sum);
}

static void launch_dgrad(const ConvProblem& p, const ConvDgradArgs& a) {
    by_dtype(p.dtype, [&]<class T>() {
        launch("conv_dgrad.naive", {dim3(ceil_div(p.x_count(), 256)), dim3(256), a.stream},
               dgrad_kernel<T>, ConvShape(p), static_cast<const T*>(a.dy),
               static_cast<const T*>(a.w), p.drelu ? static_cast<const T*>(a.x) : nullptr,
               static_cast<T*>(a.dx));
    });
}

extern const ConvDgrad dgrad = {
    .name = "naive", .refuses = fits_all, .workspace = nullptr, .launch = launch_dgrad};

}  // namespace wt::conv_naive
