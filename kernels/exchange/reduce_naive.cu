// Sum of one block of every worker, one thread per element, in rank order.
#include "kernels/exchange/problem.h"
#include "kernels/launch.h"

namespace wt::exchange_reduce_naive {
namespace {

struct Sources {
    const void* at[kMaxRanks];
};

template <class T>
__global__ void exchange_reduce_naive_kernel(ReduceProblem p, Sources src, T* dst) {
    const int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (e >= p.rows * p.cols) return;
    const int64_t row = e / p.cols, col = e % p.cols;
    float sum = to_float(static_cast<const T*>(src.at[0])[row * p.ld_src + col]);
    for (int r = 1; r < p.sources; ++r)
        sum += to_float(static_cast<const T*>(src.at[r])[row * p.ld_src + col]);
    dst[row * p.ld_dst + col] = from_float<T>(sum);
}

std::string refuses(const ReduceProblem& p) {
    return p.sources >= 1 && p.sources <= kMaxRanks ? "" : "1 to 16 sources";
}

void run(const ReduceProblem& p, const ReduceArgs& a) {
    if (!p.rows || !p.cols) return;
    Sources src{};
    for (int r = 0; r < p.sources; ++r) src.at[r] = a.src[r];
    by_dtype(p.dtype, [&]<class T>() {
        launch("exchange_reduce_naive", {dim3(ceil_div(p.rows * p.cols, 256)), dim3(256), a.stream},
               exchange_reduce_naive_kernel<T>, p, src, static_cast<T*>(a.dst));
    });
}

}  // namespace

extern const ExchangeReduce variant;
const ExchangeReduce variant{
    .name = "naive", .refuses = refuses, .workspace = nullptr, .launch = run};

}  // namespace wt::exchange_reduce_naive
