// Approximate functions of the special function unit, one instruction each. CUDA's own rsqrtf adds
// three for subnormal arguments, and sqrtf rounds correctly in about ten.
#pragma once

#include <cuda_runtime.h>

namespace wt::ptx {

// 1 / sqrt(x), within 2^-22.9 of it. Subnormals count as 0.
__device__ __forceinline__ float rsqrt_approx(float x) {
#ifdef VGPU
    return rsqrtf(x);
#else
    float r;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
#endif
}

// sqrt(x), within 2^-23 of it. Subnormals count as 0.
__device__ __forceinline__ float sqrt_approx(float x) {
#ifdef VGPU
    return sqrtf(x);
#else
    float r;
    asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
#endif
}

// log2(x), within 2^-22.6 of it for x of 0.5 to 2, within 2^-22 of its own size elsewhere.
__device__ __forceinline__ float lg2_approx(float x) {
#ifdef VGPU
    return log2f(x);
#else
    float r;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
#endif
}

// 2^x, within 2^-22 of it. Subnormal results become 0.
__device__ __forceinline__ float ex2_approx(float x) {
#ifdef VGPU
    return exp2f(x);
#else
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
#endif
}

}  // namespace wt::ptx
