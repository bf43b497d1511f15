// Max-pool backward, 8 channels at a time; a block computes rows of dx. Every pixel gathers from
// the windows that cover it (at most four when the stride is 2 and the window 3), in row order.
#include "kernels/common/pack.h"
#include "kernels/common/stream.h"
#include "kernels/common/vec.h"
#include "kernels/pool/problem.h"
#include "kernels/ptx/griddep.h"

namespace wt::pool_backward_vec8 {
namespace {

constexpr int kGroup = 8;

// Adds what the windows [p0, p0 + kP) x [q0, q0 + kQ) sent to one pixel. The counts are constants,
// so that the loads of all windows are in flight together and the sum stays in registers.
template <int kP, int kQ, bool kAligned, class T>
__device__ __forceinline__ void gather(const T* dy, const uint8_t* argmax, int64_t row_pitch,
                                       int64_t pixel_pitch, int first, int row_step, int pixel_step,
                                       float (&sum)[kGroup]) {
    unroll<kP * kQ>([&](auto k) {
        const int64_t at = k / kQ * row_pitch + k % kQ * pixel_pitch;
        // the pixel's place in that window
        const int here = first - k / kQ * row_step - k % kQ * pixel_step;
        float v[kGroup];
        load_pack(dy + at, kGroup, kAligned, v);
        int chosen[kGroup];
        if (kAligned || kPacksAnywhere)
            load_pack(argmax + at, chosen);
        else
            for (int e = 0; e < kGroup; ++e) chosen[e] = argmax[at + e];
        WT_LANES
        for (int e = 0; e < kGroup; ++e) sum[e] += chosen[e] == here ? v[e] : 0.f;
    });
}

template <class T, bool kAligned>
__global__ void pool_backward_vec8_kernel(PoolProblem s, const T* dy, const uint8_t* argmax,
                                          T* dx) {
    ptx::griddep_wait();
    ptx::griddep_launch_dependents();
    const int groups = s.c / kGroup, rows = s.n * s.h, height = s.p(), width = s.q();
    const int64_t row_pitch = int64_t(width) * s.c;
    const int row_step = s.stride * s.window, pixel_step = s.stride;
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        const int n = row / s.h, h = row % s.h + s.pad;
        // Windows p that hold padded row h: p * stride <= h < p * stride + window.
        const int p0 = h < s.window ? 0 : (h - s.window) / s.stride + 1,
                  p1 = min(height, h / s.stride + 1);
        for (int w = threadIdx.y; w < s.w; w += blockDim.y) {
            const int wp = w + s.pad;
            const int q0 = wp < s.window ? 0 : (wp - s.window) / s.stride + 1,
                      q1 = min(width, wp / s.stride + 1);
            const int64_t base = ((int64_t(n) * height + p0) * width + q0) * s.c;
            const int first = (h - p0 * s.stride) * s.window + wp - q0 * s.stride;
            const int shape = (p1 - p0) * 16 + (q1 - q0);  // counts are at most 15
            for (int g = threadIdx.x; g < groups; g += blockDim.x) {
                const T* dyg = dy + base + g * kGroup;
                const uint8_t* chosen = argmax + base + g * kGroup;
                float sum[kGroup] = {};
                if (shape == 1 * 16 + 1)
                    gather<1, 1, kAligned>(dyg, chosen, row_pitch, s.c, first, row_step, pixel_step,
                                           sum);
                else if (shape == 1 * 16 + 2)
                    gather<1, 2, kAligned>(dyg, chosen, row_pitch, s.c, first, row_step, pixel_step,
                                           sum);
                else if (shape == 2 * 16 + 1)
                    gather<2, 1, kAligned>(dyg, chosen, row_pitch, s.c, first, row_step, pixel_step,
                                           sum);
                else if (shape == 2 * 16 + 2)
                    gather<2, 2, kAligned>(dyg, chosen, row_pitch, s.c, first, row_step, pixel_step,
                                           sum);
                else
                    for (int p = 0; p < p1 - p0; ++p)
                        for (int q = 0; q < q1 - q0; ++q) {
                            const int64_t at = p * row_pitch + int64_t(q) * s.c;
                            gather<1, 1, kAligned>(dyg + at, chosen + at, row_pitch, s.c,
                                                   first - p * row_step - q * pixel_step, row_step,
                                                   pixel_step, sum);
                        }
                store_pack(dx + (int64_t(row) * s.w + w) * s.c + g * kGroup, kGroup, kAligned, sum);
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

void run(const PoolProblem& s, const PoolBackwardArgs& a) {
    if (!s.x_count()) return;
    const size_t size = size_of(s.dtype);
    const bool aligned = packs_aligned(a.dy, s.c, size) && packs_aligned(a.dx, s.c, size) &&
                         packs_aligned(a.argmax, s.c, 1);
    const LaunchShape shape{dim3(s.n * s.h), pixel_block(s.c / kGroup, s.w), a.stream};
    by_dtype(s.dtype, [&]<class T>() {
        auto kernel =
            aligned ? pool_backward_vec8_kernel<T, true> : pool_backward_vec8_kernel<T, false>;
        launch("pool_backward_vec8", shape.with_pdl(), kernel, s, static_cast<const T*>(a.dy),
               a.argmax, static_cast<T*>(a.dx));
    });
}

}  // namespace

extern const PoolBackward variant;
const PoolBackward variant{.name = "vec8", .refuses = refuses, .workspace = nullptr, .launch = run};

}  // namespace wt::pool_backward_vec8
