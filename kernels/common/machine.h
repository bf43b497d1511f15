// The machine that kernels are planned for: how many SMs share the work, and what a block may have
// of one. And, in one object, what tests change of such plans.
#pragma once

#include <cstdint>

namespace wt {

// Shared memory that a block of sm_90 may ask for: 227 KB.
inline constexpr int kSharedPerBlock = 232448;

// SMs of an H100 or H200, which the expectations in the kernels' headers are for.
inline constexpr int kReferenceSms = 132;

// SMs to plan for. On a real GPU: those of the device that is current at the first call, asked
// once, so that a workspace is sized for the plan that is launched later, from whichever thread.
// Where no device answers, and on virtual GPUs, whose results must not depend on the cores of the
// CPU: kReferenceSms. At least 1.
int planned_sms();

// Tests set these, and set them back, to meet on small problems what a large machine would do on
// large ones.
struct PlanOverrides {
    int sms = 0;  // for planned_sms(); 0: as above
    // Most threads of a memory-bound kernel's block (stream.h). A virtual GPU runs one loop the
    // faster, the fewer there are.
#ifdef VGPU
    int stream_threads = 1;
#else
    int stream_threads = 256;
#endif
};
inline PlanOverrides plan_overrides;

}  // namespace wt
