// Where workers leave word for each other: "my block for this exchange lies here, and is complete
// when this event is". One board per job, one slot per exchange of a step.
//
// The wait for a peer is twofold: the host thread waits until the peer has *submitted* its post (an
// event must be recorded before another stream can wait for it), the stream waits until it is *done*.
// When a worker fails, abort() frees the others: they throw Aborted.
#pragma once

#include <condition_variable>
#include <mutex>
#include <vector>

#include "host/cuda/stream.h"

namespace wt {

struct Aborted : Error {
    Aborted() : Error("stopped: another worker failed") {}
};

class Board {
public:
    Board(int workers, int slots);

    // The events of a rank live on its device: called once by each rank's thread before use.
    void join(int rank, int device);

    // `data` may be read by peers once all work put on `stream` so far is done.
    void post(int rank, int slot, const void* data, cudaStream_t stream);

    // Every rank's block of the next post of `slot` that this rank has not collected yet, in rank order;
    // work put on `stream` from here on runs after them.
    std::vector<const void*> collect(int rank, int slot, cudaStream_t stream);

    void abort();
    int workers() const { return workers_; }

private:
    struct Entry {
        long posted = 0;     // times this rank posted
        long collected = 0;  // times this rank collected from all
        const void* data = nullptr;
        Event done;
    };
    Entry& entry(int rank, int slot) { return entries_[size_t(slot) * workers_ + rank]; }

    const int workers_, slots_;
    std::vector<Entry> entries_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool aborted_ = false;
};

}  // namespace wt
