// Split-K: where a tiled product's result goes. Either straight through its epilogue to C; or,
// where C has too few tiles to fill the machine, k is split: every split writes its partial sums,
// in fp32, to the workspace, and a second kernel adds the partials up in order, so that results are
// the same bit for bit in every run, and does the epilogue.
#pragma once

#include <algorithm>

#include "kernels/common/vec.h"
#include "kernels/common/machine.h"
#include "kernels/launch.h"
#include "kernels/tile/epilogue.h"

namespace wt {

// How k is divided. `splits` x `steps` steps of BK cover it; the last split may have fewer steps.
struct SplitK {
    int splits = 1;
    int steps = 1;  // of one split
    int total_steps = 1;
    // one split, too, writes its partial sums: the reduction kernel has the epilogue
    bool force_workspace = false;

    __host__ __device__ bool uses_workspace() const { return splits > 1 || force_workspace; }
};

// Divides k so that tiles x splits fills the machine with two blocks on each SM, with at least 16
// steps in a split: below that writing and adding partial sums costs more than idle SMs. A virtual
// GPU needs no splits, but computes the same sums.
inline SplitK split_k(int64_t tiles, int64_t k, int bk) {
    SplitK s;
    s.total_steps = static_cast<int>(std::max<int64_t>(1, ceil_div(k, bk)));
    s.splits = static_cast<int>(
        std::clamp<int64_t>(2 * planned_sms() / tiles, 1, std::max(1, s.total_steps / 16)));
    s.steps = static_cast<int>(ceil_div(s.total_steps, s.splits));
    s.splits = static_cast<int>(ceil_div(s.total_steps, s.steps));  // none empty
    return s;
}

// The columns that a row of partial sums has room for: whole runs of 8.
__host__ __device__ inline int partial_columns(int cols) { return (cols + 7) / 8 * 8; }

// A product's C: `groups` matrices of rows x out.cols, and what their epilogue does.
template <class Out>
struct SplitKOutput {
    Epilogue<Out> out;
    int rows = 0;
    int groups = 1;
    int64_t group_stride = 0;  // elements from one group's C to the next
    // rows a group: receives the sums of A's rows over k; null: not wanted
    float* row_sums = nullptr;
    SplitK split;
    float* partials = nullptr;  // the workspace, where split.uses_workspace()

    __host__ __device__ int partial_ld() const { return partial_columns(out.cols); }
    __host__ __device__ int64_t partial_size() const { return int64_t(rows) * partial_ld(); }
    // The partial sums of a group and split; behind all of those the row sums of each.
    __host__ __device__ float* partial(int group, int s) const {
        return partials + (int64_t(group) * split.splits + s) * partial_size();
    }
    __host__ __device__ float* partial_row_sums(int group, int s) const {
        return partials + int64_t(groups) * split.splits * partial_size() +
               (int64_t(group) * split.splits + s) * rows;
    }
};

inline size_t split_workspace(const SplitK& s, int rows, int cols, int groups, bool row_sums) {
    if (!s.uses_workspace()) return 0;
    return sizeof(float) * groups * s.splits * rows * (partial_columns(cols) + (row_sums ? 1 : 0));
}

// The tile that a block works on. Tiles across n are neighbours, so that they find A in the L2
// cache.
struct BlockTile {
    int m, n, group, split, steps;
};

template <class Tile, class Out>
__device__ __forceinline__ BlockTile my_tile(const SplitKOutput<Out>& r) {
    const unsigned across = (r.out.cols + Tile::BN - 1) / Tile::BN;
    BlockTile t;
    t.m = static_cast<int>(blockIdx.x / across) * Tile::BM;
    t.n = static_cast<int>(blockIdx.x % across) * Tile::BN;
    t.group = blockIdx.z;
    t.split = blockIdx.y;
    t.steps = min(r.split.steps, r.split.total_steps - t.split * r.split.steps);
    return t;
}

template <class Tile, class Out>
dim3 product_grid(const SplitKOutput<Out>& r) {
    return dim3(static_cast<unsigned>(ceil_div(r.rows, Tile::BM) * ceil_div(r.out.cols, Tile::BN)),
                r.split.splits, r.groups);
}

// Whether p + any multiple of ld may be accessed V elements at a time.
template <int V, class T>
__host__ __device__ inline bool aligned_for(const T* p, int64_t ld) {
    return reinterpret_cast<uintptr_t>(p) % (V * sizeof(T)) == 0 && ld % V == 0;
}

// Stores a thread's 8 x 8 accumulators (rows m.., columns n.. and n+32..) and, from one tile across
// only, the row sums (each thread reads the one it added up).
template <class Tile, EpilogueOp F = EpilogueOp::plain, class Out, class ThreadOrigin>
__device__ __forceinline__ void store_tile(const SplitKOutput<Out>& r, const BlockTile& t,
                                           ThreadOrigin origin, const Vec<8> (&acc)[8],
                                           const float* row_sum = nullptr) {
    const int thread = threadIdx.x;
    if (r.row_sums && t.n == 0 && thread < Tile::BM && t.m + thread < r.rows) {
        float* sums = r.split.uses_workspace() ? r.partial_row_sums(t.group, t.split)
                                               : r.row_sums + int64_t(t.group) * r.rows;
        sums[t.m + thread] = row_sum[thread];
    }
    const int row0 = t.m + origin.m;
    const int col0 = t.n + origin.n;
    if (r.split.uses_workspace()) {
        float* partial = r.partial(t.group, t.split);
        unroll<8>([&](auto i) {
            if (row0 + i >= r.rows) return;
            float* row = partial + int64_t(row0 + i) * r.partial_ld();
            if (col0 < r.partial_ld()) store(row + col0, low(acc[i]));
            if (col0 + 32 < r.partial_ld()) store(row + col0 + 32, high(acc[i]));
        });
        return;
    }
    const Epilogue<Out> out = r.out.of_group(t.group, r.group_stride);
    unroll<8>([&](auto i) {
        if (row0 + i >= r.rows) return;
        store_epilogue<F>(out, row0 + i, col0, low(acc[i]));
        store_epilogue<F>(out, row0 + i, col0 + 32, high(acc[i]));
    });
}

// Adds up the partial sums, one thread for 4 columns of a row; and one thread for each row sum.
template <EpilogueOp F, class Out>
__global__ void reduce_partials_kernel(SplitKOutput<Out> r) {
    const int group = blockIdx.y, quads = r.partial_ld() / 4;
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < int64_t(r.rows) * quads) {
        const int row = static_cast<int>(i / quads), col = static_cast<int>(i % quads) * 4;
        const float* from = r.partial(group, 0) + int64_t(row) * r.partial_ld() + col;
        Vec<4> sum = load<4>(from);
        for (int s = 1; s < r.split.splits; ++s) sum = sum + load<4>(from + s * r.partial_size());
        store_epilogue<F>(r.out.of_group(group, r.group_stride), row, col, sum);
    }
    if (r.row_sums && i < r.rows) {
        float sum = 0;
        for (int s = 0; s < r.split.splits; ++s) sum += r.partial_row_sums(group, s)[i];
        r.row_sums[group * r.rows + i] = sum;
    }
}

template <EpilogueOp F = EpilogueOp::plain, class Out>
void reduce_partials(const char* name, const SplitKOutput<Out>& r, cudaStream_t stream) {
    if (!r.split.uses_workspace()) return;
    const int64_t threads = int64_t(r.rows) * (r.partial_ld() / 4);
    launch(name, {dim3(static_cast<unsigned>(ceil_div(threads, 256)), r.groups), dim3(256), stream},
           reduce_partials_kernel<F, Out>, r);
}

}  // namespace wt
