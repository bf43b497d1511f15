// Augmentation, one thread per output element, in every layout.
#include "kernels/augment/colour.h"
#include "kernels/launch.h"

namespace wt::augment_naive {
namespace {

template <class T>
__global__ void augment_naive_kernel(AugmentProblem p, AugmentColour colour, const uint8_t* images,
                                     const AugmentParams* params, T* y) {
    const int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (e >= p.y_count()) return;
    // The block of pixels, and the element's place in it; plain images are of blocks of one pixel.
    const int f = p.fold, rows = f > 1 ? p.fold_h : p.out_h, cols = f > 1 ? p.fold_w : p.out_w;
    const PlaneElement at = p.planes
                                ? plane_element(e, plane_pitch(p.positions()))
                                : PlaneElement{e / (f * f * 3), static_cast<int>(e % (f * f * 3))};
    const int n = static_cast<int>(at.position / cols / rows), ch = at.channel % 3;
    const int pad = f > 1 ? p.pad : 0;
    const int i = static_cast<int>(at.position / cols % rows) * f + at.channel / 3 / f - pad;
    const int j = static_cast<int>(at.position % cols) * f + at.channel / 3 % f - pad;
    if (n >= p.n || i < 0 || i >= p.out_h || j < 0 || j >= p.out_w) {
        y[e] = from_float<T>(0);
        return;
    }
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
