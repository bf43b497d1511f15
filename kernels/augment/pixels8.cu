// Augmentation, 8 pixels (24 elements) at a time: one arithmetic loop over the source's bytes in
// their own order with the channels' constants repeated eight times; a mirrored group is turned
// round as it is written. SIMD on a virtual GPU; on a real one its stores lie 24 elements apart
// from thread to thread and `rows` is faster.
#include "kernels/augment/colour.h"
#include "kernels/common/pack.h"
#include "kernels/common/stream.h"

namespace wt::augment_pixels8 {
namespace {

constexpr int kPixels = 8, kElements = 3 * kPixels;

template <class T>
__global__ void augment_pixels8_kernel(AugmentProblem p, AugmentColour colour,
                                       const uint8_t* images, const AugmentParams* params, T* y) {
    const int row = blockIdx.x, n = row / p.out_h, i = row % p.out_h;
    const AugmentParams a = params[n];
    const uint8_t* src = images + ((int64_t(n) * p.src_h + a.y0 + i) * p.src_w + a.x0) * p.src_c;
    T* dst = y + int64_t(row) * p.out_w * 3;
    float add[kElements], scale[kElements];
    WT_LANES
    for (int e = 0; e < kElements; ++e) {
        add[e] = a.noise[e % 3] - colour.mean[e % 3];
        scale[e] = colour.inv_std[e % 3];
    }
    for (int j = threadIdx.x * kPixels; j < p.out_w; j += blockDim.x * kPixels) {
        const int pixels = min(kPixels, p.out_w - j);
        const uint8_t* from = src + (a.mirror ? p.out_w - j - pixels : j) * p.src_c;
        T* to = dst + 3 * j;
        float out[kElements];
        if (p.src_c == 3 && pixels == kPixels) {
            WT_LANES
            for (int e = 0; e < kElements; ++e) out[e] = (from[e] + add[e]) * scale[e];
        } else {
            for (int e = 0; e < 3 * pixels; ++e)
                out[e] = (from[p.src_c == 3 ? e : e / 3] + add[e]) * scale[e];
        }
        if (!a.mirror && pixels == kPixels) {
            WT_LANES
            for (int e = 0; e < kElements; ++e) to[e] = from_float<T>(out[e]);
        } else if (!a.mirror) {
            for (int e = 0; e < 3 * pixels; ++e) to[e] = from_float<T>(out[e]);
        } else {
            for (int k = 0; k < pixels; ++k)
                for (int ch = 0; ch < 3; ++ch)
                    to[3 * k + ch] = from_float<T>(out[3 * (pixels - 1 - k) + ch]);
        }
    }
}

void run(const AugmentProblem& p, const AugmentArgs& a) {
    if (!p.n || !p.out_h || !p.out_w) return;
    const int threads =
        std::min<int>(plan_overrides.stream_threads, ceil_div(ceil_div(p.out_w, kPixels), 32) * 32);
    by_dtype(p.dtype, [&]<class T>() {
        launch("augment_pixels8", {dim3(p.n * p.out_h), dim3(threads), a.stream},
               augment_pixels8_kernel<T>, p, augment_colour(a), a.images, a.params,
               static_cast<T*>(a.y));
    });
}

}  // namespace

extern const Augment variant;
const Augment variant{
    .name = "pixels8", .refuses = augment_refuses_fold, .workspace = nullptr, .launch = run};

}  // namespace wt::augment_pixels8
