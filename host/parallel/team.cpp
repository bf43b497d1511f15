#include "host/parallel/team.h"

#include <cstdlib>

#ifdef WT_MPI
#include "host/parallel/team_mpi.h"
#endif

namespace wt {

namespace {

// The first of the variables that is a number: Open MPI's, then those of PMI launchers (srun).
int number_of(std::initializer_list<const char*> names) {
    for (const char* name : names)
        if (const char* s = std::getenv(name); s && *s) return std::atoi(s);
    return -1;
}

}  // namespace

int launched_ranks() { return number_of({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}); }
int launched_rank() { return number_of({"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"}); }

std::unique_ptr<Team> join_team(const TeamOptions& options) {
#ifndef WT_MPI
    throw UsageError(
        "--comm " + options.comm +
        ": this build has no MPI: run make deps (or apt install libopenmpi-dev openmpi-bin), then make");
#else
#ifndef WT_NCCL
    if (options.comm == "nccl")
#ifdef VGPU
        throw UsageError(
            "--comm nccl: NCCL moves data between real GPUs, this build is for virtual ones: use --comm mpi");
#else
        throw UsageError("--comm nccl: this build has no NCCL: install libnccl-dev, then make");
#endif
#endif
    // MPI would start without a launcher too, or end the program with a page of text.
    if (launched_rank() < 0)
        throw UsageError("--comm " + options.comm +
                         ": no launcher has started this: mpirun -np 2 bin/train --comm " +
                         options.comm + " ...");
    return std::make_unique<MpiTeam>(options);
#endif
}

}  // namespace wt
