// Sum of one block of every worker, 8 elements at a time, in rank order. A thread reads its group
// of every source before it writes, so dst may be one of them.
#include "kernels/common/pack.h"
#include "kernels/common/stream.h"
#include "kernels/exchange/problem.h"

namespace wt::exchange_reduce_vec8 {
namespace {

constexpr int kGroup = 8;

struct Sources {
    const void* at[kMaxRanks];
};

template <class T>
__global__ void exchange_reduce_vec8_kernel(RowPieces s, const __grid_constant__ Sources src,
                                            int sources, int64_t ld_src, int64_t ld_dst,
                                            bool aligned, T* dst) {
    const int64_t first = blockIdx.x * s.piece, end = min(first + s.piece, s.groups);
    for (int64_t row = blockIdx.y; row < s.rows; row += gridDim.y)
        for (int64_t g = first + threadIdx.x; g < end; g += blockDim.x) {
            const int64_t col = g * kGroup, from = row * ld_src + col;
            float sum[kGroup], v[kGroup];
            load_pack(static_cast<const T*>(src.at[0]) + from, s.cols - col, aligned, sum);
            for (int r = 1; r < sources; ++r) {
                load_pack(static_cast<const T*>(src.at[r]) + from, s.cols - col, aligned, v);
                WT_LANES
                for (int i = 0; i < kGroup; ++i) sum[i] += v[i];
            }
            store_pack(dst + row * ld_dst + col, s.cols - col, aligned, sum);
        }
}

std::string refuses(const ReduceProblem& p) {
    return p.sources >= 1 && p.sources <= kMaxRanks ? "" : "1 to 16 sources";
}

void run(const ReduceProblem& p, const ReduceArgs& a) {
    if (!p.rows || !p.cols) return;
    const RowPieces s =
        row_pieces(p.rows, p.cols, p.ld_src != p.cols || p.ld_dst != p.cols, kGroup);
    const int64_t ld_src = s.rows == 1 ? 0 : p.ld_src, ld_dst = s.rows == 1 ? 0 : p.ld_dst;
    bool aligned = packs_aligned(a.dst, ld_dst, size_of(p.dtype));
    Sources src{};
    for (int r = 0; r < p.sources; ++r) {
        src.at[r] = a.src[r];
        aligned = aligned && packs_aligned(a.src[r], ld_src, size_of(p.dtype));
    }
    by_dtype(p.dtype, [&]<class T>() {
        launch("exchange_reduce_vec8", stream_shape(s, a.stream), exchange_reduce_vec8_kernel<T>, s,
               src, p.sources, ld_src, ld_dst, aligned, static_cast<T*>(a.dst));
    });
}

}  // namespace

extern const ExchangeReduce variant;
const ExchangeReduce variant{
    .name = "vec8", .refuses = refuses, .workspace = nullptr, .launch = run};

}  // namespace wt::exchange_reduce_vec8
