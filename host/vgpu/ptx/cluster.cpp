// Clusters (PTX 9.7.13.3, 9.7.9.23) and dependent launches. The blocks of a cluster run on one
// core, their threads starting one block after another, each with shared memory of its own.
//
// Diagnosed: an operation on the shared memory of a block that has not started or has exited;
// halves of the barrier out of turn. A pointer into another block's memory is an ordinary one here:
// used after that block has exited it faults, before that block has started it reads and writes
// what that block then overwrites.
#include <sys/mman.h>

#include "host/vgpu/exec/core.h"
#include "vgpu/ptx.h"

#ifdef VGPU_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace vgpu {
namespace {

[[noreturn, gnu::cold, gnu::noinline]] void refuse(Core& core, const char* what, const char* why,
                                                   Site site) {
    note_failure(core, 719, std::string(what) + " at " + describe_site(site) + ": " + why);
    abandon(core);
}

[[noreturn, gnu::cold, gnu::noinline]] void refuse_block(Core& core, unsigned rank,
                                                         const char* what, const char* why,
                                                         Site site) {
    note_failure(core, 719,
                 std::string(what) + " at " + describe_site(site) + ": block " +
                     std::to_string(rank) + " of its cluster of " + std::to_string(core.cluster) +
                     ' ' + why);
    abandon(core);
}

void unshield([[maybe_unused]] Core& core, Block& b) {
    if (!b.shielded) return;
    b.shielded = false;
#ifdef VGPU_ASAN
    ASAN_UNPOISON_MEMORY_REGION(b.shared, core.grid->shared);
#else
    mprotect(b.shared, kSharedMax, PROT_READ | PROT_WRITE);
#endif
}

}  // namespace

uint32_t cluster_rank() { return context.core->block->rank; }
uint32_t cluster_size() { return context.core->cluster; }

Block& block_of_cluster(Core& core, unsigned rank, const char* what, Site site) {
    if (rank >= core.cluster) [[unlikely]]
        refuse_block(core, rank, what, "does not exist", site);
    Block& b = *core.blocks[rank];
    if (core.cluster > 1 && !b.started) [[unlikely]]
        refuse_block(core, rank, what,
                     "has not started: its shared memory may be used after a cluster barrier",
                     site);
    if (core.cluster > 1 && b.exited) [[unlikely]]
        refuse_block(core, rank, what, "has exited: a cluster barrier keeps its shared memory",
                     site);
    return b;
}

void shield(Core& core, Block& b) {
    if (!core.grid->shared) return;
    b.shielded = true;
#ifdef VGPU_ASAN
    ASAN_POISON_MEMORY_REGION(b.shared, core.grid->shared);
#else
    mprotect(b.shared, (core.grid->shared + 4095) / 4096 * 4096, PROT_NONE);
#endif
}

void expect_waited(Core& core) {
    if (!core.block->arrived[linear_thread()]) return;
    note_failure(core, 719, "the thread has returned after cluster_arrive without cluster_wait");
    abandon(core);
}

// Only once every thread has started is it known how many there are.
void settle_cluster_barrier(Core& core) {
    ClusterBarrier& b = core.cluster_barrier;
    if (core.unstarted || !b.arrived || b.arrived != core.live) return;
    if (core.races) core.races->complete_cluster();
    b.phase ^= 1;
    b.arrived = 0;
    ++core.progress;
    release(core, b.waiting);
}

void cluster_arrive(Site site, bool relaxed) {
    Core& core = *context.core;
    uint8_t& mine = core.block->arrived[linear_thread()];
    if (mine) [[unlikely]]
        refuse(core, "cluster_arrive", "the thread has arrived before and not waited since", site);
    mine = static_cast<uint8_t>(1 + core.cluster_barrier.phase);
    ++core.cluster_barrier.arrived;
    ++core.cluster_barrier.between;
    if (core.races) core.races->arrive_cluster(relaxed ? Races::Hands::reads : Races::Hands::all);
    own_fiber(core);  // it will wait; and its return can be seen
    settle_cluster_barrier(core);
}

void cluster_wait(Site site) {
    Core& core = *context.core;
    uint8_t& mine = core.block->arrived[linear_thread()];
    if (!mine) [[unlikely]]
        refuse(core, "cluster_wait", "the thread has not arrived (cluster_arrive)", site);
    const bool over = mine != 1 + core.cluster_barrier.phase;
    mine = 0;
    --core.cluster_barrier.between;
    if (!over) wait_in(core, core.cluster_barrier.waiting, {Wait::cluster, 0, 0, site});
    if (core.races) core.races->waited_cluster();
}

void end_cluster(Core& core) {
    for (unsigned r = 0; r < core.cluster; ++r) unshield(core, *core.blocks[r]);
}

void forget_cluster(Core& core) {
    for (auto& b : core.blocks) {
        unshield(core, *b);
        std::fill(std::begin(b->arrived), std::end(b->arrived), 0);
    }
    core.cluster_barrier = {};
}

uint32_t map_shared(const void* shared, uint32_t rank) {
    Core& core = *context.core;
    if (rank >= core.cluster)
        refuse_block(core, rank, "map_shared", "does not exist", Site::current());
    return rank << 24 | shared_address(shared);
}

void* map_shared_pointer(const void* shared, uint32_t rank) {
    Core& core = *context.core;
    const uint32_t offset = shared_address(shared);
    if (rank >= core.cluster)
        refuse_block(core, rank, "map_shared_pointer", "does not exist", Site::current());
    core.reaches_out = true;
    return core.blocks[rank]->shared + offset;
}

static void arrive_remotely(uint32_t address, Races::Hands hands, const char* what, Site site) {
    Core& core = *context.core;
    Block& b = block_of_cluster(core, address >> 24, what, site);
    // A release at a block's scope is a whole one where it is that block's own barrier.
    if (core.races)
        core.races->arrive(b, address & 0xffffff, &b == core.block ? Races::Hands::all : hands);
    arrive_on(core, b, reinterpret_cast<uint64_t*>(b.shared + (address & 0xffffff)), what, site);
}
void mbarrier_arrive_cluster(uint32_t address, Site site) {
    arrive_remotely(address, Races::Hands::all, "mbarrier_arrive_cluster", site);
}
void mbarrier_arrive_cluster_read(uint32_t address, Site site) {
    arrive_remotely(address, Races::Hands::reads, "mbarrier_arrive_cluster_read", site);
}

// A later start is always legal. Waits are counted: a kernel launched as dependent needs one in
// every thread.
void griddep_wait() {
    Core& core = *context.core;
    ++core.waits;
    if (core.races) core.races->griddep_waited();
}
void griddep_launch_dependents() {}

}  // namespace vgpu
