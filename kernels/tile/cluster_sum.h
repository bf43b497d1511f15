// Adds up the splits of k that the blocks of a cluster have computed of one tile, through
// distributed shared memory: no workspace, no second kernel, and always in the order of k. Each
// block then has a part of the tile's columns in its hands, so that the epilogue, too, is shared
// out.
//
// For 128 x 128 in 4 splits each block writes 64 KB and reads 4 x 16 KB, 3 of them from its
// neighbours. The network between SMs is slower than their own shared memory by an order of
// magnitude; up to four times the tile is worth it where the alternative is writing it to the L2
// cache and reading it back in a kernel of its own.
#pragma once

#include "kernels/tile/wgmma_store.h"

namespace wt {

// A block's sums: the four accumulators that a thread has of each 8 columns, side by side. It may
// lie where the stages are.
template <class Tile>
struct alignas(16) PartialTile {
    float quad[Tile::kConsumers][Tile::kHeight][Tile::BN / 8][128][4];
};

// What the cluster's threads that are no consumers do meanwhile: they keep both appointments, that
// the sums are there and that they have been read. They have nothing to hand over themselves.
__device__ __forceinline__ void meet_in_sum() {
    for (int i = 0; i < 2; ++i) {
        ptx::cluster_arrive_relaxed();
        ptx::cluster_wait();
    }
}

// All threads of the cluster's consumers call this; its other threads call meet_in_sum
// meanwhile. All stages that this consumer reads must have been read, and may be written again
// afterwards. It calls f(row, column, pair, spot) for this block's part of the columns, rows
// counted from the first of the tile, and stores nothing itself. A block's rank is split *
// multicast + multicast_rank. between() runs while all blocks' shared memory may be read. With one
// split it is the plain way for accumulators to be looped over.
template <class Tile, class G, class F>
__device__ __forceinline__ void sum_in_cluster(PartialTile<Tile>& partial, int consumer,
                                               const typename Tile::Accumulators& acc,
                                               int multicast, int splits, G&& between, F&& f) {
    constexpr int kGroups = Tile::BN / 8, kBatch = 4;  // kBatch x splits loads are under way
    const int thread = threadIdx.x % 128, rank = static_cast<int>(ptx::cluster_rank()),
              split = rank / multicast, multicast_rank = rank % multicast;
    // the other consumer's products may still read the stages that `partial` lies on
    sync_consumers<Tile::kConsumers>();
    unroll<Tile::kHeight>([&](auto h) {
        unroll<kGroups>([&](auto j) {
            Vec<4> v;
            unroll<4>([&](auto i) { v.set(i, acc[h][4 * j + i]); });
            store(partial.quad[consumer][h][j][thread], v);
        });
    });
    cluster_sync();
    between();
    const FragmentCoord coord = fragment_coord();
#pragma unroll 1
    for (int h = 0; h < Tile::kHeight; ++h)
#pragma unroll 1
        for (int j0 = split; j0 < kGroups; j0 += kBatch * splits) {
            Vec<4> sum[kBatch];
            unroll<kBatch>([&](auto b) { sum[b] = splat<4>(0); });
#pragma unroll 1
            for (int s = 0; s < splits; ++s) {
                const PartialTile<Tile>* there =
                    ptx::map_shared_pointer(&partial, s * multicast + multicast_rank);
                unroll<kBatch>([&](auto b) {
                    if (j0 + b * splits < kGroups)
                        sum[b] =
                            sum[b] + load<4>(there->quad[consumer][h][j0 + b * splits][thread]);
                });
            }
            const int row = Tile::row_of(consumer, h);
            begin<kBatch>(f, row, 8 * j0, 8 * splits);
            unroll<kBatch>([&](auto b) {
                if (j0 + b * splits >= kGroups) return;
                const int col = (j0 + b * splits) * 8 + coord.col;
                f(row + coord.row, col, pair_of(sum[b][0], sum[b][1]), Spot<kBatch, b, 0>{});
                f(row + coord.row + 8, col, pair_of(sum[b][2], sum[b][3]), Spot<kBatch, b, 1>{});
            });
        }
    ptx::fence_proxy_async();  // before TMA writes the stages again
    // All have read; the arrival need not wait for what f has stored, as a release would.
    ptx::cluster_arrive_relaxed();
    ptx::cluster_wait();
}

}  // namespace wt
