// Augmentation, a block per output row and its threads over the row's elements: stores coalesce
// whatever the width, and the divisions of the naive variant are gone.
#include "kernels/augment/colour.h"
#include "kernels/common/stream.h"

namespace wt::augment_rows {
namespace {

template <class T>
__global__ void augment_rows_kernel(AugmentProblem p, AugmentColour colour, const uint8_t* images,
                                    const AugmentParams* params, T* y) {
    const int row = blockIdx.x, n = row / p.out_h, i = row % p.out_h;
    const AugmentParams a = params[n];
    const uint8_t* src = images + ((int64_t(n) * p.src_h + a.y0 + i) * p.src_w + a.x0) * p.src_c;
    T* dst = y + int64_t(row) * p.out_w * 3;
    for (int e = threadIdx.x; e < p.out_w * 3; e += blockDim.x) {
        const int j = e / 3, ch = e - 3 * j, col = a.mirror ? p.out_w - 1 - j : j;
        const float v = src[p.src_c == 3 ? col * 3 + ch : col];
        // Chosen, not indexed: an indexed parameter would go through local memory.
        const float noise = ch == 0 ? a.noise[0] : ch == 1 ? a.noise[1] : a.noise[2];
        const float mean = ch == 0 ? colour.mean[0] : ch == 1 ? colour.mean[1] : colour.mean[2];
        const float inv_std = ch == 0   ? colour.inv_std[0]
                              : ch == 1 ? colour.inv_std[1]
                                        : colour.inv_std[2];
        dst[e] = from_float<T>((v + noise - mean) * inv_std);
    }
}

void run(const AugmentProblem& p, const AugmentArgs& a) {
    if (!p.n || !p.out_h || !p.out_w) return;
    by_dtype(p.dtype, [&]<class T>() {
        launch("augment_rows", {dim3(p.n * p.out_h), dim3(plan_overrides.stream_threads), a.stream},
               augment_rows_kernel<T>, p, augment_colour(a), a.images, a.params,
               static_cast<T*>(a.y));
    });
}

}  // namespace

extern const Augment variant;
const Augment variant{
    .name = "rows", .refuses = augment_refuses_fold, .workspace = nullptr, .launch = run};

}  // namespace wt::augment_rows
