#include "host/parallel/exchange_peer.h"

#include "host/parallel/waits.h"

namespace wt {

void Board::abort() {
    std::lock_guard lock(mutex_);
    aborted_ = true;
    changed_.notify_all();
}

void PeerExchange::wait_until(std::unique_lock<std::mutex>& lock, const auto& condition) {
    board_.changed_.wait(lock, [&] { return board_.aborted_ || condition(); });
    if (board_.aborted_) throw Aborted();
}

void PeerExchange::open(int device, std::vector<Transfer> transfers, void* staging) {
    transfers_ = std::move(transfers);
    staging_ = static_cast<std::byte*>(staging);
    if (packed()) offsets_ = staging_offsets(transfers_, rank_);
    for (const Transfer& t : transfers_)
        if (t.group >= static_cast<int>(waited_.size())) waited_.resize(t.group + 1, std::vector<long>(ranks_));
    posted_on_.resize(transfers_.size());
    std::unique_lock lock(board_.mutex_);
    if (board_.entries_.empty()) {
        board_.entries_.resize(transfers_.size());
        for (auto& e : board_.entries_) e = std::vector<Board::Entry>(ranks_);
    }
    board_.devices_[rank_] = device;
    for (size_t t = 0; t < transfers_.size(); ++t) board_.entries_[t][rank_].done = Event(device);
    ++board_.open_;
    board_.changed_.notify_all();
    wait_until(lock, [&] { return board_.open_ == ranks_; });
    if (!packed()) return;
    for (size_t t = 0; t < transfers_.size(); ++t) {
        Board::Entry& e = board_.entries_[t][rank_];
        e.host_offset.resize(ranks_);
        size_t size = 0;
        for (int to = 0; to < ranks_; ++to) {
            const Region& p = transfers_[t].part(rank_, to);
            if (!p || same_device(to)) continue;
            int twin = 0;
            while (twin < to && (same_device(twin) || transfers_[t].part(rank_, twin).offset != p.offset || transfers_[t].part(rank_, twin).bytes() != p.bytes())) ++twin;
            e.host_offset[to] = twin < to ? e.host_offset[twin] : size;
            if (twin == to) size += p.bytes();
        }
        if (size) e.host = PinnedBuffer<std::byte>(size);
    }
}

void PeerExchange::post(int t, const void* block, cudaStream_t stream) {
    const Transfer& transfer = transfers_[t];
    Board::Entry& e = board_.entries_[t][rank_];
    if (packed() && e.host.size()) {
        size_t copied = 0;
        for (int to = 0; to < ranks_; ++to) {
            const Region& p = transfer.part(rank_, to);
            if (!p || same_device(to) || e.host_offset[to] < copied) continue;
            WT_CUDA(cudaMemcpy2DAsync(e.host.data() + e.host_offset[to], p.row_bytes, static_cast<const std::byte*>(block) + p.offset, p.pitch, p.row_bytes,
                                      p.rows, cudaMemcpyDeviceToHost, stream));
            copied = e.host_offset[to] + p.bytes();
        }
    }
    posted_on_[t] = stream;
    e.done.record(stream);  // before the count: a collector must find the new record
    bytes_sent_ += static_cast<int64_t>(transfer.bytes_from(rank_));
    std::lock_guard lock(board_.mutex_);
    e.block = static_cast<const std::byte*>(block);
    ++e.posted;
    board_.changed_.notify_all();
}

std::vector<View> PeerExchange::collect(int t, cudaStream_t stream) {
    const Transfer& transfer = transfers_[t];
    std::vector<View> views(ranks_);
    const long want = ++board_.entries_[t][rank_].collected;
    for (int from = 0; from < ranks_; ++from) {
        const bool read = transfer.moves(from, rank_);
        if (!read && !(transfer.barrier && from != rank_)) continue;
        Board::Entry& e = board_.entries_[t][from];
        const std::byte* block = nullptr;
        {
            std::unique_lock lock(board_.mutex_);
            wait_until(lock, [&] { return e.posted >= want; });
            block = e.block;
        }
        const bool known = from == rank_ ? posted_on_[t] == stream : transfer.group >= 0 && waited_[transfer.group][from] == want;
        if (!known) wait_for(stream, e.done, {rank_, transfer.name.c_str(), t, from});
        if (transfer.group >= 0) waited_[transfer.group][from] = want;
        if (!read) continue;
        const Region& p = transfer.part(from, rank_);
        if (!packed()) {
            views[from] = {block + p.offset, p.pitch};
            continue;
        }
        std::byte* to = staging_ + offsets_[size_t(t) * ranks_ + from];
        if (same_device(from))
            WT_CUDA(cudaMemcpy2DAsync(to, p.row_bytes, block + p.offset, p.pitch, p.row_bytes, p.rows, cudaMemcpyDeviceToDevice, stream));
        else
            WT_CUDA(cudaMemcpyAsync(to, e.host.data() + e.host_offset[rank_], p.bytes(), cudaMemcpyHostToDevice, stream));
        views[from] = {to, p.row_bytes};
    }
    return views;
}

}  // namespace wt
