// Random operands, four numbers a draw of Philox.
#include "kernels/common/philox.h"
#include "kernels/common/planes.h"
#include "kernels/launch.h"
#include "kernels/probe/probe.h"

namespace wt::probe {
namespace {

template <class T>
__global__ void fill_uniform_kernel(T* x, int64_t count, float low, float high, uint32_t series,
                                    bool tf32) {
    const int64_t first = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * 4;
    if (first >= count) return;
    const PhiloxCounter draw =
        philox4x32_10({{uint32_t(first), uint32_t(first >> 32), series, 0}}, {{0x5EED, 0}});
    for (int i = 0; i < 4 && first + i < count; ++i) {
        // u lies in the middle of one of 2^22 steps. A range that is symmetric about 0 has no step
        // around 0.
        const float u = (float(draw.w[i] >> 10) + 0.5f) * 0x1p-22f;
        float v = to_float(from_float<T>(low + (high - low) * u));
        if (tf32) v = __uint_as_float(__float_as_uint(v) & 0xFFFFE000u);
        x[first + i] = from_float<T>(v);
    }
}

template <class T>
__global__ void clear_fold_padding_kernel(T* x, Fold v, int64_t positions, int64_t count) {
    const int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (e >= count) return;
    const int channels = v.fold * v.fold * v.c;
    const PlaneElement at = v.planes ? plane_element(e, plane_pitch(positions))
                                     : PlaneElement{e / channels, static_cast<int>(e % channels)};
    const int place = at.channel / v.c;
    const int h =
        static_cast<int>(at.position / v.fold_w % v.fold_h) * v.fold + place / v.fold - v.pad_h;
    const int w = static_cast<int>(at.position % v.fold_w) * v.fold + place % v.fold - v.pad_w;
    if (at.position >= positions || h < 0 || w < 0 || h >= v.h || w >= v.w) x[e] = from_float<T>(0);
}

}  // namespace

void clear_fold_padding(void* x, DType type, const Fold& v, cudaStream_t stream) {
    const int64_t positions = int64_t(v.n) * v.fold_h * v.fold_w;
    const int64_t count = (v.planes ? plane_pitch(positions) : positions) * v.fold * v.fold * v.c;
    by_dtype(type, [&]<class T>() {
        launch("clear_fold_padding",
               {dim3(static_cast<unsigned>(ceil_div(count, 256))), dim3(256), stream},
               clear_fold_padding_kernel<T>, static_cast<T*>(x), v, positions, count);
    });
}

void fill_uniform(void* x, int64_t count, DType type, float low, float high, uint32_t series,
                  bool tf32, cudaStream_t stream) {
    if (!count) return;
    by_dtype(type, [&]<class T>() {
        launch("fill_uniform",
               {dim3(static_cast<unsigned>(ceil_div(count, 1024))), dim3(256), stream},
               fill_uniform_kernel<T>, static_cast<T*>(x), count, low, high, series, tf32);
    });
}

}  // namespace wt::probe
