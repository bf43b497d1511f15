#include "host/parallel/exchange_peer.h"

#include <algorithm>

#include "host/parallel/waits.h"

namespace wt {

void Mailbox::abort() {
    std::lock_guard lock(mutex_);
    aborted_ = true;
    changed_.notify_all();
}

void PeerExchange::wait_until(std::unique_lock<std::mutex>& lock, const auto& condition) {
    mailbox_.changed_.wait(lock, [&] { return mailbox_.aborted_ || condition(); });
    if (mailbox_.aborted_) throw Aborted();
}

void PeerExchange::open(int device, std::vector<Transfer> transfers, void* staging) {
    keep(std::move(transfers), staging);
    for (const Transfer& t : transfers_)
        if (t.group >= static_cast<int>(waited_.size()))
            waited_.resize(t.group + 1, std::vector<long>(ranks_));
    posted_on_.resize(transfers_.size());
    std::unique_lock lock(mailbox_.mutex_);
    if (mailbox_.entries_.empty()) {
        mailbox_.entries_.resize(transfers_.size());
        for (auto& e : mailbox_.entries_) e = std::vector<Mailbox::Entry>(ranks_);
    }
    mailbox_.devices_[rank_] = device;
    for (size_t t = 0; t < transfers_.size(); ++t) mailbox_.entries_[t][rank_].done = Event(device);
    ++mailbox_.open_;
    mailbox_.changed_.notify_all();
    wait_until(lock, [&] { return mailbox_.open_ == ranks_; });
    if (!packed()) return;
    for (size_t t = 0; t < transfers_.size(); ++t) {
        Mailbox::Entry& e = mailbox_.entries_[t][rank_];
        size_t size = 0;
        e.packed_blocks = packed_blocks(transfers_[t], rank_, true, size);
        std::erase_if(e.packed_blocks, [&](const PackedBlock& p) {
            return std::ranges::all_of(p.to, [&](int to) { return same_device(to); });
        });
        if (!e.packed_blocks.empty()) e.host = PinnedBuffer<std::byte>(size);
    }
}

void PeerExchange::post(int t, const void* block, cudaStream_t stream) {
    const Transfer& transfer = transfers_[t];
    Mailbox::Entry& e = mailbox_.entries_[t][rank_];
    for (const PackedBlock& p : e.packed_blocks)
        pack(e.host.data() + p.at, block, p.part, cudaMemcpyDeviceToHost, stream);
    posted_on_[t] = stream;
    e.done.record(stream);  // before the count: a collector must find the new record
    bytes_sent_ += static_cast<int64_t>(transfer.bytes_from(rank_));
    std::lock_guard lock(mailbox_.mutex_);
    e.block = static_cast<const std::byte*>(block);
    ++e.posted;
    mailbox_.changed_.notify_all();
}

std::vector<PeerView> PeerExchange::collect(int t, cudaStream_t stream) {
    const Transfer& transfer = transfers_[t];
    std::vector<PeerView> views(ranks_);
    const long want = ++mailbox_.entries_[t][rank_].collected;
    for (int from = 0; from < ranks_; ++from) {
        const bool read = transfer.moves(from, rank_);
        if (!read && !(transfer.barrier && from != rank_)) continue;
        Mailbox::Entry& e = mailbox_.entries_[t][from];
        const std::byte* block = nullptr;
        {
            std::unique_lock lock(mailbox_.mutex_);
            wait_until(lock, [&] { return e.posted >= want; });
            block = e.block;
        }
        // Parts that are packed are complete at their own post, not at the first one of the group.
        const bool known = from == rank_ ? posted_on_[t] == stream
                                         : !packed() && transfer.group >= 0 &&
                                               waited_[transfer.group][from] == want;
        if (!known)
            wait_for(stream, e.done,
                     {.rank = rank_, .what = transfer.name.c_str(), .number = t, .from = from});
        if (transfer.group >= 0) waited_[transfer.group][from] = want;
        if (!read) continue;
        const BlockSlice& p = transfer.part(from, rank_);
        if (!packed()) {
            views[from] = {block + p.offset, p.pitch};
            continue;
        }
        std::byte* const to = staged(t, from);
        if (same_device(from)) {
            pack(to, block, p, cudaMemcpyDeviceToDevice, stream);
        } else {
            const auto packed = std::ranges::find_if(e.packed_blocks, [&](const PackedBlock& o) {
                return std::ranges::count(o.to, rank_) > 0;
            });
            WT_CUDA(cudaMemcpyAsync(to, e.host.data() + packed->at, p.bytes(),
                                    cudaMemcpyHostToDevice, stream));
        }
        views[from] = {to, p.row_bytes};
    }
    return views;
}

}  // namespace wt
