// CUDA's short vectors: int2, float4, ... with make_*, aligned as on hardware so that a 16-byte
// access is one access.
#pragma once

#include "vgpu/dim3.h"

#define VGPU_VECTOR(name, type, a1, a2, a4)                             \
    struct name##1 {                                                    \
        type x;                                                         \
    };                                                                  \
    struct alignas(a2) name##2 {                                        \
        type x, y;                                                      \
    };                                                                  \
    struct alignas(a4) name##4 {                                        \
        type x, y, z, w;                                                \
    };                                                                  \
    constexpr name##1 make_##name##1(type x) { return {x}; }            \
    constexpr name##2 make_##name##2(type x, type y) { return {x, y}; } \
    constexpr name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
#define VGPU_VECTOR3(name, type) \
    struct name##3 {             \
        type x, y, z;            \
    };                           \
    constexpr name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }

VGPU_VECTOR(char, signed char, 1, 2, 4)
VGPU_VECTOR(uchar, unsigned char, 1, 2, 4)
VGPU_VECTOR(short, short, 2, 4, 8)
VGPU_VECTOR(ushort, unsigned short, 2, 4, 8)
VGPU_VECTOR(int, int, 4, 8, 16)
VGPU_VECTOR(uint, unsigned, 4, 8, 16)
VGPU_VECTOR(longlong, long long, 8, 16, 16)
VGPU_VECTOR(ulonglong, unsigned long long, 8, 16, 16)
VGPU_VECTOR(float, float, 4, 8, 16)
VGPU_VECTOR(double, double, 8, 16, 16)
VGPU_VECTOR3(char, signed char)
VGPU_VECTOR3(uchar, unsigned char)
VGPU_VECTOR3(short, short)
VGPU_VECTOR3(ushort, unsigned short)
VGPU_VECTOR3(int, int)
VGPU_VECTOR3(float, float)
VGPU_VECTOR3(double, double)
constexpr uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }

#undef VGPU_VECTOR
#undef VGPU_VECTOR3
