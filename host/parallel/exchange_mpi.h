// The exchange over MPI: parts are packed into page-locked memory, sent, and copied into the
// reader's staging memory.
//
// A thread of its own starts a part's messages once it is packed, and takes what comes in, while
// the worker's thread submits further work. A receive is posted again as soon as its buffer has
// been read, so a peer that is ahead need not wait for us to get as far as collect.
//
// Nothing can deadlock: collect blocks the host until the parts are there, so all that a post
// depends on has been submitted before it and needs no further message, and the messages of a post
// that is complete go out whatever the worker's thread does.
#pragma once

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "host/cuda/buffer.h"
#include "host/cuda/stream.h"
#include "host/parallel/exchange.h"
#include "host/parallel/team_mpi.h"
#include "host/parallel/packing.h"

namespace wt {

class MpiExchange : public Exchange {
public:
    // `chunk`: bytes of a message; a longer part is several.
    explicit MpiExchange(MpiTeam& team, size_t chunk = size_t(1) << 30);
    ~MpiExchange() override;
    MpiExchange(const MpiExchange&) = delete;
    MpiExchange& operator=(const MpiExchange&) = delete;

    bool packed() const override { return true; }
    void open(int device, std::vector<Transfer> transfers, void* staging) override;
    void post(int t, const void* block, cudaStream_t stream) override;
    std::vector<PeerView> collect(int t, cudaStream_t stream) override;
    void abort() override;

private:
    struct Slot {
        std::vector<PackedBlock> packed_blocks;
        const void* block = nullptr;
        Event ready;               // the block is complete
        Event packed;              // outgoing_ holds its parts
        Event unpacked;            // incoming_ has been read
        int leaving = 0;           // messages of the last post that have not gone out
        std::vector<int> missing;  // messages of the next part, by rank that it comes from
    };
    struct Message {
        int slot, from;  // from: -1 for one that leaves
    };

    void serve();
    bool advance();
    void send(int t);
    void receive(int t);
    bool test_messages();
    bool is_done(const Event& e) const;
    template <class F>
    void each_chunk(size_t bytes, F&& f) const;
    void throw_if_stopped() const;

    MpiTeam& team_;
    const size_t chunk_;
    int device_ = 0;
    PinnedBuffer<std::byte> outgoing_, incoming_;
    std::vector<Slot> slots_;
    Stream side_;    // packs, so that the posting stream goes on
    Event drained_;  // all posts so far are packed
    int last_barrier_ = -1;

    std::mutex mutex_;  // of what follows, and of Slot::leaving and missing
    std::condition_variable changed_;
    std::vector<int> packing_, unpacking_;  // slots whose event is not done
    bool waiting_ = false;                  // the worker's thread is in collect or post
    bool stop_ = false, aborted_ = false;
    std::exception_ptr failure_;

    std::vector<MPI_Request> requests_;  // under team_.mpi(), and the thread's alone
    std::vector<Message> messages_;      // what each request is
    std::thread thread_;
};

}  // namespace wt
