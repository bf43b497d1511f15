// What workers exchange in a step. A step has a fixed list of transfers, the same on every rank
// (all-gathers and reduce-scatters, by reading). In each, a rank posts a block ("mine lies here,
// and is complete once the work put on this stream so far is done") and collects from every rank's
// block the part that it needs. Between GPUs that reach each other's memory nothing is moved by
// that: a part is read where it lies, by the kernel that needs it. Over messages, or through the
// host's memory, parts are packed, sent and left in staging memory, and the same kernels read them
// there.
//
//   exchange_peer.h   workers are threads of one process: peer memory, or page-locked host memory
//   exchange_mpi.h    one process a worker, over MPI
//   exchange_nccl.h   one process a worker, over NCCL, with MPI as launcher
//
// Every rank must post and collect its transfers in the same order: collect may block the host
// until the peers have got as far as their post. After abort() it throws Aborted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <cuda_runtime.h>

#include "host/cuda/check.h"

namespace wt {

struct Aborted : Error {
    Aborted() : Error("stopped: another worker failed") {}
};

// The part of the block that one rank posts which another reads: `rows` of `row_bytes` each,
// `pitch` bytes from one to the next.
struct BlockSlice {
    size_t offset = 0;  // bytes from the start of the block
    int64_t rows = 0;   // 0: nothing
    size_t row_bytes = 0, pitch = 0;
    size_t bytes() const { return static_cast<size_t>(rows) * row_bytes; }
    explicit operator bool() const { return bytes() > 0; }
};

// A part as its reader finds it. All views that one collect returns have one pitch.
struct PeerView {
    const void* data = nullptr;  // null: nothing from that rank
    size_t pitch = 0;
};

struct Transfer {
    std::string name;
    int ranks = 1;
    std::vector<BlockSlice> parts;  // [from * ranks + to]
    // collect returns the rank's own part too, where it is read like the others
    bool own = false;
    // nothing moves; whoever collects goes on when everybody's post is complete
    bool barrier = false;
    // Transfers of one group, other than -1, are posted in a row on one stream: who has waited for
    // one post of a rank on a stream need not wait for another there, where blocks are read in
    // place: all of them are complete before the first post.
    int group = -1;

    Transfer() = default;
    Transfer(std::string n, int r)
        : name(std::move(n)), ranks(r), parts(static_cast<size_t>(r) * r) {}
    BlockSlice& part(int from, int to) { return parts[static_cast<size_t>(from) * ranks + to]; }
    const BlockSlice& part(int from, int to) const {
        return parts[static_cast<size_t>(from) * ranks + to];
    }
    // Whether `to` gets a view of `from`'s part.
    bool moves(int from, int to) const { return part(from, to) && (from != to || own); }
    size_t bytes_from(int rank) const;  // that leave it for other ranks
};

// Where the packed parts of a transfer lie in a rank's staging memory: each at a multiple of 256
// bytes, transfer by transfer, rank by rank. offsets[t * ranks + from]; the last entry is the size
// of it all.
std::vector<size_t> staging_offsets(const std::vector<Transfer>& transfers, int rank);

// One rank's end of it. Belongs to the worker's thread, but for abort().
class Exchange {
public:
    Exchange(int rank, int ranks) : rank_(rank), ranks_(ranks) {}
    virtual ~Exchange() = default;
    int rank() const { return rank_; }
    int ranks() const { return ranks_; }

    // Whether parts come packed, into staging memory (pitch == row_bytes), or are read in place
    // (pitch as posted).
    virtual bool packed() const = 0;

    // Once, before the first post. `staging`: device memory of staging_offsets().back() bytes; null
    // unless packed().
    virtual void open(int device, std::vector<Transfer> transfers, void* staging) = 0;

    // The block of this rank for transfer t is at `block` once all work put on `stream` so far is
    // done. It must not be written again before all who read it have posted something later that
    // this rank has collected.
    virtual void post(int t, const void* block, cudaStream_t stream) = 0;

    // A view of every rank's part for this one, by rank; work put on `stream` from here on finds
    // them complete. They last until this rank's next post of the transfer, on whatever stream:
    // what reads them must come before that.
    virtual std::vector<PeerView> collect(int t, cudaStream_t stream) = 0;

    // Frees everybody who waits in collect; from any thread.
    virtual void abort() = 0;

    int64_t bytes_sent() const { return bytes_sent_; }  // to other ranks, since open

protected:
    void keep(std::vector<Transfer> transfers, void* staging) {
        transfers_ = std::move(transfers);
        staging_ = static_cast<std::byte*>(staging);
        offsets_ = staging_offsets(transfers_, rank_);
    }
    size_t offset(int t, int from) const {
        return offsets_[static_cast<size_t>(t) * ranks_ + from];
    }
    std::byte* staged(int t, int from) const { return staging_ + offset(t, from); }

    const int rank_, ranks_;
    int64_t bytes_sent_ = 0;
    std::vector<Transfer> transfers_;
    std::vector<size_t> offsets_;  // staging_offsets of this rank
    std::byte* staging_ = nullptr;
};

}  // namespace wt
