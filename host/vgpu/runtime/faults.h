// Faults of hardware that a virtual GPU can be told to have, so that tests meet what users of real
// ones have met: links between GPUs that hang or deliver something else, GPUs for which nothing was
// built, and GPUs with room for fewer clusters. Read from the environment, once.
#pragma once

#include <string>

namespace vgpu {

// VGPU_PEER_FAULT=hang:0-1, wrong:0-1. Of copies from one device's memory to the other's, where
// peer access is enabled.
struct PeerFault {
    enum class Kind { none, hang, wrong };  // the copy never ends; its last byte is another
    Kind kind = Kind::none;
    int from = -1, to = -1;
};
const PeerFault& peer_fault();

// VGPU_CAPABILITY=7.5, or 9.0,7.5: one for all devices, or one for each (the last for those after
// it). Compute capability, as 90 for 9.0, which is the default.
int compute_capability(int device);

// VGPU_ARCHS: the architectures that kernels count as built for, as the Makefile's ARCHS for real
// GPUs; "80 90".
const std::string& built_architectures();

// The code that a device would run, by CUDA's rules: of its own major architecture and not of a
// later minor one, else what the driver translates from the PTX of the last of
// built_architectures().
struct DeviceCode {
    int architecture = 0;  // that the code was built for; 0: there is none
    bool translated = false;
};
DeviceCode code_for(int device);
DeviceCode code_for(int capability, const std::string& architectures);

// Clusters of `size` blocks, `per_sm` of which fit a multiprocessor, that run at once.
// VGPU_CLUSTERS (4:31,8:14) says how many of which sizes, since GPUs of one model differ; of others
// it is what the multiprocessors of limits.h come to, dealt out as evenly as can be.
int active_clusters(int size, int per_sm);

}  // namespace vgpu
