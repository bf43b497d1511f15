// Augmentation, 8 pixels (24 elements) at a time: their bytes in output order first, then one arithmetic loop with the
// channels' constants repeated eight times. SIMD on a virtual GPU; on a real one its stores lie 24 elements apart
// from thread to thread and `rows` is faster.
#include "kernels/augment/colour.h"
#include "kernels/tile/stream.h"

namespace wt::augment_pixels8 {
namespace {

constexpr int kPixels = 8, kElements = 3 * kPixels;

template <class T>
__global__ void augment_pixels8_kernel(AugmentProblem p, AugmentColour colour, const uint8_t* images,
                                       const AugmentParams* params, T* y) {
    const int row = blockIdx.x, n = row / p.out_h, i = row % p.out_h;
    const AugmentParams a = params[n];
    const uint8_t* src = images + ((int64_t(n) * p.src_h + a.y0 + i) * p.src_w + a.x0) * p.src_c;
    T* dst = y + int64_t(row) * p.out_w * 3;
    float add[kElements], scale[kElements];
    for (int e = 0; e < kElements; ++e) {
        add[e] = a.noise[e % 3] - colour.mean[e % 3];
        scale[e] = colour.inv_std[e % 3];
    }
    for (int j = threadIdx.x * kPixels; j < p.out_w; j += blockDim.x * kPixels) {
        const int pixels = min(kPixels, p.out_w - j);
        uint8_t bytes[kElements];
        if (p.src_c == 3 && !a.mirror && pixels == kPixels) {
            for (int e = 0; e < kElements; ++e) bytes[e] = src[3 * j + e];
        } else {
            for (int k = 0; k < pixels; ++k) {
                const int col = a.mirror ? p.out_w - 1 - j - k : j + k;
                const uint8_t* pixel = src + col * p.src_c;
                bytes[3 * k] = pixel[0];
                bytes[3 * k + 1] = pixel[p.src_c == 3 ? 1 : 0];
                bytes[3 * k + 2] = pixel[p.src_c == 3 ? 2 : 0];
            }
            for (int e = 3 * pixels; e < kElements; ++e) bytes[e] = 0;
        }
        float out[kElements];
        for (int e = 0; e < kElements; ++e) out[e] = (bytes[e] + add[e]) * scale[e];
        if (pixels == kPixels)
            for (int e = 0; e < kElements; ++e) dst[3 * j + e] = from_float<T>(out[e]);
        else
            for (int e = 0; e < 3 * pixels; ++e) dst[3 * j + e] = from_float<T>(out[e]);
    }
}

void run(const AugmentProblem& p, const AugmentArgs& a) {
    if (!p.n || !p.out_h || !p.out_w) return;
    const int threads = std::min<int>(stream_threads, ceil_div(ceil_div(p.out_w, kPixels), 32) * 32);
    by_dtype(p.dtype, [&]<class T>() {
        launch("augment_pixels8", {dim3(p.n * p.out_h), dim3(threads), a.stream}, augment_pixels8_kernel<T>, p,
               augment_colour(a), a.images, a.params, static_cast<T*>(a.y));
    });
}

}  // namespace

extern const Augment variant;
const Augment variant{"pixels8", augment_refuses, nullptr, run};

}  // namespace wt::augment_pixels8
