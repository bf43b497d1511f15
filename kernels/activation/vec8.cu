// ReLU and tanh, 8 columns at a time.
#include "kernels/activation/problem.h"
#include "kernels/common/pack.h"
#include "kernels/common/stream.h"
#include "kernels/ptx/griddep.h"

namespace wt::activation_vec8 {
namespace {

constexpr int kGroup = 8;

// It has no branch and no call, so that the loop over a group becomes SIMD on a virtual GPU. Near 0
// it is the odd polynomial of Cephes' tanhf: there 1 - 2 / (e^2x + 1) would lose the digits of
// small x.
__device__ __forceinline__ float fast_tanh(float x) {
    const float z = x * x;
    float p = -5.70498872745e-3f;
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    const float a = fabsf(x);
    const float large = 1 - 2 / (__expf(2 * (a > 10 ? 10.f : a)) + 1);
    // NaN takes the polynomial and stays NaN
    return a > 0.625f ? (x < 0 ? -large : large) : p * z * x + x;
}

template <class T, Activation kKind>
__global__ void activation_forward_vec8_kernel(RowPieces s, int64_t ld, bool aligned, const T* x,
                                               T* y) {
    ptx::griddep_wait();
    ptx::griddep_launch_dependents();
    const int64_t first = blockIdx.x * s.piece, end = min(first + s.piece, s.groups);
    for (int64_t row = blockIdx.y; row < s.rows; row += gridDim.y)
        for (int64_t g = first + threadIdx.x; g < end; g += blockDim.x) {
            const int64_t col = g * kGroup, at = row * ld + col;
            float a[kGroup];
            load_pack(x + at, s.cols - col, aligned, a);
            WT_LANES
            for (int i = 0; i < kGroup; ++i)
                // a NaN stays one
                a[i] = kKind == Activation::relu ? (a[i] < 0 ? 0.f : a[i]) : fast_tanh(a[i]);
            store_pack(y + at, s.cols - col, aligned, a);
        }
}

template <class T, Activation kKind>
__global__ void activation_backward_vec8_kernel(RowPieces s, int64_t ld_y, int64_t ld_dy,
                                                bool aligned, const T* y, const T* dy, T* dx) {
    ptx::griddep_wait();
    ptx::griddep_launch_dependents();
    const int64_t first = blockIdx.x * s.piece, end = min(first + s.piece, s.groups);
    for (int64_t row = blockIdx.y; row < s.rows; row += gridDim.y)
        for (int64_t g = first + threadIdx.x; g < end; g += blockDim.x) {
            const int64_t col = g * kGroup;
            float out[kGroup], d[kGroup];
            load_pack(y + row * ld_y + col, s.cols - col, aligned, out);
            load_pack(dy + row * ld_dy + col, s.cols - col, aligned, d);
            WT_LANES
            for (int i = 0; i < kGroup; ++i)
                d[i] = kKind == Activation::relu ? (out[i] > 0 ? d[i] : 0.f)
                                                 : d[i] * (1 - out[i] * out[i]);
            store_pack(dx + row * ld_dy + col, s.cols - col, aligned, d);
        }
}

template <class F>
void by_kind(Activation kind, F&& f) {
    if (kind == Activation::relu)
        f.template operator()<Activation::relu>();
    else
        f.template operator()<Activation::tanh>();
}

void run_forward(const ActivationProblem& p, const ActivationForwardArgs& a) {
    if (!p.count()) return;
    const RowPieces s = row_pieces(p.rows, p.cols, p.ld_y != p.cols, kGroup);
    const int64_t ld = s.rows == 1 ? 0 : p.ld_y;
    const bool aligned =
        packs_aligned(a.x, ld, size_of(p.dtype)) && packs_aligned(a.y, ld, size_of(p.dtype));
    by_dtype(p.dtype, [&]<class T>() {
        by_kind(p.kind, [&]<Activation kKind>() {
            launch("activation_forward_vec8", stream_shape(s, a.stream).with_pdl(),
                   activation_forward_vec8_kernel<T, kKind>, s, ld, aligned,
                   static_cast<const T*>(a.x), static_cast<T*>(a.y));
        });
    });
}

void run_backward(const ActivationProblem& p, const ActivationBackwardArgs& a) {
    if (!p.count()) return;
    const RowPieces s = row_pieces(p.rows, p.cols, p.ld_y != p.cols || p.ld_dy != p.cols, kGroup);
    const int64_t ld_y = s.rows == 1 ? 0 : p.ld_y, ld_dy = s.rows == 1 ? 0 : p.ld_dy;
    const size_t size = size_of(p.dtype);
    const bool aligned = packs_aligned(a.y, ld_y, size) && packs_aligned(a.dy, ld_dy, size) &&
                         packs_aligned(a.dx, ld_dy, size);
    by_dtype(p.dtype, [&]<class T>() {
        by_kind(p.kind, [&]<Activation kKind>() {
            launch("activation_backward_vec8", stream_shape(s, a.stream).with_pdl(),
                   activation_backward_vec8_kernel<T, kKind>, s, ld_y, ld_dy, aligned,
                   static_cast<const T*>(a.y), static_cast<const T*>(a.dy), static_cast<T*>(a.dx));
        });
    });
}

}  // namespace

extern const ActivationForward forward;
extern const ActivationBackward backward;
const ActivationForward forward{.name = "vec8",
                                .refuses = fits_all<ActivationProblem>,
                                .workspace = nullptr,
                                .launch = run_forward};
const ActivationBackward backward{.name = "vec8",
                                  .refuses = fits_all<ActivationProblem>,
                                  .workspace = nullptr,
                                  .launch = run_backward};

}  // namespace wt::activation_vec8
