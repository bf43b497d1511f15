// Augmentation, one thread per output element.
#include "kernels/augment/colour.h"
#include "kernels/launch.h"

namespace wt::augment_naive {
namespace {

template <class T>
__global__ void augment_naive_kernel(AugmentProblem p, AugmentColour colour, const uint8_t* images,
                                     const AugmentParams* params, T* y) {
    const int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (e >= int64_t(p.n) * p.out_h * p.out_w * 3) return;
    const int ch = static_cast<int>(e % 3);
    const int j = static_cast<int>(e / 3 % p.out_w);
    const int i = static_cast<int>(e / 3 / p.out_w % p.out_h);
    const int n = static_cast<int>(e / 3 / p.out_w / p.out_h);
    const AugmentParams& a = params[n];
    const int row = a.y0 + i, col = a.x0 + (a.mirror ? p.out_w - 1 - j : j);
    const uint8_t v = images[((int64_t(n) * p.src_h + row) * p.src_w + col) * p.src_c + (p.src_c == 3 ? ch : 0)];
    y[e] = from_float<T>((v + a.noise[ch] - colour.mean[ch]) * colour.inv_std[ch]);
}

void run(const AugmentProblem& p, const AugmentArgs& a) {
    const int64_t count = int64_t(p.n) * p.out_h * p.out_w * 3;
    if (!count) return;
    by_dtype(p.dtype, [&]<class T>() {
        launch("augment_naive", {dim3(ceil_div(count, 256)), dim3(256), a.stream}, augment_naive_kernel<T>, p,
               augment_colour(a), a.images, a.params, static_cast<T*>(a.y));
    });
}

}  // namespace

extern const Augment variant;
const Augment variant{"naive", augment_refuses, nullptr, run};

}  // namespace wt::augment_naive
