// Exchange between workers that are threads of one process. GPUs that reach each other's memory
// read it in place; else parts go through page-locked host memory, posted by a copy down and
// collected by a copy up.
//
// The wait for a peer is twofold: the host thread waits until the peer has *submitted* its post (an
// event must be recorded before another stream can wait for it), the stream waits until it is
// *done*.
#pragma once

#include <condition_variable>
#include <mutex>
#include <vector>

#include "host/cuda/buffer.h"
#include "host/cuda/stream.h"
#include "host/parallel/exchange.h"
#include "host/parallel/packing.h"

namespace wt {

// What the workers of a job share.
class Mailbox {
public:
    // `through_host`: between different GPUs everything goes through the host's memory.
    Mailbox(int workers, bool through_host)
        : workers_(workers), through_host_(through_host), devices_(workers, -1) {}
    void abort();

private:
    friend class PeerExchange;
    struct Entry {
        long posted = 0;     // times this rank posted
        long collected = 0;  // times this rank collected
        const std::byte* block = nullptr;
        Event done;
        std::vector<PackedBlock>
            packed_blocks;             // through the host: this rank's parts for other devices
        PinnedBuffer<std::byte> host;  // where they are packed
    };
    const int workers_;
    const bool through_host_;
    std::vector<int> devices_;
    std::vector<std::vector<Entry>> entries_;  // [transfer][rank]
    std::mutex mutex_;
    std::condition_variable changed_;
    int open_ = 0;  // ranks that are
    bool aborted_ = false;
};

class PeerExchange : public Exchange {
public:
    PeerExchange(Mailbox& mailbox, int rank)
        : Exchange(rank, mailbox.workers_), mailbox_(mailbox) {}
    bool packed() const override { return mailbox_.through_host_; }
    void open(int device, std::vector<Transfer> transfers,
              void* staging) override;  // waits for all ranks
    void post(int t, const void* block, cudaStream_t stream) override;
    std::vector<PeerView> collect(int t, cudaStream_t stream) override;
    void abort() override { mailbox_.abort(); }

private:
    bool same_device(int other) const {
        return mailbox_.devices_[other] == mailbox_.devices_[rank_];
    }
    void wait_until(std::unique_lock<std::mutex>& lock, const auto& condition);

    Mailbox& mailbox_;
    std::vector<cudaStream_t> posted_on_;  // by transfer: where this rank's last post was
    std::vector<std::vector<long>>
        waited_;  // [group][rank]: which post of the group this one has waited for last
};

}  // namespace wt
