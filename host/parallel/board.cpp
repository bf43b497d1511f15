#include "host/parallel/board.h"

namespace wt {

Board::Board(int workers, int slots) : workers_(workers), slots_(slots), entries_(size_t(workers) * slots) {}

void Board::join(int rank, int device) {
    for (int s = 0; s < slots_; ++s) entry(rank, s).done = Event(device);
}

void Board::post(int rank, int slot, const void* data, cudaStream_t stream) {
    Entry& e = entry(rank, slot);
    e.done.record(stream);  // before the count: a collector must find the new record
    std::lock_guard lock(mutex_);
    e.data = data;
    ++e.posted;
    changed_.notify_all();
}

std::vector<const void*> Board::collect(int rank, int slot, cudaStream_t stream) {
    std::vector<const void*> blocks(workers_);
    const long want = ++entry(rank, slot).collected;
    for (int r = 0; r < workers_; ++r) {
        Entry& e = entry(r, slot);
        {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [&] { return aborted_ || e.posted >= want; });
            if (aborted_) throw Aborted();
            blocks[r] = e.data;
        }
        WT_CUDA(cudaStreamWaitEvent(stream, e.done.get(), 0));
    }
    return blocks;
}

void Board::abort() {
    std::lock_guard lock(mutex_);
    aborted_ = true;
    changed_.notify_all();
}

}  // namespace wt
