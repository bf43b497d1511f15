// Copy by a kernel that reads the peer's memory itself, 8 elements at a time: its parts start with
// no more delay than any kernel's, and it needs no copy engine, but it occupies multiprocessors.
#include "kernels/common/pack.h"
#include "kernels/common/stream.h"
#include "kernels/exchange/problem.h"

namespace wt::exchange_copy_vec8 {
namespace {

constexpr int kGroup = 8;

// Bits: uint32_t or uint16_t. Elements are moved as bits, so that a NaN stays the NaN it was.
template <class Bits>
__global__ void exchange_copy_vec8_kernel(RowPieces s, int64_t ld_src, int64_t ld_dst, bool aligned,
                                          const Bits* src, Bits* dst) {
    const int64_t first = blockIdx.x * s.piece, end = min(first + s.piece, s.groups);
    for (int64_t row = blockIdx.y; row < s.rows; row += gridDim.y)
        for (int64_t g = first + threadIdx.x; g < end; g += blockDim.x) {
            const int64_t col = g * kGroup;
            const Bits* from = src + row * ld_src + col;
            Bits* to = dst + row * ld_dst + col;
            if (aligned && col + kGroup <= s.cols)
                *reinterpret_cast<Pack<Bits, kGroup>*>(to) =
                    *reinterpret_cast<const Pack<Bits, kGroup>*>(from);
            else
                for (int i = 0; i < kGroup && col + i < s.cols; ++i) to[i] = from[i];
        }
}

void run(const CopyProblem& p, const CopyArgs& a) {
    if (!p.rows || !p.cols) return;
    const RowPieces s =
        row_pieces(p.rows, p.cols, p.ld_src != p.cols || p.ld_dst != p.cols, kGroup);
    const int64_t ld_src = s.rows == 1 ? 0 : p.ld_src, ld_dst = s.rows == 1 ? 0 : p.ld_dst;
    const size_t size = size_of(p.dtype);
    const bool aligned = packs_aligned(a.src, ld_src, size) && packs_aligned(a.dst, ld_dst, size);
    auto start = [&]<class Bits>() {
        launch("exchange_copy_vec8", stream_shape(s, a.stream), exchange_copy_vec8_kernel<Bits>, s,
               ld_src, ld_dst, aligned, static_cast<const Bits*>(a.src), static_cast<Bits*>(a.dst));
    };
    if (size == 4)
        start.template operator()<uint32_t>();
    else
        start.template operator()<uint16_t>();
}

}  // namespace

extern const ExchangeCopy variant;
const ExchangeCopy variant{
    .name = "vec8", .refuses = fits_all<CopyProblem>, .workspace = nullptr, .launch = run};

}  // namespace wt::exchange_copy_vec8
