// The partial sums of the gradient of the filters on Hopper (wgrad_wgmma_sm90.cu): who computes
// which, where they lie, how they get there, and the kernel that adds them up.
#pragma once

#include "kernels/conv/wgmma_tail.h"

namespace wt::conv_wgmma {

struct WgradShape {
    Window window;      // of x
    int rows, filters;  // taps x channels; filters of a group
    int tiles_m, tiles_n, groups, multicast;
    TileSize tile;
    StreamKPlan plan;  // of the units, pairs of tiles, over the clusters
    int max_partials;  // of a unit
    float* partials;   // [group, n, m of a tile][max_partials][a tile as store_partial has it]
    float* sums;       // [group][block that adds up dy][max_partials][filters]; null: not wanted
    float *dw, *db;

    __host__ __device__ int pairs() const { return (tiles_m + multicast - 1) / multicast; }
    __host__ __device__ int unit_of(int group, int n, int m) const {
        return (group * tiles_n + n) * pairs() + m / multicast;
    }
    __host__ __device__ int tiles() const { return groups * tiles_n * tiles_m; }
    // Where partial sums number i of tile t of all tiles lie.
    __host__ __device__ int64_t partial_at(int t, int i) const {
        return (int64_t(t) * max_partials + i) * tile.bm * tile.bn;
    }
    // The blocks of a column, by their m, that add up dy: from here to the last. The second of the
    // last pair where it has no tile, else all.
    __host__ __device__ int first_adder() const {
        return pairs() * multicast > tiles_m ? tiles_m : 0;
    }
    __host__ __device__ int adders() const { return first_adder() ? 1 : tiles_m; }
    // Where the sums of dy number i of a group's adder number a lie.
    __host__ __device__ int64_t sums_at(int group, int a, int i) const {
        return ((int64_t(group) * adders() + a) * max_partials + i) * filters;
    }
};

// A tile and a range of k.
struct WorkTile {
    int m, n, group;
    int partial;
    int first, steps;
};

// ---- on their way to memory ---------------------------------------------------------------------

// Adds up dy over some of a stage's pixels: each consumer warp takes rows of one box, 4 at a time,
// a lane 8 filters.
template <class B>
struct DySums {
    static constexpr int kWarps = 8 / B::kBoxes;  // to a box
    float sum[8];

    __device__ __forceinline__ void clear() {
        unroll<8>([&](auto i) { sum[i] = 0; });
    }
    // Part `rank` of `parts` (1 or 2) of the pixels.
    __device__ __forceinline__ void add(const uint8_t* dy, int rank, int parts) {
        const int warp = threadIdx.x / 32 - 4, lane = threadIdx.x % 32;
        if (warp < kWarps * B::kBoxes) {
            const uint8_t* box = dy + warp / kWarps * B::kBoxBytes;
            const int first = rank * (kDepth / 2), end = first + kDepth / parts;
            for (int row = first + warp % kWarps * 4 + lane / 8; row < end; row += kWarps * 4) {
                // TMA's swizzle
                const uint4 v =
                    *reinterpret_cast<const uint4*>(box + row * 128 + ((lane ^ row) % 8 << 4));
                const uint32_t words[4] = {v.x, v.y, v.z, v.w};
                unroll<4>([&](auto i) {
                    sum[2 * i] += __uint_as_float(words[i] << 16);
                    sum[2 * i + 1] += __uint_as_float(words[i] & 0xffff0000u);
                });
            }
        }
        __syncwarp();
    }
    // Writes out[filter] for the `count` filters of the tile that exist; all consumers call.
    __device__ __forceinline__ void put(float (&shared)[8][64], float* out, int count) {
        const int warp = threadIdx.x / 32 - 4, lane = threadIdx.x % 32;
        unroll<8>([&](auto i) {
            sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 8);
            sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 16);
            if (lane < 8) shared[warp][lane * 8 + i] = sum[i];
        });
        sync_consumers();
        for (int filter = threadIdx.x - 128; filter < B::kRows && filter < count; filter += 256) {
            float all = 0;
            for (int w = 0; w < kWarps; ++w) all += shared[filter / 64 * kWarps + w][filter % 64];
            out[filter] = all;
        }
        sync_consumers();
    }
};

// Stores a consumer's sums of a tile. A last tile may have no rows there.
template <class Tile>
__device__ __forceinline__ void store_partial(const WgradShape& v, const WorkTile& tile,
                                              int warpgroup,
                                              const typename Tile::Accumulators& acc) {
    const int t = (tile.group * v.tiles_n + tile.n) * v.tiles_m + tile.m;
    store_quads<Tile>(v.partials + v.partial_at(t, tile.partial), warpgroup,
                      v.rows - tile.m * Tile::BM, acc);
}

// ---- the second kernel --------------------------------------------------------------------------

constexpr int kAddWarps = kAddThreads / 32;
struct AddStorage {
    float sum[kAddWarps][32];
};

// A thread for what a consumer's thread has of 8 columns: two rows of two columns. Block number
// `part` of those of tile t.
__device__ __forceinline__ void add_products(const WgradShape& v, int t, int part) {
    const int column = t / v.tiles_m, m = t - column * v.tiles_m, group = column / v.tiles_n,
              n = column - group * v.tiles_n;
    const int quad = part * kAddThreads + static_cast<int>(threadIdx.x);
    const QuadCoord at(quad, v.tile.bn);
    const int row = m * v.tile.bm + at.row, filter = n * v.tile.bn + at.column;
    if (row >= v.rows || filter >= v.filters) return;  // rows come in sixteens, filters in eights
    const int count = v.plan.partials(v.unit_of(group, n, m));
    const float* from = v.partials + v.partial_at(t, 0) + quad * 4;
    const int64_t step = v.partial_at(0, 1);
    Vec<4> sum = load<4>(from);
    for (int s = 1; s < count; ++s) sum = sum + load<4>(from + s * step);
    float* to = v.dw + (int64_t(group) * v.filters + filter) * v.rows + row;
    to[0] = sum[0];
    to[v.rows] = sum[1];
    to[8] = sum[2];
    to[v.rows + 8] = sum[3];
}

// The sums of dy of 32 filters of a group: warps take the blocks' sums by turns, then their own are
// added in order.
__device__ __forceinline__ void add_sums_of_dy(const WgradShape& v, int group, int first_filter) {
    AddStorage& shared = shared_storage<AddStorage>();
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, filter = first_filter + lane,
              n = filter / v.tile.bn;
    const int first = v.first_adder(), adders = filter < v.filters ? v.adders() : 0;
    const float* from = v.sums + v.sums_at(group, warp, 0) + filter;
    float sum = 0;
    for (int a = warp; a < adders; a += kAddWarps) {
        const int count = v.plan.partials(v.unit_of(group, n, first + a));
        for (int s = 0; s < count; ++s) sum += from[int64_t(s) * v.filters];
        from += int64_t(kAddWarps) * v.max_partials * v.filters;
    }
    shared.sum[warp][lane] = sum;
    __syncthreads();
    if (warp > 0 || filter >= v.filters) return;
    sum = 0;
    for (int w = 0; w < kAddWarps; ++w) sum += shared.sum[w][lane];
    v.db[int64_t(group) * v.filters + filter] = sum;
}

// Adds up the partial sums, each tile's in the order of k, and puts them where w has them; the last
// blocks those of dy.
inline __global__ void __launch_bounds__(kAddThreads)
    add_parts_kernel(const __grid_constant__ WgradShape v) {
    ptx::griddep_wait();
    const int block = static_cast<int>(blockIdx.x),
              of_tile = v.tile.bm * v.tile.bn / 4 / kAddThreads, t = block / of_tile;
    if (t < v.tiles()) return add_products(v, t, block - t * of_tile);
    const int i = block - v.tiles() * of_tile, of_group = (v.filters + 31) / 32,
              group = i / of_group;
    add_sums_of_dy(v, group, (i - group * of_group) * 32);
}

}  // namespace wt::conv_wgmma
