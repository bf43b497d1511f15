// Which tiles a persistent block computes, one after the other. Static: unit u belongs to cluster u mod (clusters of the grid), so
// that producer and consumers agree without a word, and every run computes the same.
//
// Order: those that run at the same time should read the same operands while these are in the L2 cache. Tiles go in bands of
// kBand along m; within a band m is fastest. With 132 tiles of 128 x 256 at a time, bands of 16 make that 16 x 8 tiles, whose
// operands are 16 * 128 + 8 * 256 rows: a square, the least there is. Splits of k come last: all tiles of a split read the
// same range of k.
#pragma once

#include "kernels/launch.h"
#include "kernels/tile/result.h"

namespace wt {

// A unit of work: tile (m, n) of a group, and a range of k in steps of BK.
struct WorkUnit {
    int m, n;         // of the tile, counted in tiles
    int group, split;
    int first, steps; // steps of k
};

struct TileSchedule {
    static constexpr int kBand = 16;

    int tiles_m = 1, tiles_n = 1;  // of one group
    int groups = 1;
    SplitK split;     // how k is divided
    int together = 1; // blocks of a cluster: neighbours along m (`pairs`) or the splits of one tile
    bool splits_together = false;

    // Units that clusters take; a cluster of blocks along m takes as many tiles at once.
    __host__ __device__ int units() const {
        return groups * (splits_together ? 1 : split.splits) * (splits_together ? tiles_m : (tiles_m + together - 1) / together) * tiles_n;
    }
    // What block `rank` of the cluster does in unit u. Its tile may lie beyond the last along m (odd number of tiles, pairs):
    // it does its share of the copies and stores nothing.
    __device__ __forceinline__ WorkUnit unit(int u, int rank) const {
        WorkUnit w;
        const int across = splits_together ? tiles_m : (tiles_m + together - 1) / together;  // along m
        const int tiles = across * tiles_n;
        const int outer = u / tiles;
        int tile = u - outer * tiles;
        const int band = tile / (kBand * tiles_n);
        tile -= band * kBand * tiles_n;
        const int height = min(kBand, across - band * kBand);
        w.n = tile / height;
        w.m = band * kBand + (tile - w.n * height);
        w.group = outer % groups;
        w.split = outer / groups;
        if (splits_together)
            w.split = rank;
        else
            w.m = w.m * together + rank;
        w.first = w.split * split.steps;
        w.steps = min(split.steps, split.total_steps - w.first);
        return w;
    }
};

// The loop over this cluster's units, the same in every role: calls f(unit) for each.
template <class F>
__device__ __forceinline__ void for_each_unit(const TileSchedule& schedule, F&& f) {
    const int together = schedule.together, rank = static_cast<int>(blockIdx.x) % together;
    const int clusters = static_cast<int>(gridDim.x) / together, units = schedule.units();
    for (int u = static_cast<int>(blockIdx.x) / together; u < units; u += clusters) f(schedule.unit(u, rank));
}

}  // namespace wt
