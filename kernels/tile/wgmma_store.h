// From wgmma's accumulators to C.
//
//   direct   each thread stores its pairs of columns. Four threads have 8 columns of a row: 32
//            bytes of fp32, one sector; of bf16 half a sector. Any address and extents will do.
//   staged   in shared memory, from where TMA takes them: pieces of 64 rows by 128 bytes, whole
//            lines; TMA clips to the bounds of C. The copies run while the next piece, and the next
//            tile's products, are computed. C must start on 16 bytes and its rows be multiples of
//            16 bytes apart.
//
// Staged stores are here. Direct ones are DirectStore in kernels/gemm/wgmma_sm90.cu, which
// cluster_sum.h's loop calls: there the sums have been through shared memory once, so that the loop
// need not be unrolled.
//
// What happens to the sums before is a function f(row, column, pair of sums, spot), for example one
// that calls kernels/tile/epilogue.h. `spot` says by its type which group of 8 columns and which of
// the thread's two rows this is, of those that come together. Where there is f.begin<groups>(row,
// column, step), whole warps call it beforehand, for columns column + step * group ... + 7 of the
// 64 rows from `row` on.
#pragma once

#include "kernels/ptx/ldmatrix.h"
#include "kernels/ptx/tma.h"
#include "kernels/tile/wgmma_tile.h"

namespace wt {

// Group kGroup of kGroups, and the thread's row (kHalf 0) or the one 8 below it (kHalf 1).
template <int kGroups_, int kGroup_, int kHalf_>
struct Spot {
    static constexpr int kGroups = kGroups_, kGroup = kGroup_, kHalf = kHalf_;
};
template <int kGroups, class F>
__device__ __forceinline__ void begin(F& f, int row, int col, int step) {
    if constexpr (requires { f.template begin<kGroups>(row, col, step); })
        f.template begin<kGroups>(row, col, step);
}

// Pieces of C in shared memory: kPieces for each consumer, used in turn. A piece is 64 rows of
// kSpan bytes, swizzled as TMA has it: 128 bytes, or 64 where BN columns are no multiple of 128
// bytes.
template <class Out_, int BN_, int kPieces_ = 2>
struct StagedStore {
    using Out = Out_;
    static constexpr int BN = BN_, kPieces = kPieces_;
    static constexpr int kSpan = BN * sizeof(Out) % 128 == 0 ? 128 : 64;
    static constexpr int kColumns = kSpan / sizeof(Out);  // the map's box is kColumns x kRows
    static constexpr int kRows = 64;
    static_assert(BN % kColumns == 0 && kPieces >= 2);
    struct alignas(1024) Storage {
        uint8_t piece[2][kPieces][kRows * kSpan];
    };
};

// Writes columns [kFirst, kFirst + kColumns) of 64 rows of accumulators, each pair through f, to
// `piece`.
template <class Staged, int kFirst, int kHalf, class F>
__device__ __forceinline__ void write_piece(uint8_t* piece, const float (&d)[kHalf], F& f) {
    const FragmentCoord coord = fragment_coord();
    begin<Staged::kColumns / 8>(f, 0, kFirst, 8);
    auto pair = [&](auto group, auto half) {  // of 8 columns
        constexpr int i = kFirst / 2 + group * 4 + half * 2;
        return f(coord.row + 8 * half, kFirst + 8 * group + coord.col, pair_of(d[i], d[i + 1]),
                 Spot<Staged::kColumns / 8, group, half>{});
    };
    using Low = std::integral_constant<int, 0>;
    using High = std::integral_constant<int, 1>;
    if constexpr (sizeof(typename Staged::Out) == 2) {
        // Lane l brings the address of a row of 8 columns: matrices 0 to 3 are rows 0-7 and 8-15 of
        // 8 columns, then of the next 8.
        const int lane = threadIdx.x % 32, row = coord.row / 16 * 16 + lane % 16;
        uint32_t packed[Staged::kColumns / 16][4];
        void* to[Staged::kColumns / 16];
        unroll<Staged::kColumns / 16>([&](auto q) {
            using Left = std::integral_constant<int, 2 * q>;
            using Right = std::integral_constant<int, 2 * q + 1>;
            packed[q][0] = pack_bf16(pair(Left{}, Low{}));
            packed[q][1] = pack_bf16(pair(Left{}, High{}));
            packed[q][2] = pack_bf16(pair(Right{}, Low{}));
            packed[q][3] = pack_bf16(pair(Right{}, High{}));
            to[q] = piece + swizzled<Staged::kSpan>(row, 2 * q + lane / 16);
        });
        ptx::stmatrix_x4_tile(to, packed);
    } else {
        unroll<Staged::kColumns / 8>([&](auto group) {
            auto put = [&](int row, const Vec<2>& v) {
                store(reinterpret_cast<float*>(
                          piece + swizzled<Staged::kSpan>(row, 2 * group + coord.col / 4) +
                          coord.col % 4 * 4),
                      v);
            };
            put(coord.row, pair(group, Low{}));
            put(coord.row + 8, pair(group, High{}));
        });
    }
}

// Stores 64 rows of accumulators to C, whose rows from `row` and columns from `col` on they are;
// all 128 threads of the consumer call. `turn` counts through the pieces, from 0 at the start of
// the kernel. f sees rows and columns of the 64 x BN. The kernel calls drain_stores at its end. One
// barrier a piece is enough: whoever passes that of piece i - 1 knows, from the thread that starts
// the copies, that the copy which read piece i - kPieces from the same bytes is done.
template <class Staged, int kHalf, class F>
__device__ __forceinline__ void store_staged(typename Staged::Storage& storage, int consumer,
                                             int& turn, const CUtensorMap& c, int row, int col,
                                             const float (&d)[kHalf], F&& f) {
    static_assert(kHalf * 2 == Staged::BN);
    const bool first_warp = warp_index() % 4 == 0;  // its elected lane copies
    unroll<Staged::BN / Staged::kColumns>([&](auto p) {
        uint8_t* piece = storage.piece[consumer][turn];
        write_piece<Staged, p * Staged::kColumns>(piece, d, f);
        ptx::fence_proxy_async();
        if (first_warp && ptx::elect_one()) ptx::bulk_wait_read<Staged::kPieces - 2>();
        sync_warpgroup(consumer);
        if (first_warp && ptx::elect_one()) {
            ptx::tma_store(c, piece, col + p * Staged::kColumns, row);
            ptx::bulk_commit();
        }
        if (++turn == Staged::kPieces) turn = 0;
    });
}
// The consumers' threads call this before the block ends, and its shared memory with it.
__device__ __forceinline__ void drain_stores() {
    if (warp_index() % 4 == 0 && ptx::elect_one()) ptx::bulk_wait_read<0>();
}

}  // namespace wt
