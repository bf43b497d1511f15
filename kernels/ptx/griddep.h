// Programmatic dependent launch (PDL): a kernel starts while the one before it in the stream still
// runs (PTX 9.7.13.14). Only kernels that wait may be launched so (LaunchShape::with_pdl). Both are
// no-ops otherwise. sm_90; nothing below it.
#pragma once

#include "kernels/ptx/ptx.h"

namespace wt::ptx {

// Waits until the kernels this one depends on are complete and their writes visible. Call it before
// the first read of their output.
__device__ __forceinline__ void griddep_wait() {
#ifdef VGPU
    vgpu::griddep_wait();
#elif __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The next kernel may start once every block has said so or has ended.
__device__ __forceinline__ void griddep_launch_dependents() {
#ifdef VGPU
    vgpu::griddep_launch_dependents();
#elif __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

}  // namespace wt::ptx
