// The work of fprop's and dgrad's persistent blocks (*_wgmma_sm90.cu): whole tiles, wave after wave
// of all clusters, and a last wave that would leave many clusters idle cut along k instead
// (kernels/tile/stream_k.h), so that all have a part of it. (Cutting all waves so would be as even,
// but each tile's parts cost memory traffic: only the last wave's are paid for. This is the hybrid
// of Osama et al., PPoPP 2023.) Parts leave as a thread has them, and a second kernel adds up each
// tile's, in the order of k: the same bits in every run. It does what the epilogue does.
//
// conv5 of alexnet at batch 256, forward: 169 units of 54 stages on 66 clusters are 2 waves and 37
// units. Cut, these take 31 stages instead of 54; their parts are 26 MB, written once and read
// once.
#pragma once

#include "kernels/conv/wgmma_common.h"

namespace wt::conv_wgmma {

// A tile, or a part of one.
struct ConvWork : WorkUnit {
    int part;  // where its partial sums go; -1: it is a whole tile
};

struct WorkSchedule {
    TileSchedule tiles;
    int whole = 0;       // units that are done whole, the first ones
    StreamKPlan tail;    // of the others; units 0: there are none
    int most_parts = 1;  // of a unit of the tail
    int lag = 0;         // stages by which consumer 1 is behind
    float* partials = nullptr;

    int units() const { return whole + tail.units; }
    // Where part `part` of the tile of a cluster's block `rank` lies.
    __device__ __forceinline__ float* at(int part, int rank, int tile_elements) const {
        return partials + (int64_t(part) * tiles.multicast + rank) * tile_elements;
    }
};

inline WorkSchedule work_of(const TilePlan& plan, const Extents& e, void* workspace) {
    WorkSchedule w{.tiles = schedule_of(plan, e),
                   .whole = plan.whole(),
                   .tail = plan.tail,
                   .most_parts = plan.tail.max_partials(),
                   .lag = plan.lag,
                   .partials = static_cast<float*>(workspace)};
    return w;
}

// The launch of a persistent kernel with one block an SM, unless there is less to do. Where the GPU
// runs fewer clusters at once than the plan counts on, the last wave is as the others.
inline LaunchShape persistent_shape(WorkSchedule& w, unsigned threads, size_t shared,
                                    cudaStream_t stream, const void* kernel) {
    const int cluster_size = w.tiles.cluster_size();
    LaunchShape shape{.grid = {},
                      .block = dim3(threads),
                      .stream = stream,
                      .shared = shared,
                      .cluster = unsigned(cluster_size),
                      .pdl = true};
    const int clusters = std::max(1, clusters_at_once(shape, kernel));
    if (clusters != std::max(1, planned_sms() / cluster_size)) {
        w.whole = w.units();
        w.tail = {};
    }
    shape.grid =
        dim3(unsigned(std::min(std::max(w.whole, w.tail.clusters), clusters) * cluster_size));
    return shape;
}

// The loop over this block's work, the same in every role: calls f(work) for each. With kAhead the
// next is found before f is called, beside whose products its divisions then run.
template <bool kAhead = false, class F>
__device__ __forceinline__ void for_each_work(const WorkSchedule& s, F&& f) {
    const int size = s.tiles.multicast, rank = static_cast<int>(blockIdx.x) % size,
              cluster = static_cast<int>(blockIdx.x) / size,
              clusters = static_cast<int>(gridDim.x) / size;
    int u = cluster;
    StreamKCursor tail(s.tail, cluster);
    const auto next = [&](ConvWork& w) {
        StreamKRange range{.unit = u - s.whole, .partial = 0, .first = 0, .steps = 0};
        const bool whole = u < s.whole;
        if (whole)
            u += clusters;
        else if (!tail.next(range))
            return false;
        static_cast<WorkUnit&>(w) = s.tiles.unit(s.whole + range.unit, rank);
        if (!whole) {
            w.first = range.first;
            w.steps = range.steps;
        }
        w.part = whole ? -1 : range.unit * s.most_parts + range.partial;
        return true;
    };
    ConvWork w;
    if constexpr (kAhead) {
        for (bool more = next(w); more;) {
            ConvWork following;
            more = next(following);
            f(w);
            w = following;
        }
    } else {
        while (next(w)) f(w);
    }
}

// Stores a consumer's sums of a tile, or of a part of one, from `tile` on: of each 64 rows and 8
// columns a thread's four accumulators, side by side, so that a warp stores whole lines. `rows`: of
// the tile, that exist.
template <class Tile>
__device__ __forceinline__ void store_quads(float* tile, int warpgroup, int rows,
                                            const typename Tile::Accumulators& acc) {
    constexpr int kQuads = Tile::BN / 8 * 128;  // of 64 rows
    float* to = tile + (warpgroup * Tile::kHeight * kQuads + threadIdx.x % 128) * 4;
    unroll<Tile::kHeight>([&](auto h) {
        if (Tile::row_of(warpgroup, h) >= rows) return;
        unroll<Tile::BN / 8>([&](auto j) {
            Vec<4> quad;
            unroll<4>([&](auto i) { quad.set(i, acc[h][4 * j + i]); });
            store(to + (h * kQuads + j * 128) * 4, quad);
        });
    });
}

// The same of a part.
template <class Tile>
__device__ __forceinline__ void store_part(const WorkSchedule& s, const ConvWork& w, int warpgroup,
                                           const typename Tile::Accumulators& acc) {
    const int rank = static_cast<int>(blockIdx.x) % s.tiles.multicast;
    store_quads<Tile>(s.at(w.part, rank, Tile::BM * Tile::BN), warpgroup, Tile::BM, acc);
}

// ---- the second kernel --------------------------------------------------------------------------

constexpr int kAddThreads = 256;

// A quad of a tile as store_quads has it: rows `row` and row + 8, columns `column` and column + 1.
struct QuadCoord {
    int row, column;
    __device__ __forceinline__ QuadCoord(int quad, int bn) {
        const int rows = quad / (16 * bn), thread = quad % 128, lane = thread % 32;
        row = rows * 64 + thread / 32 * 16 + lane / 4;
        column = (quad / 128 - rows * (bn / 8)) * 8 + lane % 4 * 2;
    }
};

struct TailShape {
    WorkSchedule work;
    TileSize tile;
    int rows, columns;  // of a group
    int64_t pitch;      // of a row, all groups
};

// Adds up the parts of this thread's sums of the tail, and calls put(offset, column, pair) for the
// two of each of two rows that exist: `offset` of the first in the result, and its column in it.
template <class F>
__device__ __forceinline__ void add_tail(const TailShape& v, F&& put) {
    const int elements = v.tile.bm * v.tile.bn, of_tile = elements / 4 / kAddThreads,
              tile = static_cast<int>(blockIdx.x) / of_tile, multicast = v.work.tiles.multicast,
              unit = tile / multicast, rank = tile - unit * multicast;
    const WorkUnit w = v.work.tiles.unit(v.work.whole + unit, rank);
    const int quad = (static_cast<int>(blockIdx.x) - tile * of_tile) * kAddThreads +
                     static_cast<int>(threadIdx.x);
    const QuadCoord at(quad, v.tile.bn);
    const int row = w.m * v.tile.bm + at.row, column = w.n * v.tile.bn + at.column;
    if (row >= v.rows || column >= v.columns) return;  // columns come in eights
    const int parts = v.work.tail.partials(unit);
    const float* from = v.work.at(unit * v.work.most_parts, rank, elements) + quad * 4;
    const int64_t step = int64_t(multicast) * elements;
    Vec<4> sum = load<4>(from);
    for (int i = 1; i < parts; ++i) sum = sum + load<4>(from + i * step);
    const int all_columns = w.group * v.columns + column;
    put(row * v.pitch + all_columns, all_columns, pair_of(sum[0], sum[1]));
    if (row + 8 < v.rows)
        put((row + 8) * v.pitch + all_columns, all_columns, pair_of(sum[2], sum[3]));
}

// The launch of a kernel that calls add_tail.
inline LaunchShape tail_launch(const TailShape& v, cudaStream_t stream) {
    const int64_t blocks = int64_t(v.work.tail.units) * v.work.tiles.multicast * v.tile.bm *
                           v.tile.bn / 4 / kAddThreads;
    return {.grid = dim3(static_cast<unsigned>(blocks)),
            .block = dim3(kAddThreads),
            .stream = stream,
            .pdl = true};
}

}  // namespace wt::conv_wgmma
