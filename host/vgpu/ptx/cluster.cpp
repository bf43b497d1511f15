// Clusters (PTX 9.7.13.3, 9.7.9.23) and dependent launches. The blocks of a cluster run on one worker, their threads
// starting one block after another, each with shared memory of its own.
//
// Diagnosed: an operation on the shared memory of a block that has not started or has exited; halves of the barrier out
// of turn. A pointer into another block's memory is an ordinary one here: used after that block has exited it faults,
// before that block has started it reads and writes what that block then overwrites.
#include <sys/mman.h>

#include "host/vgpu/exec/core.h"
#include "vgpu/ptx.h"

#ifdef VGPU_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace vgpu {
namespace {

[[noreturn, gnu::cold, gnu::noinline]] void refuse(Worker& w, const char* what, const char* why, Site site) {
    note_failure(w, 719, std::string(what) + " at " + describe_site(site) + ": " + why);
    abandon(w);
}

[[noreturn, gnu::cold, gnu::noinline]] void refuse_block(Worker& w, unsigned rank, const char* what, const char* why, Site site) {
    note_failure(w, 719, std::string(what) + " at " + describe_site(site) + ": block " + std::to_string(rank) + " of its cluster of " +
                             std::to_string(w.cluster) + ' ' + why);
    abandon(w);
}

void unshield([[maybe_unused]] Worker& w, Block& b) {
    if (!b.shielded) return;
    b.shielded = false;
#ifdef VGPU_ASAN
    ASAN_UNPOISON_MEMORY_REGION(b.shared, w.grid->shared);
#else
    mprotect(b.shared, kSharedMax, PROT_READ | PROT_WRITE);
#endif
}

}  // namespace

uint32_t cluster_rank() { return context.worker->block->rank; }
uint32_t cluster_size() { return context.worker->cluster; }

Block& block_of_cluster(Worker& w, unsigned rank, const char* what, Site site) {
    if (rank >= w.cluster) [[unlikely]] refuse_block(w, rank, what, "does not exist", site);
    Block& b = *w.blocks[rank];
    if (w.cluster > 1 && !b.started) [[unlikely]]
        refuse_block(w, rank, what, "has not started: its shared memory may be used after a cluster barrier", site);
    if (w.cluster > 1 && b.exited) [[unlikely]]
        refuse_block(w, rank, what, "has exited: a cluster barrier keeps its shared memory", site);
    return b;
}

void shield(Worker& w, Block& b) {
    if (!w.grid->shared) return;
    b.shielded = true;
#ifdef VGPU_ASAN
    ASAN_POISON_MEMORY_REGION(b.shared, w.grid->shared);
#else
    mprotect(b.shared, (w.grid->shared + 4095) / 4096 * 4096, PROT_NONE);
#endif
}

void expect_waited(Worker& w) {
    if (!w.block->arrived[linear_thread()]) return;
    note_failure(w, 719, "the thread has returned after cluster_arrive without cluster_wait");
    abandon(w);
}

// Only once every thread has started is it known how many there are.
void settle_cluster_barrier(Worker& w) {
    ClusterBarrier& b = w.cluster_barrier;
    if (w.unstarted || !b.arrived || b.arrived != w.live) return;
    if (w.races) w.races->complete_cluster();
    b.phase ^= 1;
    b.arrived = 0;
    ++w.progress;
    release(w, b.waiting);
}

void cluster_arrive(Site site, bool relaxed) {
    Worker& w = *context.worker;
    uint8_t& mine = w.block->arrived[linear_thread()];
    if (mine) [[unlikely]]
        refuse(w, "cluster_arrive", "the thread has arrived before and not waited since", site);
    mine = static_cast<uint8_t>(1 + w.cluster_barrier.phase);
    ++w.cluster_barrier.arrived;
    ++w.cluster_barrier.between;
    if (w.races && !relaxed) w.races->arrive_cluster();
    own_fiber(w);  // it will wait; and its return can be seen
    settle_cluster_barrier(w);
}

void cluster_wait(Site site) {
    Worker& w = *context.worker;
    uint8_t& mine = w.block->arrived[linear_thread()];
    if (!mine) [[unlikely]]
        refuse(w, "cluster_wait", "the thread has not arrived (cluster_arrive)", site);
    const bool over = mine != 1 + w.cluster_barrier.phase;
    mine = 0;
    --w.cluster_barrier.between;
    if (!over) wait_in(w, w.cluster_barrier.waiting, {Wait::cluster, 0, 0, site});
    if (w.races) w.races->waited_cluster();
}

void end_cluster(Worker& w) {
    for (unsigned r = 0; r < w.cluster; ++r) unshield(w, *w.blocks[r]);
}

void forget_cluster(Worker& w) {
    for (auto& b : w.blocks) {
        unshield(w, *b);
        std::fill(std::begin(b->arrived), std::end(b->arrived), 0);
    }
    w.cluster_barrier = {};
}

uint32_t map_shared(const void* shared, uint32_t rank) {
    Worker& w = *context.worker;
    if (rank >= w.cluster) refuse_block(w, rank, "map_shared", "does not exist", Site::current());
    return rank << 24 | shared_address(shared);
}

void* map_shared_pointer(const void* shared, uint32_t rank) {
    Worker& w = *context.worker;
    const uint32_t offset = shared_address(shared);
    if (rank >= w.cluster) refuse_block(w, rank, "map_shared_pointer", "does not exist", Site::current());
    w.reaches_out = true;
    return w.blocks[rank]->shared + offset;
}

void mbarrier_arrive_cluster(uint32_t address, Site site) {
    Worker& w = *context.worker;
    Block& b = block_of_cluster(w, address >> 24, "mbarrier_arrive_cluster", site);
    if (w.races) w.races->arrive(b, address & 0xffffff);
    arrive_on(w, b, reinterpret_cast<uint64_t*>(b.shared + (address & 0xffffff)), "mbarrier_arrive_cluster", site);
}

// A later start is always legal. Waits are counted: a kernel launched as dependent needs one in every thread.
void griddep_wait() {
    Worker& w = *context.worker;
    ++w.waits;
    if (w.races) w.races->griddep_waited();
}
void griddep_launch_dependents() {}

}  // namespace vgpu
