// Which tiles a persistent block computes, one after the other. The schedule is static: unit u
// belongs to cluster u mod (clusters of the grid), so that producer and consumers agree without
// exchanging a word, and every run computes the same.
//
// Units that run at the same time should read the same operands while these are in the L2 cache. So
// tiles go in bands of kBand along m, and within a band m is fastest. With 132 tiles of 128 x 256
// at a time, bands of 16 make that 16 x 8 tiles, whose operands are 16 * 128 + 8 * 256 rows: a
// square, the least there is. Splits of k come last: all tiles of a split read the same range of k.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace wt {

// A unit of work: tile (m, n) of a group, and a range of k in steps of BK.
struct WorkUnit {
    int m, n;  // of the tile, counted in tiles
    int group, split;
    int first, steps;  // its steps of k
};

struct TileSchedule {
    static constexpr int kBand = 16;

    int tiles_m = 1, tiles_n = 1;  // of one group
    int groups = 1;
    int splits = 1;  // of k: `splits` x `split_steps` steps cover it; the last split may have fewer
    int split_steps = 1, total_steps = 1;
    // A cluster is `multicast` blocks along m, which load B once for all of them, times
    // `cluster_splits` blocks that split k of each of their tiles: 1, or all splits. A block's rank
    // is its split * multicast + its number along m.
    int multicast = 1, cluster_splits = 1;

    __host__ __device__ int cluster_size() const { return multicast * cluster_splits; }
    __host__ __device__ int across() const { return (tiles_m + multicast - 1) / multicast; }
    // The number of work units; clusters process them in order.
    __host__ __device__ int units() const {
        return groups * (splits / cluster_splits) * across() * tiles_n;
    }

    // What block `rank` of the cluster does in unit u. Where multicast does not divide tiles_m,
    // tiles may lie beyond the last one: such a block copies its share and stores nothing.
    __device__ __forceinline__ WorkUnit unit(int u, int rank) const {
        const int tiles = across() * tiles_n, outer = u / tiles;
        const int band = (u - outer * tiles) / (kBand * tiles_n);
        const int in_band = u - outer * tiles - band * kBand * tiles_n;
        const int height = min(kBand, across() - band * kBand);
        WorkUnit w;
        w.n = in_band / height;
        w.m = (band * kBand + (in_band - w.n * height)) * multicast + rank % multicast;
        w.group = outer % groups;
        w.split = cluster_splits > 1 ? rank / multicast : outer / groups;
        w.first = w.split * split_steps;
        w.steps = min(split_steps, total_steps - w.first);
        return w;
    }
};

// The loop over this cluster's units, the same in every role: calls f(unit) for each. Where f takes
// (unit, index, more), it is told the unit's number among this cluster's and whether another
// follows. With kAhead the next unit is found before f is called, beside whose products its
// divisions, some 400 clocks, then run; else they would lie between two units. That takes six
// registers, of which consumers have enough; a producer is ahead anyway.
template <bool kAhead = false, class F>
__device__ __forceinline__ void for_each_unit(const TileSchedule& schedule, F&& f) {
    const int cluster_size = schedule.cluster_size(),
              rank = static_cast<int>(blockIdx.x) % cluster_size;
    const int clusters = static_cast<int>(gridDim.x) / cluster_size, units = schedule.units();
    const int first = static_cast<int>(blockIdx.x) / cluster_size;
    int index = 0;
    const auto call = [&](const WorkUnit& w, int u) {
        if constexpr (requires { f(w, 0, true); })
            f(w, index++, u + clusters < units);
        else
            f(w);
    };
    if constexpr (kAhead) {
        WorkUnit w = schedule.unit(min(first, units - 1), rank);
        for (int u = first; u < units; u += clusters) {
            const WorkUnit next = schedule.unit(min(u + clusters, units - 1), rank);
            call(w, u);
            w = next;
        }
    } else {
        for (int u = first; u < units; u += clusters) call(schedule.unit(u, rank), u);
    }
}

// This block among those of its cluster that load B once for all of them.
struct Multicast {
    int size, rank;  // of how many (1 or 2), and which
    int first;       // rank in the cluster of the first of them
    __device__ __forceinline__ explicit Multicast(const TileSchedule& s) : size(s.multicast) {
        const int cluster_rank = static_cast<int>(blockIdx.x) % s.cluster_size();
        rank = cluster_rank % size;
        first = cluster_rank - rank;
    }
};

}  // namespace wt
