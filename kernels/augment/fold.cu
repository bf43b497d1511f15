// Augmentation that writes 4 x 4 pixels as one of 48 channels (space to depth), as the first
// convolution reads its input on tensor cores. A row of such a block, 4 pixels by 3 channels, is 12
// neighbouring bytes of the source and 12 neighbouring elements of the output: one thread's piece.
// A block writes one row of blocks, a thread's neighbours in the warp its neighbours in memory (24
// bytes apart in bf16), so that whole lines are written; the 4 image rows are read in 12-byte
// pieces that meet in the L1 cache.
#include "kernels/augment/colour.h"
#include "kernels/common/pack.h"
#include "kernels/common/stream.h"

namespace wt::augment_fold {
namespace {

constexpr int kFold = 4, kElements = 3 * kFold;

template <class T>
__global__ void augment_fold_kernel(AugmentProblem p, AugmentColour colour, const uint8_t* images,
                                    const AugmentParams* params, T* y) {
    const int n = blockIdx.x / p.fold_h, row = blockIdx.x % p.fold_h * kFold - p.pad;
    const AugmentParams a = params[n];
    const uint8_t* src = images + ((int64_t(n) * p.src_h + a.y0) * p.src_w + a.x0) * p.src_c;
    T* dst = y + int64_t(blockIdx.x) * p.fold_w * kFold * kElements;
    float add[kElements], scale[kElements];
    WT_LANES
    for (int e = 0; e < kElements; ++e) {
        add[e] = a.noise[e % 3] - colour.mean[e % 3];
        scale[e] = colour.inv_std[e % 3];
    }
    for (int piece = threadIdx.x; piece < p.fold_w * kFold; piece += blockDim.x) {
        const int i = row + piece % kFold, j = piece / kFold * kFold - p.pad;
        float out[kElements];
        if (i >= 0 && i < p.out_h && j >= 0 && j + kFold <= p.out_w && p.src_c == 3) {
            const uint8_t* from =
                src + (int64_t(i) * p.src_w + (a.mirror ? p.out_w - j - kFold : j)) * 3;
            float in[kElements];
            WT_LANES
            for (int e = 0; e < kElements; ++e) in[e] = (from[e] + add[e]) * scale[e];
#pragma unroll
            for (int e = 0; e < kElements; ++e)
                out[e] = a.mirror ? in[kElements - 3 - e / 3 * 3 + e % 3] : in[e];
        } else {
#pragma unroll
            for (int b = 0; b < kFold; ++b) {
                const bool inside = i >= 0 && i < p.out_h && j + b >= 0 && j + b < p.out_w;
                const int col = a.mirror ? p.out_w - 1 - j - b : j + b;
#pragma unroll
                for (int ch = 0; ch < 3; ++ch)
                    out[3 * b + ch] = inside ? (src[(int64_t(i) * p.src_w + col) * p.src_c +
                                                    (p.src_c == 3 ? ch : 0)] +
                                                add[ch]) *
                                                   scale[ch]
                                             : 0.0f;
            }
        }
        T* to = dst + piece * kElements;
        WT_LANES
        for (int e = 0; e < kElements; ++e) to[e] = from_float<T>(out[e]);
    }
}

std::string refuses(const AugmentProblem& p) {
    if (p.fold != kFold) return "writes images folded by 4";
    return augment_refuses(p);
}

void run(const AugmentProblem& p, const AugmentArgs& a) {
    if (!p.n) return;
    const int threads =
        std::min<int>(plan_overrides.stream_threads, ceil_div(p.fold_w * kFold, 32) * 32);
    by_dtype(p.dtype, [&]<class T>() {
        launch("augment_fold", {dim3(p.n * p.fold_h), dim3(threads), a.stream},
               augment_fold_kernel<T>, p, augment_colour(a), a.images, a.params,
               static_cast<T*>(a.y));
    });
}

}  // namespace

extern const Augment variant;
const Augment variant{.name = "fold", .refuses = refuses, .workspace = nullptr, .launch = run};

}  // namespace wt::augment_fold
