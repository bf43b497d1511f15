// The exchange over NCCL, which MPI has introduced to each other: everything is ordered by streams,
// the host waits for nothing.
//
// A post is one group of sends and receives, on a stream of its own: what this rank sends, and what
// it gets of everybody's block in the same transfer, straight into its staging memory. NCCL runs
// the groups of a communicator one after another; as every rank posts all transfers in the same
// order, nobody waits for a group that comes later elsewhere. So every rank must post every
// transfer, with a null block where it gives nothing.
#pragma once

#include <nccl.h>

#include <mutex>

#include "host/cuda/buffer.h"
#include "host/cuda/stream.h"
#include "host/parallel/exchange.h"
#include "host/parallel/team_mpi.h"
#include "host/parallel/packing.h"

namespace wt {

class NcclExchange : public Exchange {
public:
    explicit NcclExchange(MpiTeam& team);
    ~NcclExchange() override;
    NcclExchange(const NcclExchange&) = delete;
    NcclExchange& operator=(const NcclExchange&) = delete;

    bool packed() const override { return true; }
    void open(int device, std::vector<Transfer> transfers, void* staging) override;
    void post(int t, const void* block, cudaStream_t stream) override;
    std::vector<PeerView> collect(int t, cudaStream_t stream) override;
    void abort() override;

private:
    struct Slot {
        std::vector<PackedBlock> packed_blocks;
        const void* block = nullptr;
        Event ready;  // the block is complete
        Event done;   // sent and received
    };

    std::string trouble();
    void try_ring(int device);

    MpiTeam& team_;
    DeviceBuffer<std::byte> outgoing_;
    std::vector<Slot> slots_;
    Stream side_;
    Event drained_;
    int last_barrier_ = -1;

    std::mutex mutex_;  // of the next two
    ncclComm_t comm_ = nullptr;
    bool aborted_ = false;
};

}  // namespace wt
