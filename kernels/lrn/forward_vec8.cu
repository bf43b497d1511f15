// LRN forward, 8 channels of a pixel at a time. The window's neighbours come from the groups before
// and after, which other threads of the same warp load as well: L1 answers them.
#include "kernels/common/pack.h"
#include "kernels/common/stream.h"
#include "kernels/lrn/by_window.h"
#include "kernels/lrn/power.h"
#include "kernels/lrn/problem.h"

namespace wt::lrn_forward_vec8 {
namespace {

constexpr int kGroup = 8;
constexpr int64_t kPixels = 64;  // of a block

template <class T, int kHalf, bool kThreeQuarters>
__global__ void lrn_forward_vec8_kernel(LrnProblem p, bool aligned, const T* x, T* y) {
    const int groups = p.c / kGroup;
    const int64_t first = blockIdx.x * kPixels, end = min(first + kPixels, p.pixels);
    for (int64_t pixel = first + threadIdx.y; pixel < end; pixel += blockDim.y)
        for (int g = threadIdx.x; g < groups; g += blockDim.x) {
            const T* at = x + pixel * p.c + g * kGroup;
            float before[kGroup] = {}, own[kGroup], after[kGroup] = {};
            if (g > 0) load_pack(at - kGroup, kGroup, aligned, before);
            load_pack(at, kGroup, aligned, own);
            if (g + 1 < groups) load_pack(at + kGroup, kGroup, aligned, after);

            float square[3 * kGroup], sum[kGroup] = {};
            WT_LANES
            for (int i = 0; i < kGroup; ++i) {
                square[i] = before[i] * before[i];
                square[kGroup + i] = own[i] * own[i];
                square[2 * kGroup + i] = after[i] * after[i];
            }
#pragma unroll
            for (int d = -kHalf; d <= kHalf; ++d) {
                WT_LANES
                for (int i = 0; i < kGroup; ++i) sum[i] += square[kGroup + i + d];
            }
            float out[kGroup];
            WT_LANES
            for (int i = 0; i < kGroup; ++i)
                out[i] = own[i] * lrn_powers<kThreeQuarters>(p.k + p.alpha * sum[i], p.beta).y;
            store_pack(y + pixel * p.c + g * kGroup, kGroup, aligned, out);
        }
}

std::string refuses(const LrnProblem& p) {
    if (std::string why = lrn::refuses_window(p); !why.empty()) return why;
    if (p.c % kGroup) return "channels must be a multiple of 8";
    return {};
}

void run(const LrnProblem& p, const LrnForwardArgs& a) {
    if (!p.count()) return;
    const LaunchShape shape{dim3(ceil_div(p.pixels, kPixels)), pixel_block(p.c / kGroup, kPixels),
                            a.stream};
    const bool aligned =
        packs_aligned(a.x, p.c, size_of(p.dtype)) && packs_aligned(a.y, p.c, size_of(p.dtype));
    lrn::by_window(p, [&]<class T, int kHalf, bool kThreeQuarters>() {
        launch("lrn_forward_vec8", shape, lrn_forward_vec8_kernel<T, kHalf, kThreeQuarters>, p,
               aligned, static_cast<const T*>(a.x), static_cast<T*>(a.y));
    });
}

}  // namespace

extern const LrnForward variant;
const LrnForward variant{.name = "vec8", .refuses = refuses, .workspace = nullptr, .launch = run};

}  // namespace wt::lrn_forward_vec8
