// Storage types of activations and of the weights the matrix units read.
// Master weights, momentum, gradients of weights and all sums are fp32 (DType::f32) always.
#pragma once

#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>

namespace wt {

using bf16 = __nv_bfloat16;

enum class DType : uint8_t { f32, bf16 };

constexpr size_t size_of(DType t) { return t == DType::f32 ? 4 : 2; }
constexpr const char* name_of(DType t) { return t == DType::f32 ? "fp32" : "bf16"; }

template <class T>
inline constexpr DType dtype_of = DType::f32;
template <>
inline constexpr DType dtype_of<wt::bf16> = DType::bf16;

// Calls f.template operator()<T>() with the C++ type that `t` names.
template <class F>
decltype(auto) by_dtype(DType t, F&& f) {
    if (t == DType::f32) return f.template operator()<float>();
    return f.template operator()<bf16>();
}

// Every kernel computes in fp32 and stores in T.
__host__ __device__ inline float to_float(float v) { return v; }
__host__ __device__ inline float to_float(bf16 v) { return __bfloat162float(v); }
template <class T>
__host__ __device__ inline T from_float(float v);
template <>
__host__ __device__ inline float from_float<float>(float v) {
    return v;
}
template <>
__host__ __device__ inline bf16 from_float<bf16>(float v) {
    return __float2bfloat16(v);
}

}  // namespace wt
