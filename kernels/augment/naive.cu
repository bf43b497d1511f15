// Augmentation, one thread per output element, folded or not.
#include "kernels/augment/colour.h"
#include "kernels/launch.h"

namespace wt::augment_naive {
namespace {

template <class T>
__global__ void augment_naive_kernel(AugmentProblem p, AugmentColour colour, const uint8_t* images,
                                     const AugmentParams* params, T* y) {
    const int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (e >= p.y_count()) return;
    const int ch = static_cast<int>(e % 3);
    int64_t rest = e / 3;
    int i, j;  // pixel of the crop
    if (p.fold > 1) {
        const int b = static_cast<int>(rest % p.fold), a = static_cast<int>(rest / p.fold % p.fold);
        rest /= int64_t(p.fold) * p.fold;
        j = static_cast<int>(rest % p.fold_w) * p.fold + b - p.pad;
        i = static_cast<int>(rest / p.fold_w % p.fold_h) * p.fold + a - p.pad;
        rest /= int64_t(p.fold_w) * p.fold_h;
        if (i < 0 || i >= p.out_h || j < 0 || j >= p.out_w) {
            y[e] = from_float<T>(0);
            return;
        }
    } else {
        j = static_cast<int>(rest % p.out_w);
        i = static_cast<int>(rest / p.out_w % p.out_h);
        rest /= int64_t(p.out_w) * p.out_h;
    }
    const int n = static_cast<int>(rest);
    const AugmentParams& a = params[n];
    const int row = a.y0 + i, col = a.x0 + (a.mirror ? p.out_w - 1 - j : j);
    const uint8_t v =
        images[((int64_t(n) * p.src_h + row) * p.src_w + col) * p.src_c + (p.src_c == 3 ? ch : 0)];
    y[e] = from_float<T>((v + a.noise[ch] - colour.mean[ch]) * colour.inv_std[ch]);
}

void run(const AugmentProblem& p, const AugmentArgs& a) {
    const int64_t count = p.y_count();
    if (!count) return;
    by_dtype(p.dtype, [&]<class T>() {
        launch("augment_naive", {dim3(ceil_div(count, 256)), dim3(256), a.stream},
               augment_naive_kernel<T>, p, augment_colour(a), a.images, a.params,
               static_cast<T*>(a.y));
    });
}

}  // namespace

extern const Augment variant;
const Augment variant{
    .name = "naive", .refuses = augment_refuses, .workspace = nullptr, .launch = run};

}  // namespace wt::augment_naive
