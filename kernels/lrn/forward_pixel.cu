// LRN forward, a thread per pixel: squares of all channels into a local array with a border of
// zeros, then every window from there. One long vectorised pass after the other suits a virtual
// GPU; on a real one the array lies in local memory and vec8 is faster.
#include "kernels/common/stream.h"
#include "kernels/lrn/power.h"
#include "kernels/lrn/problem.h"

namespace wt::lrn_forward_pixel {
namespace {

constexpr int kMaxChannels = 512, kMaxHalf = 7;
constexpr int kAnyHalf = -1;
constexpr int64_t kPixels = 64;  // of a block

// Compiled for five channels and beta 3/4, which every network here has; others take the window's
// size and the power at run time.
template <class T, int kHalf, bool kThreeQuarters>
__global__ void lrn_forward_pixel_kernel(LrnProblem p, const T* __restrict__ x, T* __restrict__ y) {
    float square[kMaxChannels + 2 * kMaxHalf];  // of channel i at i + half
    const int half = kHalf == kAnyHalf ? p.size / 2 : kHalf;
    for (int i = 0; i < half; ++i) square[i] = square[p.c + half + i] = 0;
    const int64_t first = blockIdx.x * kPixels, end = min(first + kPixels, p.pixels);
    for (int64_t pixel = first + threadIdx.y; pixel < end; pixel += blockDim.y) {
        const T* xp = x + pixel * p.c;
        T* yp = y + pixel * p.c;
        for (int i = 0; i < p.c; ++i) {
            const float v = to_float(xp[i]);
            square[half + i] = v * v;
        }
        for (int i = 0; i < p.c; ++i) {
            float sum = 0;
            for (int d = 0; d <= 2 * half; ++d) sum += square[i + d];
            yp[i] = from_float<T>(to_float(xp[i]) *
                                  lrn_powers<kThreeQuarters>(p.k + p.alpha * sum, p.beta).y);
        }
    }
}

std::string refuses(const LrnProblem& p) {
    if (p.size % 2 == 0 || p.size < 1 || p.size > 2 * kMaxHalf + 1)
        return "size must be odd and at most 15";
    if (p.c > kMaxChannels) return "more than 512 channels";
    return {};
}

template <class T>
auto kernel_for(const LrnProblem& p) -> void (*)(LrnProblem, const T*, T*) {
    if (p.size == 5 && p.beta == 0.75f) return lrn_forward_pixel_kernel<T, 2, true>;
    return lrn_forward_pixel_kernel<T, kAnyHalf, false>;
}

void run(const LrnProblem& p, const LrnForwardArgs& a) {
    if (!p.count()) return;
    const LaunchShape shape{dim3(ceil_div(p.pixels, kPixels)), pixel_block(1, kPixels), a.stream};
    by_dtype(p.dtype, [&]<class T>() {
        launch("lrn_forward_pixel", shape, kernel_for<T>(p), p, static_cast<const T*>(a.x),
               static_cast<T*>(a.y));
    });
}

}  // namespace

extern const LrnForward variant;
const LrnForward variant{.name = "pixel", .refuses = refuses, .workspace = nullptr, .launch = run};

}  // namespace wt::lrn_forward_pixel
