#include "host/parallel/job.h"

#include <cstdlib>

#ifdef WT_MPI
#include "host/parallel/job_mpi.h"
#endif

namespace wt {

namespace {

// The first of the variables that is a number: Open MPI's, then those of PMI launchers (srun).
int number_of(std::initializer_list<const char*> names, int otherwise) {
    for (const char* name : names)
        if (const char* s = std::getenv(name); s && *s) return std::atoi(s);
    return otherwise;
}

}  // namespace

int launched_ranks() { return number_of({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}, 1); }
int launched_rank() { return number_of({"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"}, 0); }

std::unique_ptr<Job> join_job(const JobOptions& options) {
#ifndef WT_MPI
    throw UsageError("--comm " + options.comm + ": this build has no MPI: run make deps (or apt install libopenmpi-dev openmpi-bin), then make");
#else
#ifndef WT_NCCL
    if (options.comm == "nccl")
#ifdef VGPU
        throw UsageError("--comm nccl: NCCL moves data between real GPUs, this build is for virtual ones: use --comm mpi");
#else
        throw UsageError("--comm nccl: this build has no NCCL: install libnccl-dev, then make");
#endif
#endif
    return std::make_unique<MpiJob>(options);
#endif
}

}  // namespace wt
