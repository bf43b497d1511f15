// Clusters (PTX 9.7.13.3) and dependent launches.
#include "host/vgpu/executor.h"
#include "vgpu/ptx.h"

namespace vgpu {

uint32_t cluster_rank() { return context.worker->block->rank; }
uint32_t cluster_size() { return context.worker->cluster; }

Block& block_of_cluster(Worker& w, unsigned rank, const char* what, Site site) {
    if (rank >= w.cluster) [[unlikely]] {
        note_failure(w, 719, std::string(what) + " at " + describe_site(site) + ": block " + std::to_string(rank) + " of a cluster of " + std::to_string(w.cluster));
        abandon(w);
    }
    return *w.blocks[rank];
}

// A later start is always legal.
void griddep_wait() {}
void griddep_launch_dependents() {}

}  // namespace vgpu
