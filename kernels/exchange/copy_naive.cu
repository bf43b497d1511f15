// Copy by a kernel, one thread per element.
#include "kernels/exchange/problem.h"
#include "kernels/launch.h"

namespace wt::exchange_copy_naive {
namespace {

// Elements are moved as bits, so that a NaN stays the NaN it was.
template <class Bits>
__global__ void exchange_copy_naive_kernel(CopyProblem p, const Bits* src, Bits* dst) {
    const int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (e < p.rows * p.cols)
        dst[e / p.cols * p.ld_dst + e % p.cols] = src[e / p.cols * p.ld_src + e % p.cols];
}

void run(const CopyProblem& p, const CopyArgs& a) {
    if (!p.rows || !p.cols) return;
    auto start = [&]<class Bits>() {
        launch("exchange_copy_naive", {dim3(ceil_div(p.rows * p.cols, 256)), dim3(256), a.stream},
               exchange_copy_naive_kernel<Bits>, p, static_cast<const Bits*>(a.src),
               static_cast<Bits*>(a.dst));
    };
    if (size_of(p.dtype) == 4)
        start.template operator()<uint32_t>();
    else
        start.template operator()<uint16_t>();
}

}  // namespace

extern const ExchangeCopy variant;
const ExchangeCopy variant{
    .name = "naive", .refuses = fits_all<CopyProblem>, .workspace = nullptr, .launch = run};

}  // namespace wt::exchange_copy_naive
