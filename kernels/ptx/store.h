// Vector stores to global memory that stay vectors (PTX 9.7.9.12). A float4 or a struct assigned in
// one of two branches, single elements in the other, nvcc 13.0 takes apart in both.
#pragma once

#include "kernels/ptx/ptx.h"

namespace wt::ptx {

// st.global.v4.b32: 16 bytes to an address that is a multiple of 16.
__device__ __forceinline__ void store_16(void* to, uint4 v) {
#ifdef VGPU
    *static_cast<uint4*>(to) = v;
#else
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)),
                 "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
                 : "memory");
#endif
}

// st.global.v2.b32: 8 bytes to an address that is a multiple of 8.
__device__ __forceinline__ void store_8(void* to, uint2 v) {
#ifdef VGPU
    *static_cast<uint2*>(to) = v;
#else
    asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(to)), "r"(v.x),
                 "r"(v.y)
                 : "memory");
#endif
}

}  // namespace wt::ptx
