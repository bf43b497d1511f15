// What a maximum has to remember, in one integer: the value in the storage type as an ordered
// number above, a code of its place below (at most 0x7000, so that it is no NaN as a bf16). One
// integer maximum then finds value and place, the first of equals (whose code is larger), and a NaN
// before all else.
#pragma once

#include <cuda_runtime.h>

#include "kernels/common/pack.h"

namespace wt {

// kSigned: values may be below 0. Both zeros become +0, all NaNs one.
template <class T, bool kSigned>
struct PoolKey;

template <bool kSigned>
struct PoolKey<bf16, kSigned> {
    using type = int;
    __device__ __forceinline__ static type make(float v, int code) {
        int key = packed(v + 0.f, code);
        if (kSigned) key ^= key >> 31 & 0x7fff0000;
        return key;
    }
    __device__ __forceinline__ static float value(type key) {
        int bits = key & static_cast<int>(0xffff0000u);
        if (kSigned) bits ^= bits >> 31 & 0x7fff0000;
        return __int_as_float(bits);
    }
    // The values of 8 keys; y is aligned.
    __device__ __forceinline__ static void store(bf16* y, const type (&key)[8]) {
        unsigned word[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            int low = key[2 * i], high = key[2 * i + 1];
            if (kSigned) low ^= low >> 31 & 0x7fff0000, high ^= high >> 31 & 0x7fff0000;
            word[i] = __byte_perm(low, high, 0x7632);
        }
        *reinterpret_cast<uint4*>(y) = make_uint4(word[0], word[1], word[2], word[3]);
    }

    // v rounded to bf16 above the code: the key, but that -0 comes before +0 and, signed, numbers
    // below 0 in the wrong order. On a GPU one conversion of a pair, whose lower number is
    // the one with the code's bits, a subnormal: a lone v would be converted at a quarter of the
    // rate, where it competes with the square roots.
    __device__ __forceinline__ static int packed(float v, int code) {
#ifdef VGPU
        return __bfloat16_as_ushort(from_float<bf16>(v)) << 16 | code;
#else
        const __nv_bfloat162 pair = __floats2bfloat162_rn(__int_as_float(code << 16), v);
        return *reinterpret_cast<const int*>(&pair);
#endif
    }
};

template <bool kSigned>
struct PoolKey<float, kSigned> {
    using type = long long;
    __device__ __forceinline__ static type make(float v, int code) {
        int bits = v == v ? __float_as_int(v + 0.f) : 0x7fffffff;
        if (kSigned) bits ^= bits >> 31 & 0x7fffffff;
        return type(bits) << 32 | code;
    }
    __device__ __forceinline__ static float value(type key) {
        int bits = static_cast<int>(key >> 32);
        if (kSigned) bits ^= bits >> 31 & 0x7fffffff;
        return __int_as_float(bits);
    }
    __device__ __forceinline__ static void store(float* y, const type (&key)[8]) {
        float v[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] = value(key[i]);
        store_pack(y, v);
    }
};

// Of 8 keys whose places are `base` minus their codes, both below 16: the low 4 bits of the
// difference, a byte each. argmax is aligned.
template <class Key>
__device__ __forceinline__ void store_places(uint8_t* argmax, const Key (&key)[8], int base) {
    // 16 in every byte, so that no byte borrows of the next.
    const unsigned from = (base & 15) * 0x01010101u + 0x10101010u;
    unsigned word[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const unsigned low = __byte_perm(static_cast<unsigned>(key[4 * i]),
                                         static_cast<unsigned>(key[4 * i + 1]), 0x0040);
        const unsigned high = __byte_perm(static_cast<unsigned>(key[4 * i + 2]),
                                          static_cast<unsigned>(key[4 * i + 3]), 0x0040);
        word[i] = (from - (__byte_perm(low, high, 0x5410) & 0x0f0f0f0fu)) & 0x0f0f0f0fu;
    }
    *reinterpret_cast<uint2*>(argmax) = make_uint2(word[0], word[1]);
}

}  // namespace wt
