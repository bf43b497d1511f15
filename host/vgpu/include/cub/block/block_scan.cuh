// cub::BlockScan for virtual GPUs: thread 0 scans between two barriers. TempStorage may be used
// again after a barrier.
#pragma once

#include "vgpu/reduce.h"

namespace cub {

enum BlockScanAlgorithm { BLOCK_SCAN_RAKING, BLOCK_SCAN_RAKING_MEMOIZE, BLOCK_SCAN_WARP_SCANS };

template <class T, int BlockX, BlockScanAlgorithm = BLOCK_SCAN_RAKING, int BlockY = 1,
          int BlockZ = 1>
class BlockScan {
    static constexpr int kThreads = BlockX * BlockY * BlockZ;

public:
    struct TempStorage {
        T value[kThreads];
        T total;
    };

    explicit BlockScan(TempStorage& storage) : storage_(storage) {}

    template <class Op>
    void InclusiveScan(T in, T& out, Op op, T& total, vgpu::Site site = vgpu::Site::current()) {
        const unsigned t = scan(in, op, site);
        out = storage_.value[t];
        total = storage_.total;
    }
    template <class Op>
    void InclusiveScan(T in, T& out, Op op, vgpu::Site site = vgpu::Site::current()) {
        T total;
        InclusiveScan(in, out, op, total, site);
    }
    // out of thread 0 is `initial`; total does not include it.
    template <class Op>
    void ExclusiveScan(T in, T& out, T initial, Op op, T& total,
                       vgpu::Site site = vgpu::Site::current()) {
        const unsigned t = scan(in, op, site);
        out = t ? op(initial, storage_.value[t - 1]) : initial;
        total = storage_.total;
    }
    template <class Op>
    void ExclusiveScan(T in, T& out, T initial, Op op, vgpu::Site site = vgpu::Site::current()) {
        T total;
        ExclusiveScan(in, out, initial, op, total, site);
    }
    void InclusiveSum(T in, T& out, vgpu::Site site = vgpu::Site::current()) {
        InclusiveScan(in, out, vgpu::plus, site);
    }
    void InclusiveSum(T in, T& out, T& total, vgpu::Site site = vgpu::Site::current()) {
        InclusiveScan(in, out, vgpu::plus, total, site);
    }
    void ExclusiveSum(T in, T& out, vgpu::Site site = vgpu::Site::current()) {
        ExclusiveScan(in, out, T{}, vgpu::plus, site);
    }
    void ExclusiveSum(T in, T& out, T& total, vgpu::Site site = vgpu::Site::current()) {
        ExclusiveScan(in, out, T{}, vgpu::plus, total, site);
    }

private:
    template <class Op>
    unsigned scan(T in, Op op, vgpu::Site site) {
        vgpu::expect_block(BlockX, BlockY, BlockZ, site);
        const unsigned t = vgpu::linear_thread();
        storage_.value[t] = in;
        __syncthreads(site);
        if (t == 0) {
            for (int i = 1; i < kThreads; ++i)
                storage_.value[i] = op(storage_.value[i - 1], storage_.value[i]);
            storage_.total = storage_.value[kThreads - 1];
        }
        __syncthreads(site);
        return t;
    }

    TempStorage& storage_;
};

}  // namespace cub
