// LRN backward, 8 channels of a pixel at a time, s recomputed. The window's neighbours come from
// the groups before and after, which other threads of the same warp load as well: L1 answers them.
#include "kernels/common/pack.h"
#include "kernels/common/stream.h"
#include "kernels/lrn/by_window.h"
#include "kernels/lrn/power.h"
#include "kernels/lrn/problem.h"

namespace wt::lrn_backward_vec8 {
namespace {

constexpr int kGroup = 8;
constexpr int64_t kPixels = 64;  // of a block

template <class T>
__device__ __forceinline__ void load_three(const T* at, bool before, bool after, bool aligned,
                                           float (&v)[3 * kGroup]) {
    float part[kGroup];
    WT_LANES
    for (int i = 0; i < kGroup; ++i) v[i] = v[2 * kGroup + i] = 0;
    if (before) {
        load_pack(at - kGroup, kGroup, aligned, part);
        WT_LANES
        for (int i = 0; i < kGroup; ++i) v[i] = part[i];
    }
    load_pack(at, kGroup, aligned, part);
    WT_LANES
    for (int i = 0; i < kGroup; ++i) v[kGroup + i] = part[i];
    if (after) {
        load_pack(at + kGroup, kGroup, aligned, part);
        WT_LANES
        for (int i = 0; i < kGroup; ++i) v[2 * kGroup + i] = part[i];
    }
}

template <class T, int kHalf, bool kThreeQuarters>
__global__ void lrn_backward_vec8_kernel(LrnProblem p, bool aligned, const T* x, const T* dy,
                                         T* dx) {
    static_assert(2 * kHalf <= kGroup,
                  "the window of a window must lie in the neighbouring groups");
    const int groups = p.c / kGroup;
    const int64_t first = blockIdx.x * kPixels, end = min(first + kPixels, p.pixels);
    for (int64_t pixel = first + threadIdx.y; pixel < end; pixel += blockDim.y)
        for (int g = threadIdx.x; g < groups; g += blockDim.x) {
            const int64_t at = pixel * p.c + g * kGroup;
            const bool before = g > 0, after = g + 1 < groups;
            float xs[3 * kGroup], dys[3 * kGroup];
            load_three(x + at, before, after, aligned, xs);
            load_three(dy + at, before, after, aligned, dys);

            // term[j] belongs to channel j - kHalf of the group: dy_j x_j s_j^(-beta - 1). Outside
            // the pixel x is 0.
            constexpr int kTerms = kGroup + 2 * kHalf;
            float norm[kTerms] = {}, term[kTerms], direct[kTerms], sum[kGroup] = {};
#pragma unroll
            for (int d = -kHalf; d <= kHalf; ++d) {
                WT_LANES
                for (int j = 0; j < kTerms; ++j)
                    norm[j] += xs[kGroup - kHalf + j + d] * xs[kGroup - kHalf + j + d];
            }
            WT_LANES
            for (int j = 0; j < kTerms; ++j) {
                const int m = kGroup - kHalf + j;
                const LrnPowers s = lrn_powers<kThreeQuarters>(p.k + p.alpha * norm[j], p.beta);
                direct[j] = dys[m] * s.y;
                term[j] = direct[j] * xs[m] * s.inverse;
            }
#pragma unroll
            for (int d = 0; d <= 2 * kHalf; ++d) {
                WT_LANES
                for (int i = 0; i < kGroup; ++i) sum[i] += term[i + d];
            }
            float out[kGroup];
            WT_LANES
            for (int i = 0; i < kGroup; ++i)
                out[i] = direct[kHalf + i] - 2 * p.alpha * p.beta * xs[kGroup + i] * sum[i];
            store_pack(dx + at, kGroup, aligned, out);
        }
}

std::string refuses(const LrnProblem& p) {
    if (std::string why = lrn::refuses_window(p); !why.empty()) return why;
    if (p.c % kGroup) return "channels must be a multiple of 8";
    return {};
}

void run(const LrnProblem& p, const LrnBackwardArgs& a) {
    if (!p.count()) return;
    const LaunchShape shape{dim3(ceil_div(p.pixels, kPixels)), pixel_block(p.c / kGroup, kPixels),
                            a.stream};
    const size_t size = size_of(p.dtype);
    const bool aligned = packs_aligned(a.x, p.c, size) && packs_aligned(a.dy, p.c, size) &&
                         packs_aligned(a.dx, p.c, size);
    lrn::by_window(p, [&]<class T, int kHalf, bool kThreeQuarters>() {
        launch("lrn_backward_vec8", shape, lrn_backward_vec8_kernel<T, kHalf, kThreeQuarters>, p,
               aligned, static_cast<const T*>(a.x), static_cast<const T*>(a.dy),
               static_cast<T*>(a.dx));
    });
}

}  // namespace

extern const LrnBackward variant;
const LrnBackward variant{.name = "vec8", .refuses = refuses, .workspace = nullptr, .launch = run};

}  // namespace wt::lrn_backward_vec8
