// cub::BlockReduce for virtual GPUs: one barrier, then thread 0 reduces. As on hardware the result
// is thread 0's only (the others get all ones, a NaN, so that a use of theirs shows), and
// TempStorage may be used again after a barrier.
#pragma once

#include "vgpu/reduce.h"

namespace cub {

enum BlockReduceAlgorithm {
    BLOCK_REDUCE_RAKING_COMMUTATIVE_ONLY,
    BLOCK_REDUCE_RAKING,
    BLOCK_REDUCE_WARP_REDUCTIONS
};

template <class T, int BlockX, BlockReduceAlgorithm = BLOCK_REDUCE_WARP_REDUCTIONS, int BlockY = 1,
          int BlockZ = 1>
class BlockReduce {
    static constexpr int kThreads = BlockX * BlockY * BlockZ;

public:
    struct TempStorage {
        T value[kThreads];
    };

    explicit BlockReduce(TempStorage& storage) : storage_(storage) {}

    // Of the first `valid` threads' values.
    template <class Op>
    T Reduce(const T& v, Op op, int valid, vgpu::Site site = vgpu::Site::current()) {
        vgpu::expect_block(BlockX, BlockY, BlockZ, site);
        const unsigned t = vgpu::linear_thread();
        storage_.value[t] = v;
        __syncthreads(site);
        return t == 0 ? vgpu::reduce_in_warps(storage_.value, valid, op) : vgpu::all_ones<T>();
    }
    template <class Op>
    T Reduce(const T& v, Op op, vgpu::Site site = vgpu::Site::current()) {
        return Reduce(v, op, kThreads, site);
    }
    template <class Op, int N>
    T Reduce(T (&v)[N], Op op, vgpu::Site site = vgpu::Site::current()) {
        return Reduce(vgpu::fold(v, op), op, kThreads, site);
    }
    T Sum(const T& v, vgpu::Site site = vgpu::Site::current()) {
        return Reduce(v, vgpu::plus, kThreads, site);
    }
    T Sum(const T& v, int valid, vgpu::Site site = vgpu::Site::current()) {
        return Reduce(v, vgpu::plus, valid, site);
    }
    template <int N>
    T Sum(T (&v)[N], vgpu::Site site = vgpu::Site::current()) {
        return Reduce(vgpu::fold(v, vgpu::plus), vgpu::plus, kThreads, site);
    }

private:
    TempStorage& storage_;
};

}  // namespace cub
