// Max-pool backward, 8 channels at a time; a block computes rows of dx. Every pixel gathers from the windows that
// cover it (at most four when the stride is 2 and the window 3), in row order.
#include "kernels/pool/problem.h"
#include "kernels/tile/group.h"
#include "kernels/tile/stream.h"

namespace wt::pool_backward_vec8 {
namespace {

constexpr int kGroup = 8;

template <class T>
__global__ void pool_backward_vec8_kernel(PoolProblem s, bool aligned, const T* dy, const uint8_t* argmax, T* dx) {
    const int groups = s.c / kGroup, rows = s.n * s.h, height = s.p(), width = s.q();
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        const int n = row / s.h, h = row % s.h + s.pad;
        // Windows p that hold padded row h: p * stride <= h < p * stride + window.
        const int p0 = h < s.window ? 0 : (h - s.window) / s.stride + 1, p1 = min(height, h / s.stride + 1);
        for (int w = threadIdx.y; w < s.w; w += blockDim.y) {
            const int wp = w + s.pad;
            const int q0 = wp < s.window ? 0 : (wp - s.window) / s.stride + 1, q1 = min(width, wp / s.stride + 1);
            for (int g = threadIdx.x; g < groups; g += blockDim.x) {
                float sum[kGroup] = {};
                for (int p = p0; p < p1; ++p)
                    for (int q = q0; q < q1; ++q) {
                        const int here = (h - p * s.stride) * s.window + (wp - q * s.stride);
                        const int64_t at = ((int64_t(n) * height + p) * width + q) * s.c + g * kGroup;
                        float v[kGroup];
                        load_group(dy + at, kGroup, aligned, v);
                        Group<uint8_t, kGroup> bytes;
                        if (aligned)
                            bytes = *reinterpret_cast<const Group<uint8_t, kGroup>*>(argmax + at);
                        else
                            for (int e = 0; e < kGroup; ++e) bytes.v[e] = argmax[at + e];
                        for (int e = 0; e < kGroup; ++e) sum[e] += bytes.v[e] == here ? v[e] : 0.f;
                    }
                store_group(dx + (int64_t(row) * s.w + w) * s.c + g * kGroup, kGroup, aligned, sum);
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
    const bool aligned =
        groups_aligned(a.dy, s.c, size) && groups_aligned(a.dx, s.c, size) && groups_aligned(a.argmax, s.c, 1);
    const LaunchShape shape{dim3(s.n * s.h), pixel_block(s.c / kGroup, s.w), a.stream};
    by_dtype(s.dtype, [&]<class T>() {
        launch("pool_backward_vec8", shape, pool_backward_vec8_kernel<T>, s, aligned, static_cast<const T*>(a.dy),
               a.argmax, static_cast<T*>(a.dx));
    });
}

}  // namespace

extern const PoolBackward variant;
const PoolBackward variant{"vec8", refuses, nullptr, run};

}  // namespace wt::pool_backward_vec8
