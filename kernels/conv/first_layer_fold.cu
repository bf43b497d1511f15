#include "kernels/conv/first_layer_fold.h"

#include "kernels/common/pack.h"
#include "kernels/launch.h"
#include "kernels/ptx/griddep.h"

namespace wt {

namespace {

// Extents of the filters; those of the folded ones follow.
struct Filters {
    int k, r, s, c, f;
    __host__ __device__ int columns() const { return (s + f - 1) / f; }
    // of a folded filter
    __host__ __device__ int taps() const { return (r + f - 1) / f * columns() * f * f * c; }
};

Filters filters(const ConvProblem& p) {
    return {.k = p.k, .r = p.r, .s = p.s, .c = p.c, .f = p.fold};
}

// The tap of a folded filter that holds tap (r, s, channel) of the filter.
__device__ __forceinline__ int folded_tap(const Filters& v, int r, int s, int channel) {
    const int block = r / v.f * v.columns() + s / v.f;
    return (block * v.f * v.f + r % v.f * v.f + s % v.f) * v.c + channel;
}

template <class T>
__global__ void fold_kernel(Filters v, const T* w, T* folded) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= static_cast<int64_t>(v.k) * v.taps()) return;
    const int filter = static_cast<int>(i / v.taps()), tap = static_cast<int>(i % v.taps());
    const int pixel = tap / v.c, block = pixel / (v.f * v.f), place = pixel % (v.f * v.f);
    const int r = block / v.columns() * v.f + place / v.f,
              s = block % v.columns() * v.f + place % v.f;
    const bool inside = r < v.r && s < v.s;
    folded[i] = inside ? w[((static_cast<int64_t>(filter) * v.r + r) * v.s + s) * v.c + tap % v.c]
                       : from_float<T>(0.0f);
}

// A thread writes the 8 channels of a plane of one filter. It is on the way of every step, so
// blocks of 4 x 4 pixels of 3 channels are constants here: dividing by variables would take most of
// the time.
__global__ void fold_into_planes_kernel(Filters v, int width, bool pairs, const bf16* w,
                                        bf16* planes) {
    ptx::griddep_wait();
    constexpr int kFold = 4, kChannels = 3, kPlanes = kFold * kFold * kChannels / kPlaneChannels;
    const int i = blockIdx.x * blockDim.x + threadIdx.x, plane = i / width, at = i % width;
    const int filter = pairs ? at / 16 * 16 + at % 8 * 2 + at / 8 % 2 : at;
    const int tap = plane / kPlanes, row = tap / v.columns(), column = tap - row * v.columns();
    if (plane >= v.taps() / kPlaneChannels) return;
    float out[kPlaneChannels];
#pragma unroll
    for (int e = 0; e < kPlaneChannels; ++e) {
        const int channel = plane % kPlanes * kPlaneChannels + e, pixel = channel / kChannels;
        const int r = row * kFold + pixel / kFold, s = column * kFold + pixel % kFold;
        const bool inside = filter < v.k && r < v.r && s < v.s;
        out[e] = inside
                     ? to_float(w[((filter * v.r + r) * v.s + s) * kChannels + channel % kChannels])
                     : 0.0f;
    }
    store_pack<kPlaneChannels>(planes + int64_t(i) * kPlaneChannels, out);
}

__global__ void unfold_kernel(Filters v, const float* folded, float* dw) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    const int taps = v.r * v.s * v.c;
    if (i >= static_cast<int64_t>(v.k) * taps) return;
    const int64_t filter = i / taps;
    const int tap = static_cast<int>(i % taps), channel = tap % v.c, r = tap / v.c / v.s,
              s = tap / v.c % v.s;
    dw[i] = folded[filter * v.taps() + folded_tap(v, r, s, channel)];
}

}  // namespace

void fold_weights(const ConvProblem& p, const void* w, void* folded, cudaStream_t stream) {
    const Filters v = filters(p);
    by_dtype(p.dtype, [&]<class T>() {
        launch("fold_weights", {dim3(ceil_div(int64_t(v.k) * v.taps(), 256)), dim3(256), stream},
               fold_kernel<T>, v, static_cast<const T*>(w), static_cast<T*>(folded));
    });
}

void fold_weights_into_planes(const ConvProblem& p, const void* w, void* planes, int width,
                              cudaStream_t stream, bool pairs) {
    const Filters v = filters(p);
    const int threads = v.taps() / kPlaneChannels * width;
    launch("fold_weights_into_planes",
           LaunchShape{.grid = dim3(static_cast<unsigned>(ceil_div(threads, 128))),
                       .block = dim3(128),
                       .stream = stream,
                       .pdl = true},
           fold_into_planes_kernel, v, width, pairs, static_cast<const bf16*>(w),
           static_cast<bf16*>(planes));
}

void unfold_weight_gradients(const ConvProblem& p, const float* folded, float* dw,
                             cudaStream_t stream) {
    launch("unfold_weight_gradients", {dim3(ceil_div(p.w_count(), 256)), dim3(256), stream},
           unfold_kernel, filters(p), folded, dw);
}

}  // namespace wt
