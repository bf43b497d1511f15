// What the wrappers of this folder share. Each function here is one PTX instruction with two
// bodies: inline assembly for real GPUs, a call into the virtual GPU (host/vgpu/include/vgpu/ptx.h)
// otherwise. Names and operands follow the PTX ISA, whose section is given; there is no `asm`
// outside this folder.
//
// Shared memory is passed as ordinary pointers. A wrapper that lets threads meet or wait takes, on
// virtual GPUs, the place of its call, for the report of a deadlock.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#ifdef VGPU
#include "vgpu/ptx.h"
#define WT_SITE ::vgpu::Site site = ::vgpu::Site::current()
#define WT_COMMA_SITE , WT_SITE
#else
#define WT_SITE
#define WT_COMMA_SITE
#endif

namespace wt::ptx {

#ifndef VGPU
// Address in the shared window of what a generic pointer into shared memory points to.
__device__ __forceinline__ uint32_t shared_address(const void* p) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
#endif

}  // namespace wt::ptx
