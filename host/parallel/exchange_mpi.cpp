#include "host/parallel/exchange_mpi.h"

#include <algorithm>

namespace wt {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

MpiExchange::MpiExchange(MpiTeam& team, size_t chunk)
    : Exchange(team.rank(), team.ranks()), team_(team), chunk_(chunk) {}

MpiExchange::~MpiExchange() {
    if (!thread_.joinable()) return;
    {
        // What we have posted, others may still be waiting for; but not after a failure.
        std::unique_lock lock(mutex_);
        aborted_ = aborted_ || std::uncaught_exceptions() > 0;
        waiting_ = true;
        changed_.notify_all();
        changed_.wait_for(lock, 10s, [&] {
            return aborted_ || failure_ ||
                   std::all_of(slots_.begin(), slots_.end(),
                               [](const Slot& s) { return s.leaving == 0; });
        });
        stop_ = true;
        changed_.notify_all();
    }
    thread_.join();
    bool left_over = false;
    {
        std::lock_guard lock(team_.mpi());
        for (size_t i = 0; i < requests_.size(); ++i) {
            left_over = left_over || messages_[i].from < 0;
            if (messages_[i].from >= 0)
                MPI_Cancel(&requests_[i]), MPI_Wait(&requests_[i], MPI_STATUS_IGNORE);
        }
    }
    if (left_over)
        // MPI may read it until the process ends
        new PinnedBuffer<std::byte>(std::move(outgoing_));
}

template <class F>
void MpiExchange::each_chunk(size_t bytes, F&& f) const {
    for (size_t at = 0; at < bytes; at += chunk_)
        f(at, static_cast<int>(std::min(chunk_, bytes - at)));
}

void MpiExchange::open(int device, std::vector<Transfer> transfers, void* staging) {
    device_ = device;
    keep(std::move(transfers), staging);
    WT_CUDA(cudaSetDevice(device));
    side_ = Stream(device), drained_ = Event(device);
    size_t outgoing = 0;
    for (const Transfer& t : transfers_) {
        Slot s;
        s.ready = Event(device);
        s.packed = Event(device);
        s.unpacked = Event(device);
        s.missing.resize(ranks_);
        s.packed_blocks = packed_blocks(t, rank_, true, outgoing);
        slots_.push_back(std::move(s));
    }
    outgoing_ = PinnedBuffer<std::byte>(outgoing);
    incoming_ = PinnedBuffer<std::byte>(offsets_.back());
    team_.barrier();  // nobody's messages reach an exchange before this one
    for (size_t t = 0; t < slots_.size(); ++t) receive(static_cast<int>(t));
    bytes_sent_ = 0;
    thread_ = std::thread([this] { serve(); });
}

void MpiExchange::throw_if_stopped() const {
    if (failure_) std::rethrow_exception(failure_);
    if (aborted_) throw Aborted();
}

// ---- the worker's thread ------------------------------------------------------------------------

void MpiExchange::post(int t, const void* block, cudaStream_t stream) {
    Slot& s = slots_[t];
    {
        std::unique_lock lock(mutex_);  // outgoing_ still holds the parts of the post before
        waiting_ = true;
        changed_.wait(lock, [&] { return s.leaving == 0 || aborted_ || failure_; });
        waiting_ = false;
        throw_if_stopped();
    }
    s.block = block;
    s.ready.record(stream);
    if (transfers_[t].barrier) last_barrier_ = t;
    if (s.packed_blocks.empty()) return;
    side_.wait(s.ready);
    int messages = 0;
    for (const PackedBlock& o : s.packed_blocks) {
        pack(outgoing_.data() + o.at, block, o.part, cudaMemcpyDeviceToHost, side_.get());
        each_chunk(o.part.bytes(), [&](size_t, int n) {
            messages += static_cast<int>(o.to.size());
            bytes_sent_ += int64_t(n) * static_cast<int64_t>(o.to.size());
        });
    }
    s.packed.record(side_.get());
    std::lock_guard lock(mutex_);
    s.leaving = messages;
    packing_.push_back(t);
    changed_.notify_all();
}

std::vector<PeerView> MpiExchange::collect(int t, cudaStream_t stream) {
    Slot& s = slots_[t];
    const Transfer& transfer = transfers_[t];
    std::vector<PeerView> views(ranks_);
    const auto wait_for = [&](const Event& e) { WT_CUDA(cudaStreamWaitEvent(stream, e.get(), 0)); };
    if (transfer.barrier) {
        // Peers read copies. What must not be written yet is what has not been packed here.
        throw_if_stopped();
        drained_.record(side_.get());
        wait_for(drained_);
        wait_for(s.ready);
        return views;
    }
    // The staging memory has readers until the end of the step before, wherever they run.
    if (last_barrier_ >= 0) wait_for(slots_[last_barrier_].ready);
    bool any = false;
    for (int from = 0; from < ranks_; ++from) {
        if (!transfer.moves(from, rank_)) continue;
        const BlockSlice& p = transfer.part(from, rank_);
        views[from] = {staged(t, from), p.row_bytes};
        if (from == rank_) {
            wait_for(s.ready);
            if (lies_packed(p))
                // as good as packed
                views[from].data = static_cast<const std::byte*>(s.block) + p.offset;
            else
                pack(staged(t, from), s.block, p, cudaMemcpyDeviceToDevice, stream);
            continue;
        }
        const auto start = Clock::now();
        for (std::unique_lock lock(mutex_);;) {
            throw_if_stopped();
            if (s.missing[from] == 0) break;
            if (!waiting_) waiting_ = true, changed_.notify_all();
            const bool here = changed_.wait_for(
                lock, 100us, [&] { return s.missing[from] == 0 || aborted_ || failure_; });
            if (here) continue;
            lock.unlock();
            // Finds failed kernels; and virtual GPUs, whose work runs when somebody asks for it, go
            // on meanwhile.
            const cudaError_t e = cudaStreamQuery(stream);
            if (e != cudaErrorNotReady)
                WT_CUDA(e);
            else
                cudaGetLastError();
            const double limit = team_.options().stuck_after;
            if (limit > 0 && std::chrono::duration<double>(Clock::now() - start).count() > limit)
                team_.stuck(from, "'" + transfer.name + "'");
            lock.lock();
        }
        WT_CUDA(cudaMemcpyAsync(staged(t, from), incoming_.data() + offset(t, from), p.bytes(),
                                cudaMemcpyHostToDevice, stream));
        any = true;
    }
    if (any) s.unpacked.record(stream);
    std::lock_guard lock(mutex_);
    waiting_ = false;
    if (any) {
        // Not to be taken for there already by the next collect.
        for (int from = 0; from < ranks_; ++from)
            if (from != rank_ && transfer.moves(from, rank_)) s.missing[from] = 1;
        unpacking_.push_back(t);
        changed_.notify_all();
    }
    return views;
}

void MpiExchange::abort() {
    std::lock_guard lock(mutex_);
    aborted_ = true;
    changed_.notify_all();
}

// ---- the thread of messages ---------------------------------------------------------------------

void MpiExchange::serve() {
    try {
        WT_CUDA(cudaSetDevice(device_));
        auto pause = 20us;
        for (;;) {
            {
                std::unique_lock lock(mutex_);
                if (stop_ || aborted_) return;
            }
            const bool moved = advance();
            std::unique_lock lock(mutex_);
            if (moved) changed_.notify_all();
            const bool leaving = std::any_of(slots_.begin(), slots_.end(),
                                             [](const Slot& s) { return s.leaving > 0; });
            // MPI moves data only while it is called. Where nobody waits that may be seldom.
            const auto longest = waiting_ || leaving ? 50us : 500us;
            pause = moved ? 20us : std::min<std::chrono::microseconds>(2 * pause, longest);
            const size_t known = packing_.size() + unpacking_.size() + waiting_;
            changed_.wait_for(lock, pause, [&] {
                return stop_ || aborted_ || packing_.size() + unpacking_.size() + waiting_ != known;
            });
        }
    } catch (...) {
        std::lock_guard lock(mutex_);
        failure_ = std::current_exception();
        changed_.notify_all();
    }
}

bool MpiExchange::is_done(const Event& e) const {
    const cudaError_t result = cudaEventQuery(e.get());
    if (result == cudaErrorNotReady) {
        cudaGetLastError();
        return false;
    }
    WT_CUDA(result);
    return true;
}

// Returns whether anything has moved.
bool MpiExchange::advance() {
    bool moved = false;
    std::vector<int> packing, unpacking;
    {
        std::lock_guard lock(mutex_);
        packing = packing_, unpacking = unpacking_;
    }
    for (const int t : packing)
        if (is_done(slots_[t].packed)) {
            send(t);
            std::lock_guard lock(mutex_);
            std::erase(packing_, t);
            moved = true;
        }
    for (const int t : unpacking)
        if (is_done(slots_[t].unpacked)) {
            receive(t);
            std::lock_guard lock(mutex_);
            std::erase(unpacking_, t);
            moved = true;
        }
    return test_messages() || moved;
}

void MpiExchange::send(int t) {
    std::lock_guard lock(team_.mpi());
    for (const PackedBlock& o : slots_[t].packed_blocks)
        each_chunk(o.part.bytes(), [&](size_t at, int n) {
            for (const int to : o.to) {
                requests_.emplace_back();
                messages_.push_back({t, -1});
                team_.check(MPI_Isend(outgoing_.data() + o.at + at, n, MPI_BYTE, to, t,
                                      team_.data(), &requests_.back()));
            }
        });
}

void MpiExchange::receive(int t) {
    if (transfers_[t].barrier) return;
    std::scoped_lock lock(mutex_, team_.mpi());
    for (int from = 0; from < ranks_; ++from) {
        slots_[t].missing[from] = 0;
        if (from == rank_ || !transfers_[t].moves(from, rank_)) continue;
        std::byte* to = incoming_.data() + offset(t, from);
        each_chunk(transfers_[t].part(from, rank_).bytes(), [&](size_t at, int n) {
            requests_.emplace_back();
            messages_.push_back({t, from});
            ++slots_[t].missing[from];
            team_.check(MPI_Irecv(to + at, n, MPI_BYTE, from, t, team_.data(), &requests_.back()));
        });
    }
}

bool MpiExchange::test_messages() {
    if (requests_.empty()) return false;
    std::vector<int> done(requests_.size());
    int count = 0;
    {
        std::lock_guard lock(team_.mpi());
        team_.check(MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count,
                                 done.data(), MPI_STATUSES_IGNORE));
    }
    if (count <= 0) return false;
    done.resize(count);
    std::lock_guard lock(mutex_);
    for (const int i : done) {
        const Message m = messages_[i];
        m.from < 0 ? --slots_[m.slot].leaving : --slots_[m.slot].missing[m.from];
        messages_[i].slot = -1;
    }
    size_t kept = 0;
    for (size_t i = 0; i < requests_.size(); ++i)
        if (messages_[i].slot >= 0)
            requests_[kept] = requests_[i], messages_[kept++] = messages_[i];
    requests_.resize(kept), messages_.resize(kept);
    return true;
}

}  // namespace wt
