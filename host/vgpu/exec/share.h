// Getting along with other programs on the same cores.
//
// The threads that run a step's kernels wait for each other a hundred times a step. Two things make
// such a program slow beside others, far below the share of the cores that its threads have.
// OpenMP's threads spin while they wait, and so use up their turns on nothing; and a thread that
// another waits for gets its next turn only when the others' long ones are over. Here they sleep
// instead, and ask for short turns (0.1 ms, Linux 6.12 or later): a thread that wakes is then let
// in at once, as long as it has had no more than its share. What that gains: profiling/busy.py,
// profiling/results/cpu-2-cores-2026-11-28. Alone it costs nothing that could be measured.
#pragma once

namespace vgpu {

// To be called first in main. Where neither OMP_WAIT_POLICY nor GOMP_SPINCOUNT is set, sets the
// former and starts the program again in its place: libgomp has read it before main begins.
void share_cores(char** argv);

}  // namespace vgpu
