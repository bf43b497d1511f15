#include "host/parallel/exchange_nccl.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "host/parallel/watchdog.h"

namespace wt {

namespace {

void check_nccl(ncclResult_t r, const char* what) {
    if (r != ncclSuccess)
        throw Error(std::string("NCCL: ") + ncclGetErrorString(r) + " in " + what +
                    " (NCCL_DEBUG=INFO tells more)");
}

}  // namespace

NcclExchange::NcclExchange(MpiTeam& team) : Exchange(team.rank(), team.ranks()), team_(team) {}

NcclExchange::~NcclExchange() {
    team_.watch({});
    std::lock_guard lock(mutex_);
    if (!comm_) return;
    // Destroying waits for what is under way, which after a failure may never end.
    if (aborted_ || std::uncaught_exceptions() > 0) {
        ncclCommAbort(comm_);
    } else {
        cudaStreamSynchronize(side_.get());
        ncclCommDestroy(comm_);
    }
}

void NcclExchange::open(int device, std::vector<Transfer> transfers, void* staging) {
    keep(std::move(transfers), staging);
    WT_CUDA(cudaSetDevice(device));
    side_ = Stream(device), drained_ = Event(device);
    size_t outgoing = 0;
    for (const Transfer& t : transfers_) {
        Slot s;
        s.ready = Event(device), s.done = Event(device);
        s.packed_blocks = packed_blocks(t, rank_, false, outgoing);
        slots_.push_back(std::move(s));
    }
    outgoing_ = DeviceBuffer<std::byte>(device, outgoing, "parts to send");
    if (!team_.links().peer) setenv("NCCL_P2P_DISABLE", "1", /*overwrite=*/1);
    ncclUniqueId id{};
    if (rank_ == 0) check_nccl(ncclGetUniqueId(&id), "ncclGetUniqueId");
    const std::string everywhere = team_.broadcast(std::string(id.internal, sizeof id.internal));
    std::copy(everywhere.begin(), everywhere.end(), id.internal);
    check_nccl(ncclCommInitRank(&comm_, ranks_, id, rank_), "ncclCommInitRank");
    team_.watch([this] { return trouble(); });
    try_ring(device);
    bytes_sent_ = 0;
}

// The first messages open NCCL's connections. Where peer access is reported and hangs, they never
// arrive, and no call says so.
void NcclExchange::try_ring(int device) {
    if (ranks_ < 2) return;
    const int next = (rank_ + 1) % ranks_, previous = (rank_ + ranks_ - 1) % ranks_;
    DeviceBuffer<int> out(device, 1, "trial of links"), in(device, 1, "trial of links");
    team_.barrier();  // nobody's time runs while another still starts
    Watchdog watchdog(team_.links().limit_s,
                      [this](const std::string& what) { team_.fail(what, 1); });
    char limit[32];
    std::snprintf(limit, sizeof limit, "%g s", team_.links().limit_s);
    const std::string silence = "NCCL's first messages from rank " + std::to_string(previous) +
                                " and to rank " + std::to_string(next) + " have not arrived in " +
                                limit + " (--peer-limit): ";
    watchdog.expect(silence + (team_.links().peer
                                   ? "usually peer access that is reported and hangs, because of "
                                     "the IOMMU or of PCIe ACS; give --peer off"
                                   : "NCCL_DEBUG=INFO tells more"));
    check_nccl(ncclGroupStart(), "ncclGroupStart");
    check_nccl(ncclSend(out.data(), 1, ncclInt32, next, comm_, side_.get()), "ncclSend");
    check_nccl(ncclRecv(in.data(), 1, ncclInt32, previous, comm_, side_.get()), "ncclRecv");
    check_nccl(ncclGroupEnd(), "ncclGroupEnd");
    side_.synchronize();
}

// What NCCL's own threads have met, such as a connection that broke. Called from the job's pulse
// thread.
std::string NcclExchange::trouble() {
    std::unique_lock lock(
        mutex_,
        std::try_to_lock);  // a post may be waiting for a peer: the job must go on being watched
    ncclResult_t state = ncclSuccess;
    if (!lock || !comm_ || aborted_ || ncclCommGetAsyncError(comm_, &state) != ncclSuccess)
        return {};
    if (state == ncclSuccess || state == ncclInProgress) return {};
    return std::string("NCCL lost a rank or its connection: ") + ncclGetErrorString(state);
}

void NcclExchange::post(int t, const void* block, cudaStream_t stream) {
    Slot& s = slots_[t];
    const Transfer& transfer = transfers_[t];
    s.block = block;
    s.ready.record(stream);
    if (transfer.barrier) {
        last_barrier_ = t;
        return;
    }
    side_.wait(s.ready);
    // The staging memory has readers until the end of the step before.
    if (last_barrier_ >= 0) side_.wait(slots_[last_barrier_].ready);
    for (const PackedBlock& o : s.packed_blocks)
        if (!lies_packed(o.part))
            pack(outgoing_.data() + o.at, block, o.part, cudaMemcpyDeviceToDevice, side_.get());
    {
        std::lock_guard lock(mutex_);
        if (aborted_) throw Aborted();
        check_nccl(ncclGroupStart(), "ncclGroupStart");
        for (const PackedBlock& o : s.packed_blocks) {
            const void* from = lies_packed(o.part)
                                   ? static_cast<const std::byte*>(block) + o.part.offset
                                   : outgoing_.data() + o.at;
            for (const int to : o.to) {
                check_nccl(ncclSend(from, o.part.bytes(), ncclInt8, to, comm_, side_.get()),
                           "ncclSend");
                bytes_sent_ += static_cast<int64_t>(o.part.bytes());
            }
        }
        for (int from = 0; from < ranks_; ++from) {
            if (from == rank_ || !transfer.moves(from, rank_)) continue;
            check_nccl(ncclRecv(staged(t, from), transfer.part(from, rank_).bytes(), ncclInt8, from,
                                comm_, side_.get()),
                       "ncclRecv");
        }
        check_nccl(ncclGroupEnd(), "ncclGroupEnd");
    }
    s.done.record(side_.get());
}

std::vector<PeerView> NcclExchange::collect(int t, cudaStream_t stream) {
    Slot& s = slots_[t];
    const Transfer& transfer = transfers_[t];
    std::vector<PeerView> views(ranks_);
    {
        std::lock_guard lock(mutex_);
        if (aborted_) throw Aborted();
    }
    const auto wait_for = [&](const Event& e) { WT_CUDA(cudaStreamWaitEvent(stream, e.get(), 0)); };
    wait_for(s.ready);
    if (transfer.barrier) {  // blocks may be written again once they have been sent
        drained_.record(side_.get());
        wait_for(drained_);
        return views;
    }
    wait_for(s.done);
    for (int from = 0; from < ranks_; ++from) {
        if (!transfer.moves(from, rank_)) continue;
        const BlockSlice& p = transfer.part(from, rank_);
        std::byte* const to = staged(t, from);
        views[from] = {to, p.row_bytes};
        if (from != rank_) continue;
        if (lies_packed(p))
            views[from].data = static_cast<const std::byte*>(s.block) + p.offset;
        else
            pack(to, s.block, p, cudaMemcpyDeviceToDevice, stream);
    }
    return views;
}

void NcclExchange::abort() {
    std::lock_guard lock(mutex_);
    if (aborted_ || !comm_) return;
    aborted_ = true;
    ncclCommAbort(comm_);  // frees whatever waits on the GPU
    comm_ = nullptr;
}

}  // namespace wt
