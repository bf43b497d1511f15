// The device side of CUDA C++ for g++ and clang++: what kernel source needs from the compiler and
// from <device_functions.h>. cuda_runtime.h includes it.
//
// There is no __shared__ and no __noinline__ here: shared memory goes through
// vgpu::shared_memory(), and a macro of the second name would break the standard library's own
// headers.
#pragma once

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))

#include "vgpu/context.h"
#include "vgpu/vector_types.h"
#include "vgpu/sync.h"
#include "vgpu/atomics.h"
#include "vgpu/math.h"
#include "vgpu/memory.h"
