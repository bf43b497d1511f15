// How many clusters of a kernel's blocks a GPU runs at the same time.
#pragma once

#include "kernels/launch.h"

namespace wt {

// Clusters of shape.cluster blocks of a kernel, one block an SM, that run at once on the current
// device; the grid of `shape` does not matter. It is not SMs / cluster: a cluster stays within a
// part of the chip (GPC), and how many SMs these have differs from die to die. Of 132 SMs there may
// be 32 clusters of 4, or 31 or 29. So the device is asked (cudaOccupancyMaxActiveClusters), once
// for each kernel, shared memory and cluster. Pairs alone could be counted: SMs come in pairs. At
// most planned_sms() / cluster, which is also what is taken where the device does not answer. 0:
// such a cluster does not fit.
int clusters_at_once(LaunchShape shape, const void* kernel);

}  // namespace wt
