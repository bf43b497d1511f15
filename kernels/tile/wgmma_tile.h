// The parts of a matrix product on Hopper's tensor cores, shared by gemm and the convolutions: how
// operands lie in shared memory, how a block begins and ends, how its warpgroups share a tile, the
// loop over k, and where the sums are. How the operands get there is each kernel's own matter: gemm
// copies boxes of matrices (TMA tiled), convolutions columns of images (TMA im2col).
//
// A block is three warpgroups. Warpgroup 0 is the producer: one of its threads starts copies, far
// ahead, and needs few registers (setmaxnreg gives the rest away). Warpgroups 1 and 2 are
// consumers, of up to 128 registers of accumulators (64 x 256 or 128 x 128 fp32), which do nothing
// but wait for a stage and issue wgmma over it. Two groups of products are under way at any time: a
// stage is released when the one after it has been issued. Consumers share the work in two ways:
//   cooperative   each has half of a tile's rows: the biggest tiles, the least traffic
//   in turn       each has a tile of its own, and one multiplies while the other is busy with its
//                 results: for epilogues that take as long as the products
//                 (kernels/gemm/wgmma_sgd_sm90.cu; CUTLASS calls it ping-pong)
//
// A stage of 128 x 256 x 64 takes
//   the tensor cores  2^21 multiply-adds / 2048 = 1024 clocks (dense bf16 rate of an SM)
//   L2                (128 + 256) * 64 * 2 = 48 KB: 48 bytes a clock; 32 where a pair of blocks
//                     shares B
//   shared memory     the wgmmas read 2 * 4 * (64 + 256) * 16 * 2 = 80 KB: 80 of 128 bytes a clock
//
// Operand layouts, as TMA writes them and wgmma descriptors name them (kernels/ptx/wgmma.h): boxes
// of kSpan bytes by so many rows, one after the other, where kSpan is the swizzle. 128 bytes, 64
// bf16, is the rule; 64 and 32 serve channel counts that 64 does not divide: 96 = 3 boxes of 32, 48
// = 3 boxes of 16.
#pragma once

#include <concepts>
#include <cstring>

#include "kernels/common/vec.h"
#include "kernels/launch.h"
#include "kernels/ptx/cluster.h"
#include "kernels/ptx/griddep.h"
#include "kernels/ptx/warp.h"
#include "kernels/ptx/wgmma.h"
#include "kernels/tile/pipeline.h"

namespace wt {

enum class Major : uint8_t { k, mn };  // the dimension that is contiguous in memory

// A tile of kRows (of m or n) by kDepth (of k) bf16 in shared memory.
//   Major::k    boxes of kSpan / 2 elements of k, each with all kRows rows
//   Major::mn   boxes of kSpan / 2 elements of m or n, each with all kDepth rows
template <int kRows_, int kDepth_, Major kMajor_, int kSpan_ = 128>
struct SharedOperand {
    static constexpr int kRows = kRows_, kDepth = kDepth_, kSpan = kSpan_;
    static constexpr Major kMajor = kMajor_;
    static constexpr int kAcross = kSpan / 2;                          // elements of a box's row
    static constexpr int kDown = kMajor == Major::k ? kRows : kDepth;  // rows of a box
    static constexpr int kBoxes = (kMajor == Major::k ? kDepth : kRows) / kAcross;
    static constexpr int kBoxBytes = kDown * kSpan;
    static constexpr int kBytes = kBoxes * kBoxBytes;
    static_assert(kSpan == 128 || kSpan == 64 || kSpan == 32, "a swizzle of TMA and wgmma");
    static_assert((kMajor == Major::k ? kDepth : kRows) % kAcross == 0, "whole boxes");
    static_assert(kDepth % 16 == 0 && kDown % 8 == 0,
                  "whole products; boxes start where the swizzle's pattern does");

    // wgmma's descriptor of the rows from `first` on of the tile at `tile`, at k = 0. `first` is a
    // multiple of 8 (k-major) or of a box (mn-major).
    __device__ __forceinline__ static uint64_t descriptor(const uint8_t* tile, int first) {
        return ptx::wgmma_descriptor(tile + offset(first), kMajor == Major::k ? 16 : kBoxBytes,
                                     8 * kSpan, ptx::swizzle_of(kSpan));
    }
    __host__ __device__ static constexpr uint32_t offset(int first) {
        return kMajor == Major::k ? first * kSpan : first / kAcross * kBoxBytes;
    }
    // The bytes from k = 0 to k = 16 j.
    static constexpr uint32_t step(int j) {
        return kMajor == Major::mn ? j * 16 * kSpan : j * 32 / kSpan * kBoxBytes + j * 32 % kSpan;
    }
};

// Consumers compute BM x BN with operands A and B, from kStages stages. kConsumers share a tile: 2,
// or 1 where they take turns.
template <class A_, class B_, int kStages_, int kConsumers_ = 2>
struct WgmmaTile {
    using A = A_;
    using B = B_;
    static constexpr int BM = A::kRows, BN = B::kRows, BK = A::kDepth, kStages = kStages_;
    // warps that read a stage
    static constexpr int kThreads = 384, kConsumers = kConsumers_, kConsumerWarps = 4 * kConsumers;
    // 128 * (40 + 2 * 232) = 64,512 of 65,536
    static constexpr int kProducerRegisters = 40, kConsumerRegisters = 232;
    // wgmmas of 64 rows that a consumer issues for each 16 of k
    static constexpr int kHeight = BM / 64 / kConsumers;
    static_assert(A::kDepth == B::kDepth, "the same k");
    static_assert(kHeight >= 1 && kHeight * 64 * kConsumers == BM,
                  "64 rows, once or more, for each consumer");
    static_assert(kHeight * BN <= 256, "accumulators take at most 128 registers");

    struct alignas(1024) Stage {
        uint8_t a[A::kBytes];
        alignas(1024) uint8_t b[B::kBytes];
    };
    // bytes that arrive for a stage
    static constexpr uint32_t kStageBytes = A::kBytes + B::kBytes;

    // What a consumer's thread accumulates: acc[h] is its part of the 64 rows from row_of(consumer,
    // h) on, as wgmma lays them out (fragment_coord below). `consumer` is 0 or 1, and 0 where
    // consumers take turns.
    using Accumulators = float[kHeight][BN / 2];
    __host__ __device__ static constexpr int row_of(int consumer, int h) {
        return (consumer * kHeight + h) * 64;
    }

    // Where the operands of a stage's products lie (ptx::wgmma_bf16_tile).
    struct Steps {
        static constexpr int kHeight = WgmmaTile::kHeight, kCount = BK / 16;
        static constexpr uint32_t a(int h, int j) { return A::offset(h * 64) + A::step(j); }
        static constexpr uint32_t b(int j) { return B::step(j); }
    };
};

// ---- blocks and clusters ------------------------------------------------------------------------

// Blocks of a cluster that load B once for all of them (TMA multicast): one alone, or two
// neighbours along m.
constexpr int kMaxMulticast = 2;
static_assert(kMaxMulticast == 2,
              "copy_share halves operands, and multicast_mask names two blocks");

// Which blocks of the cluster a multicast copy goes to: `first_rank` and the one after it.
__host__ __device__ constexpr uint16_t multicast_mask(int first_rank = 0) {
    return static_cast<uint16_t>(3u << first_rank);
}

// A barrier of all threads of all blocks of the cluster.
__device__ __forceinline__ void cluster_sync() {
    ptx::cluster_arrive();
    ptx::cluster_wait();
}

// What a block begins with; all its threads call. init_barriers() is run by one thread, which also
// prefetches its tensor maps there: neither needs what the kernel before this one writes. In a
// cluster of several blocks it orders barriers only, not what threads have stored before.
template <class F>
__device__ __forceinline__ void begin_block(int cluster_size, F&& init_barriers) {
    if (threadIdx.x == 0) {
        init_barriers();
        ptx::fence_mbarrier_init();
    }
    if (cluster_size > 1) {
        // The others' barriers are ready, too: the fence has released them, the arrival need not.
        ptx::cluster_arrive_relaxed();
        ptx::cluster_wait();
    } else {
        __syncthreads();
    }
    ptx::griddep_wait();  // the kernel before this one is complete
}

// What a block ends with; all its threads call. No block leaves while another may still write into
// its shared memory, or tell it that a stage is free. Nothing is handed over: relaxed.
__device__ __forceinline__ void end_block(int cluster_size) {
    if (cluster_size > 1) {
        __syncwarp();
        ptx::cluster_arrive_relaxed();
        ptx::cluster_wait();
    }
}

// ---- warpgroups ---------------------------------------------------------------------------------

// 0 is the producer's warpgroup, 1 and 2 are consumers. The shuffle tells the compiler that it is
// the same in all of a warp.
__device__ __forceinline__ int warpgroup_index() {
    return __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0);
}

// The warp's number in the block, the same way.
__device__ __forceinline__ int warp_index() {
    return __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
}

// Numbers of named barriers (0 is __syncthreads); consumer 0 or 1 is added to the first two.
enum NamedBarrier : uint32_t {
    kBarrierWarpgroup = 1,
    kBarrierTurn = 3,
    kBarrierConsumers = 5,
    kBarrierLag = 6
};

// A barrier of the 128 threads of warpgroup 1 + `consumer`.
__device__ __forceinline__ void sync_warpgroup(int consumer) {
    ptx::bar_sync(kBarrierWarpgroup + consumer, 128);
}

// A barrier of `warpgroups` consumers: of all that share a tile.
template <int warpgroups = 2>
__device__ __forceinline__ void sync_consumers() {
    ptx::bar_sync(kBarrierConsumers, 128 * warpgroups);
}

// Consumers in turn: all threads of both call these. Consumer 1 passes the first turn, so that
// consumer 0 can run first.
__device__ __forceinline__ void pass_turn(int consumer) {
    ptx::bar_arrive(kBarrierTurn + 1 - consumer, 256);
}
__device__ __forceinline__ void await_turn(int consumer) {
    ptx::bar_sync(kBarrierTurn + consumer, 256);
}

// Of two consumers that share tiles, consumer 1 begins each tile `lag` stages behind consumer 0.
// When consumer 0 is done with a tile's products, consumer 1 has the tensor cores to itself for its
// last stages; and as long again has consumer 0, at the next tile, while consumer 1 is at its
// epilogue. So an epilogue costs the tensor cores less by what one consumer multiplies in `lag`
// stages: half of what both do. (At the same time, both would be in their epilogues at the same
// time.) Stages are held `lag` longer, so the copies are that much less ahead.
//
// Consumer 0 arrives when it has issued the products of stage lag - 1, which consumer 1 awaits: one
// named barrier, used again for each tile. It must not arrive for the next tile before that. It
// does not in tiles of at least kStages stages: stage lag - 1 of the next tile lies where stage lag
// - 1 + steps - kStages of this one did, which consumer 1 has released. A shorter tile has no lag.
class Lag {
public:
    // 0: none.
    __device__ __forceinline__ Lag(int lag, int consumer)
        : awaits_(lag > 0 && consumer == 1), last_(lag > 0 && consumer == 0 ? lag - 1 : -1) {}
    // Before the first stage of a tile.
    __device__ __forceinline__ void begin() const {
        if (awaits_) ptx::bar_sync(kBarrierLag, 256);
    }
    // When the products of stage `step` are issued.
    __device__ __forceinline__ void issued(int step) const {
        if (step == last_) ptx::bar_arrive(kBarrierLag, 256);
    }

private:
    bool awaits_;
    int last_;  // stage after which consumer 0 arrives; -1: none
};

// ---- the loop over k ----------------------------------------------------------------------------

// acc = A B of `steps` stages (at least 1) for one of the tile's consumers. `meanwhile(stage)` runs
// beside the products of each stage, before it is released: it may read the stage with ordinary
// loads (and then ends with __syncwarp). Both consumers have the same `lag` (Lag).
template <class Tile, class F>
requires std::invocable<F, int> __device__ __forceinline__ void multiply(
    const typename Tile::Stage* stages, PipelineConsumer<Tile::kStages>& pipeline, int consumer,
    int steps, typename Tile::Accumulators& acc, F&& meanwhile, int lag = 0) {
    using A = typename Tile::A;
    using B = typename Tile::B;
    const Lag behind(steps >= Tile::kStages ? lag : 0, consumer);
    behind.begin();
    int before = 0;  // the stage whose products may still be under way
    for (int step = 0; step < steps; ++step) {
        pipeline.consumer_wait();
        const typename Tile::Stage& stage = stages[pipeline.stage()];
        const uint64_t a = A::descriptor(stage.a, Tile::row_of(consumer, 0)),
                       b = B::descriptor(stage.b, 0);
        ptx::wgmma_fence();
        ptx::wgmma_bf16_tile<Tile::BN, A::kMajor == Major::mn, B::kMajor == Major::mn,
                             typename Tile::Steps>(acc, a, b, step > 0);
        ptx::wgmma_commit();
        behind.issued(step);
        meanwhile(pipeline.stage());
        ptx::wgmma_wait<1>();
        if (step > 0) pipeline.consumer_release(before);
        before = pipeline.stage();
        pipeline.advance();
    }
    ptx::wgmma_wait<0>();
    unroll<Tile::kHeight>([&](auto h) { ptx::wgmma_keep(acc[h]); });
    pipeline.consumer_release(before);
}
template <class Tile>
__device__ __forceinline__ void multiply(const typename Tile::Stage* stages,
                                         PipelineConsumer<Tile::kStages>& pipeline, int consumer,
                                         int steps, typename Tile::Accumulators& acc, int lag = 0) {
    multiply<Tile>(
        stages, pipeline, consumer, steps, acc, [](int) {}, lag);
}

// Calls copy(to, box, down) for each box of an operand that block `rank` of `multicast` (1 or 2)
// copies, so that all of them copy all of it; `down` is the row of the box that the copy starts at.
// A block alone copies every box whole. Two share k-major boxes in halves of their rows (the tensor
// map's box has kDown / multicast), and mn-major ones by turns.
template <class Operand, class F>
__device__ __forceinline__ void copy_share(uint8_t* tile, int rank, int multicast, F&& copy) {
    if constexpr (Operand::kMajor == Major::k) {
        const int down = multicast > 1 ? rank * (Operand::kDown / kMaxMulticast) : 0;
        for (int box = 0; box < Operand::kBoxes; ++box)
            copy(tile + box * Operand::kBoxBytes + down * Operand::kSpan, box, down);
    } else {
        for (int box = rank; box < Operand::kBoxes; box += multicast)
            copy(tile + box * Operand::kBoxBytes, box, 0);
    }
}

// ---- sums ---------------------------------------------------------------------------------------

// Where a thread's accumulators lie in 64 rows: element 4 j + i of wgmma's D is row `row` + 8 (i /
// 2), column 8 j + `col` + i % 2.
struct FragmentCoord {
    int row, col;
};
__device__ __forceinline__ FragmentCoord fragment_coord() {
    const int lane = threadIdx.x % 32;
    return {static_cast<int>(threadIdx.x) % 128 / 32 * 16 + lane / 4, lane % 4 * 2};
}

__device__ __forceinline__ Vec<2> pair_of(float a, float b) {
    Vec<2> v;
    v.set(0, a);
    v.set(1, b);
    return v;
}

__device__ __forceinline__ uint32_t pack_bf16(const Vec<2>& v) {
    const __nv_bfloat162 h = __floats2bfloat162_rn(v[0], v[1]);
    uint32_t bits;
    memcpy(&bits, &h, sizeof bits);
    return bits;
}

// The byte where the 16-byte unit `unit` of row `row` lies, in shared memory that TMA swizzles with
// kSpan bytes a row.
template <int kSpan>
__device__ __forceinline__ int swizzled(int row, int unit) {
    const int start = row * kSpan;
    return start + ((unit * 16) ^ ((start >> 7 & (kSpan / 16 - 1)) << 4));
}

// Which of a row's four groups of 8 floats (128 bytes, swizzled) a thread takes at its turn
// `group`: odd rows are two groups ahead. A half warp's pairs of 8 bytes are then on different
// banks; in the same order rows r and r + 1 would be on the same, since the swizzle exchanges their
// two units.
__device__ __forceinline__ int group_at_turn(int row, int group) { return group ^ row % 2 * 2; }

}  // namespace wt
