// A circular pipeline of stages in shared memory between one thread that starts asynchronous copies
// (the producer) and warpgroups that multiply what arrives (the consumers). Each stage has two
// mbarriers: `full`, on which the copies complete, and `empty`, on which the readers say that they
// are done. Nobody else waits: copies for the next tiles are under way while the last products, and
// the epilogue, of this one run.
//
// A PipelineState (as in CUTLASS) says which stage is next and in which phase its barriers are. A
// producer starts with parity 1: a fresh barrier lets that pass, since all stages of a fresh
// pipeline are free.
//
// Where blocks of a cluster copy parts of an operand to each other (multicast), a stage is free
// when the readers of all these blocks are done with it, because each producer writes into all of
// them: `empty` counts the warps of all of them, and a reader arrives at the barrier of each.
// `full` is each block's own: it expects all its bytes, whoever sends them.
#pragma once

#include "kernels/ptx/cluster.h"
#include "kernels/ptx/mbarrier.h"
#include "kernels/ptx/warp.h"

namespace wt {

template <int kStages>
struct Pipeline {
    ptx::Mbarrier full[kStages], empty[kStages];

    // One thread; then fence_mbarrier_init and a barrier of the block, or of the cluster where
    // blocks share. `releases`: arrivals that free a stage, one from each warp that reads it in
    // each block of the multicast.
    __device__ __forceinline__ void init(uint32_t releases) {
        for (int s = 0; s < kStages; ++s) {
            ptx::mbarrier_init(full[s], 1);
            ptx::mbarrier_init(empty[s], releases);
        }
    }
};

template <int kStages>
struct PipelineState {
    int stage = 0;
    uint32_t parity = 0;
    __device__ __forceinline__ void advance() {
        if (++stage == kStages) stage = 0, parity ^= 1;
    }
    __device__ __forceinline__ void skip(int stages) {
        stage += stages;
        parity ^= stage / kStages & 1;
        stage %= kStages;
    }
};

// The one thread that copies.
template <int kStages>
struct PipelineProducer {
    Pipeline<kStages>& pipeline;
    PipelineState<kStages> state{0, 1};

    // The next stage: waits until its readers are done; `bytes` will arrive on the barrier that
    // comes back. Then advance.
    __device__ __forceinline__ ptx::Mbarrier& producer_acquire(uint32_t bytes) {
        ptx::mbarrier_wait(pipeline.empty[state.stage], state.parity);
        ptx::mbarrier_arrive_expect_tx(pipeline.full[state.stage], bytes);
        return pipeline.full[state.stage];
    }
    __device__ __forceinline__ int stage() const { return state.stage; }
    __device__ __forceinline__ void advance() { state.advance(); }
};

// Each thread of a warp that reads.
template <int kStages>
struct PipelineConsumer {
    Pipeline<kStages>& pipeline;
    // Producers of `multicast` blocks fill this block's stages: ranks first_rank, first_rank + 1,
    // ... of the cluster.
    int multicast = 1, first_rank = 0;
    PipelineState<kStages> state{};

    __device__ __forceinline__ void consumer_wait() const {
        ptx::mbarrier_wait(pipeline.full[state.stage], state.parity);
    }
    __device__ __forceinline__ int stage() const { return state.stage; }
    __device__ __forceinline__ void advance() { state.advance(); }
    // Past stages that another consumer reads. Only when that one has waited for them all: a parity
    // tells two phases apart, not three.
    __device__ __forceinline__ void skip(int stages) { state.skip(stages); }

    // This warp has read a stage; all its lanes call. One lane arrives for each block of the
    // multicast. Nothing written is handed over, so no fence is paid for: with one, each stage
    // would wait for a round trip to the L2 cache between its products and its release.
    __device__ __forceinline__ void consumer_release(int stage) const {
        const uint32_t lane = threadIdx.x % 32;
        if (multicast == 1) {
            if (lane == 0) ptx::mbarrier_arrive(pipeline.empty[stage]);
        } else if (lane < static_cast<uint32_t>(multicast)) {
            ptx::mbarrier_arrive_cluster_read(
                ptx::map_shared(&pipeline.empty[stage], first_rank + lane));
        }
    }
};

}  // namespace wt
