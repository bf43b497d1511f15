// Max-pool forward, 8 channels at a time; a block computes rows of the output.
#include "kernels/common/pack.h"
#include "kernels/common/stream.h"
#include "kernels/common/vec.h"
#include "kernels/pool/problem.h"
#include "kernels/ptx/griddep.h"

namespace wt::pool_forward_vec8 {
namespace {

constexpr int kGroup = 8;

// kWindow 0: read from the problem.
template <class T, int kWindow, bool kAligned>
__global__ void pool_forward_vec8_kernel(PoolProblem s, const T* x, T* y, uint8_t* argmax) {
    ptx::griddep_wait();
    ptx::griddep_launch_dependents();
    const int window = kWindow ? kWindow : s.window;
    const int groups = s.c / kGroup, rows = s.n * s.p(), width = s.q();
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        const int n = row / s.p(), h0 = row % s.p() * s.stride - s.pad;
        // the window's rows inside the image
        const int i0 = max(0, -h0), i1 = min(window, s.h - h0);
        for (int q = threadIdx.y; q < width; q += blockDim.y) {
            const int w0 = q * s.stride - s.pad;
            const int j0 = max(0, -w0), j1 = min(window, s.w - w0);
            const bool inside = i0 == 0 && j0 == 0 && i1 == window && j1 == window;
            for (int g = threadIdx.x; g < groups; g += blockDim.x) {
                const T* at = x + ((int64_t(n) * s.h + h0) * s.w + w0) * s.c + g * kGroup;
                float best[kGroup], v[kGroup];
                int chosen[kGroup];
                WT_LANES
                for (int e = 0; e < kGroup; ++e) best[e] = -INFINITY, chosen[e] = i0 * window + j0;
                auto tap = [&](int i, int j) {
                    load_pack(at + (int64_t(i) * s.w + j) * s.c, kGroup, kAligned, v);
                    // Greater, or the first NaN: nothing replaces a NaN.
                    WT_LANES
                    for (int e = 0; e < kGroup; ++e) {
                        const bool take = !(v[e] <= best[e]) && best[e] == best[e];
                        best[e] = take ? v[e] : best[e];
                        chosen[e] = take ? i * window + j : chosen[e];
                    }
                };
                bool done = false;
                if constexpr (kWindow > 0)
                    if (inside) {
                        unroll<kWindow * kWindow>([&](auto k) { tap(k / kWindow, k % kWindow); });
                        done = true;
                    }
                if (!done)
                    for (int i = i0; i < i1; ++i)
                        for (int j = j0; j < j1; ++j) tap(i, j);
                const int64_t out = (int64_t(row) * width + q) * s.c + g * kGroup;
                store_pack(y + out, kGroup, kAligned, best);
                if (kAligned || kPacksAnywhere)
                    store_pack(argmax + out, chosen);
                else
                    for (int e = 0; e < kGroup; ++e)
                        argmax[out + e] = static_cast<uint8_t>(chosen[e]);
            }
        }
    }
}

std::string refuses(const PoolProblem& s) {
    if (s.window < 1 || s.window > 15) return "window must be 1 to 15: argmax is one byte";
    if (s.pad < 0 || s.pad >= s.window) return "pad must be less than the window";
    if (s.c % kGroup) return "channels must be a multiple of 8";
    return {};
}

void run(const PoolProblem& s, const PoolForwardArgs& a) {
    if (!s.y_count()) return;
    const size_t size = size_of(s.dtype);
    const bool aligned = packs_aligned(a.x, s.c, size) && packs_aligned(a.y, s.c, size) &&
                         packs_aligned(a.argmax, s.c, 1);
    const LaunchShape shape{dim3(s.n * s.p()), pixel_block(s.c / kGroup, s.q()), a.stream};
    by_dtype(s.dtype, [&]<class T>() {
        auto kernel = !aligned        ? pool_forward_vec8_kernel<T, 0, false>
                      : s.window == 3 ? pool_forward_vec8_kernel<T, 3, true>
                      : s.window == 2 ? pool_forward_vec8_kernel<T, 2, true>
                                      : pool_forward_vec8_kernel<T, 0, true>;
        launch("pool_forward_vec8", shape.with_pdl(), kernel, s, static_cast<const T*>(a.x),
               static_cast<T*>(a.y), a.argmax);
    });
}

}  // namespace

extern const PoolForward variant;
const PoolForward variant{.name = "vec8", .refuses = refuses, .workspace = nullptr, .launch = run};

}  // namespace wt::pool_forward_vec8
