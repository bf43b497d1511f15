// What the wgmma matrix products (wgmma_sm90.cu, wgmma_sgd_sm90.cu) share: how a layout's operands
// lie in shared memory, the tensor maps that say so to TMA, and the loop of the thread that copies
// them.
#pragma once

#include "kernels/common/machine.h"
#include "kernels/gemm/wgmma_plan.h"
#include "kernels/ptx/tma.h"
#include "kernels/tile/tensor_map.h"
#include "kernels/tile/wgmma_tile.h"

namespace wt::gemm_wgmma {

// wgmma_sgd_sm90.cu
void launch_sgd(const GemmProblem&, const GemmArgs&, const Plan&);
int sgd_clusters_at_once(int cluster_size);

// How many stages leave 32 KB and a bit of 227 KB for what goes to C.
constexpr int stages_for(int bn) { return bn <= 64 ? 8 : bn <= 128 ? 6 : bn <= 160 ? 5 : 4; }
// Bytes of a row of n or k in a box of B that is n-major: what divides the tile.
constexpr int span_for(int bn) { return bn % 64 == 0 ? 128 : 64; }

template <GemmLayout L, int BN, int kStages = stages_for(BN), int kConsumers = 2>
using TileOf = WgmmaTile<SharedOperand<kBM, kBK, L == GemmLayout::tn ? Major::mn : Major::k>,
                         SharedOperand<BN, kBK, L == GemmLayout::nt ? Major::k : Major::mn,
                                       L == GemmLayout::nt ? 128 : span_for(BN)>,
                         kStages, kConsumers>;

// TMA wants tensors that start on 16 bytes. A matrix that does not (a shard's columns of a gathered
// one) is given a map from the boundary before it, and coordinates `shift` elements further on:
// what lies before it is never asked for.
struct MatrixMap {
    CUtensorMap map;
    int shift;
};
inline MatrixMap matrix_map(DType type, const void* base, int64_t cols, int64_t rows, int64_t ld,
                            int box_cols, int box_rows, int swizzle) {
    const auto address = reinterpret_cast<uintptr_t>(base);
    const int shift = static_cast<int>(address % 16 / size_of(type));
    return {tiled_map(type, reinterpret_cast<const void*>(address / 16 * 16),
                      {uint64_t(cols + shift), uint64_t(rows)}, {ld * size_of(type)},
                      {uint32_t(box_cols), uint32_t(box_rows)}, swizzle),
            shift};
}

// The map of an operand with `mn` rows (of m or n) and k of k, of which each of `multicast` blocks
// copies its share.
template <class Operand>
MatrixMap operand_map(const void* base, int mn, int k, int ld, int multicast) {
    if constexpr (Operand::kMajor == Major::k)
        return matrix_map(DType::bf16, base, k, mn, ld, Operand::kAcross,
                          Operand::kDown / multicast, Operand::kSpan);
    else
        return matrix_map(DType::bf16, base, mn, k, ld, Operand::kAcross, Operand::kDown,
                          Operand::kSpan);
}

// What kernels are told of A and B beside their maps.
struct Inputs {
    TileSchedule schedule;
    int shift_a, shift_b;
};

// The copying thread's part of a unit: fills its stages, one after the other.
template <class Tile>
__device__ __forceinline__ void copy_unit(typename Tile::Stage* stages,
                                          PipelineProducer<Tile::kStages>& pipeline,
                                          const CUtensorMap& map_a, const CUtensorMap& map_b,
                                          const Inputs& in, const WorkUnit& w,
                                          const Multicast& multicast) {
    using A = typename Tile::A;
    using B = typename Tile::B;
    for (int step = 0; step < w.steps; ++step) {
        // Wait until the stage is free.
        ptx::Mbarrier& full = pipeline.producer_acquire(Tile::kStageBytes);
        typename Tile::Stage& stage = stages[pipeline.stage()];
        // Issue the copies of all of A, and of this block's share of B.
        const int k = (w.first + step) * Tile::BK;
        const auto copy_a = [&](uint8_t* to, int box, int) {
            if constexpr (A::kMajor == Major::k)
                ptx::tma_load(to, map_a, full, in.shift_a + k + box * A::kAcross, w.m * Tile::BM);
            else
                ptx::tma_load(to, map_a, full, in.shift_a + w.m * Tile::BM + box * A::kAcross, k);
        };
        const auto copy_b = [&](uint8_t* to, int box, int down) {
            const int across =
                in.shift_b + (B::kMajor == Major::k ? k : w.n * Tile::BN) + box * B::kAcross;
            const int row = B::kMajor == Major::k ? w.n * Tile::BN + down : k;
            if (multicast.size == 1)
                ptx::tma_load(to, map_b, full, across, row);
            else
                ptx::tma_load_multicast(to, map_b, full, multicast_mask(multicast.first), across,
                                        row);
        };
        copy_share<A>(stage.a, 0, 1, copy_a);
        copy_share<B>(stage.b, multicast.rank, multicast.size, copy_b);
        pipeline.advance();
    }
}

// tn's bias gradient: sums of A over k, from the tiles in shared memory, beside the products. Of
// each 64 rows of m a consumer's 128 threads take two each, of every fourth k; the quarters' sums
// are then added up in order.
struct SharedRowSums {
    float quarter[2][4][64];  // [64 rows of the tile][k mod 4][row]
};

// A thread's part of these sums.
template <class Tile>
struct RowSummer {
    Vec<2> sum[Tile::kHeight];
    const int pair = static_cast<int>(threadIdx.x) % 32,
              first = static_cast<int>(threadIdx.x) % 128 / 32;

    __device__ __forceinline__ RowSummer() {
        unroll<Tile::kHeight>([&](auto h) { sum[h] = splat<2>(0); });
    }
    __device__ __forceinline__ void add(const typename Tile::Stage& stage, int consumer) {
        static_assert(Tile::BM == 128 && Tile::A::kMajor == Major::mn && Tile::A::kSpan == 128);
        unroll<Tile::kHeight>([&](auto h) {
            // 64 k, each a row of 64 m
            const uint8_t* box = stage.a + (consumer * Tile::kHeight + h) * Tile::A::kBoxBytes;
#pragma unroll 4
            for (int k = first; k < Tile::BK; k += 4)
                sum[h] = sum[h] + load<2>(reinterpret_cast<const bf16*>(
                                      box + swizzled<128>(k, pair / 4) + pair % 4 * 4));
        });
        __syncwarp();
    }
    __device__ __forceinline__ void put(SharedRowSums& sums, int consumer) const {
        unroll<Tile::kHeight>([&](auto h) {
            store(&sums.quarter[consumer * Tile::kHeight + h][first][2 * pair], sum[h]);
        });
    }
};
__device__ __forceinline__ float row_sum(const SharedRowSums& sums, int row) {
    float sum = 0;
    for (int q = 0; q < 4; ++q) sum += sums.quarter[row / 64][q][row % 64];
    return sum;
}

}  // namespace wt::gemm_wgmma
