// What the translation of PTX to C++ (translate.py) calls: memory with its checks, and arithmetic
// that C++ defines otherwise. Only generated files include it.
//
// Addresses: generic, global, local and parameter addresses are the host's; addresses of shared
// memory are offsets from its base, as on hardware. What hardware would refuse fails the grid: an
// address that is not a multiple of the access's size, and one outside the block's shared memory.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>

#include "host/vgpu/ptx_exec/kernels.h"
#include "vgpu/ptx.h"

namespace vgpu::ptx_exec {

#define HERE ::vgpu::Site::current()
#define INLINE [[gnu::always_inline]] inline

// ---- memory ----

typedef uint8_t V2u8 __attribute__((vector_size(2), may_alias));
typedef uint8_t V4u8 __attribute__((vector_size(4), may_alias));
typedef uint16_t V2u16 __attribute__((vector_size(4), may_alias));
typedef uint16_t V4u16 __attribute__((vector_size(8), may_alias));
typedef uint32_t V2u32 __attribute__((vector_size(8), may_alias));
typedef uint32_t V4u32 __attribute__((vector_size(16), may_alias));
typedef uint64_t V2u64 __attribute__((vector_size(16), may_alias));
typedef float V2f32 __attribute__((vector_size(8), may_alias));
typedef float V4f32 __attribute__((vector_size(16), may_alias));
typedef double V2f64 __attribute__((vector_size(16), may_alias));

[[noreturn, gnu::cold, gnu::noinline]] void misaligned(uint64_t address, unsigned bytes, Site);
[[noreturn, gnu::cold, gnu::noinline]] void outside_shared(uint64_t address, unsigned bytes, Site);

template <class T>
INLINE T load(uint64_t address, Site site = HERE) {
    typedef T __attribute__((may_alias)) Any;
    if (address % sizeof(T)) [[unlikely]]
        misaligned(address, sizeof(T), site);
    return *reinterpret_cast<const Any*>(address);
}
template <class T>
INLINE void store(uint64_t address, T v, Site site = HERE) {
    typedef T __attribute__((may_alias)) Any;
    if (address % sizeof(T)) [[unlikely]]
        misaligned(address, sizeof(T), site);
    *reinterpret_cast<Any*>(address) = v;
}

// The block's shared memory, as a kernel's first instruction finds it.
struct Shared {
    uint64_t base;
    uint32_t bytes;
    Shared();
    // The host's address of `size` bytes at an address of the shared window.
    INLINE uint64_t at(uint64_t address, unsigned size, Site site = HERE) const {
        if (address > bytes || bytes - address < size) [[unlikely]]
            outside_shared(address, size, site);
        return base + address;
    }
    INLINE void* pointer(uint64_t address, unsigned size, Site site = HERE) const {
        return reinterpret_cast<void*>(at(address, size, site));
    }
    // The other way, for cvta.to.shared.
    uint64_t offset(uint64_t generic, Site site = HERE) const;
};

// Accesses that other threads wait for: a thread that polls lets them go on.
template <class T>
INLINE T load_ordered(uint64_t address, Site site = HERE) {
    yield();
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return load<T>(address, site);
}
template <class T>
INLINE void store_ordered(uint64_t address, T v, Site site = HERE) {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    store<T>(address, v, site);
}

template <class T>
INLINE T* atomic_place(uint64_t address, Site site) {
    if (address % sizeof(T)) [[unlikely]]
        misaligned(address, sizeof(T), site);
    return reinterpret_cast<T*>(address);
}
template <class T, class F>
INLINE T atomic(uint64_t address, T b, F f, Site site = HERE) {
    return atomic_update(atomic_place<T>(address, site), [&](T a) { return f(a, b); });
}
template <class T>
INLINE T atomic_add(uint64_t address, T b, Site site = HERE) {
    return __atomic_fetch_add(atomic_place<T>(address, site), b, __ATOMIC_RELAXED);
}
template <class T>
INLINE T atomic_cas(uint64_t address, T expected, T desired, Site site = HERE) {
    __atomic_compare_exchange_n(atomic_place<T>(address, site), &expected, desired, false,
                                __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return expected;
}

// Threads of the block, as bar.sync without a number counts them: whole warps.
INLINE uint32_t whole_block() { return (blockDim.x * blockDim.y * blockDim.z + 31) / 32 * 32; }

// ---- integers ----

INLINE uint32_t shl(uint32_t a, uint32_t n) { return n > 31 ? 0 : a << n; }
INLINE uint64_t shl(uint64_t a, uint32_t n) { return n > 63 ? 0 : a << n; }
INLINE uint16_t shl(uint16_t a, uint32_t n) { return n > 15 ? 0 : static_cast<uint16_t>(a << n); }
template <class T>
INLINE T shr(T a, uint32_t n) {
    constexpr uint32_t most = 8 * sizeof(T) - 1;
    if constexpr (T(-1) > T(0))
        return n > most ? T(0) : static_cast<T>(a >> n);
    else
        return static_cast<T>(a >> (n > most ? most : n));
}
// Division by zero is undefined in PTX; here it gives all ones, as hardware does.
template <class T>
INLINE T divide(T a, T b) {
    if (b == 0) return static_cast<T>(-1);
    if constexpr (T(-1) < T(0))
        if (b == T(-1)) return static_cast<T>(-static_cast<std::make_unsigned_t<T>>(a));
    return a / b;
}
template <class T>
INLINE T remainder_of(T a, T b) {
    if (b == 0) return a;
    if constexpr (T(-1) < T(0))
        if (b == T(-1)) return 0;
    return a % b;
}
template <class T>
INLINE T least(T a, T b) {
    return a < b ? a : b;
}
template <class T>
INLINE T most(T a, T b) {
    return a > b ? a : b;
}
INLINE int32_t mul_hi(int32_t a, int32_t b) { return __mulhi(a, b); }
INLINE uint32_t mul_hi(uint32_t a, uint32_t b) { return __umulhi(a, b); }
INLINE int64_t mul_hi(int64_t a, int64_t b) { return __mul64hi(a, b); }
INLINE uint64_t mul_hi(uint64_t a, uint64_t b) { return __umul64hi(a, b); }
INLINE uint32_t bfe(uint32_t a, uint32_t pos, uint32_t len) {
    pos &= 255, len &= 255;
    if (pos > 31 || !len) return 0;
    a >>= pos;
    return len > 31 ? a : a & ((1u << len) - 1);
}
INLINE int32_t bfe(int32_t a, uint32_t pos, uint32_t len) {
    pos &= 255, len &= 255;
    if (!len) return 0;
    const uint32_t top = pos + len - 1 > 31 ? 31 : pos + len - 1;
    const uint32_t sign = static_cast<uint32_t>(a) >> top & 1;
    if (pos > 31) return sign ? -1 : 0;
    const uint32_t bits = static_cast<uint32_t>(a) >> pos;
    const uint32_t kept = top + 1 - pos;
    if (kept > 31) return static_cast<int32_t>(bits);
    const uint32_t mask = (1u << kept) - 1;
    return static_cast<int32_t>(sign ? bits | ~mask : bits & mask);
}
INLINE uint32_t bfi(uint32_t a, uint32_t b, uint32_t pos, uint32_t len) {
    pos &= 255, len &= 255;
    if (pos > 31 || !len) return b;
    const uint32_t mask = (len > 31 ? ~0u : (1u << len) - 1) << pos;
    return (b & ~mask) | (a << pos & mask);
}
INLINE uint64_t bfi(uint64_t a, uint64_t b, uint32_t pos, uint32_t len) {
    pos &= 255, len &= 255;
    if (pos > 63 || !len) return b;
    const uint64_t mask = (len > 63 ? ~0ull : (1ull << len) - 1) << pos;
    return (b & ~mask) | (a << pos & mask);
}
// The generic form: a selector's fourth bit repeats the byte's sign.
INLINE uint32_t prmt(uint32_t a, uint32_t b, uint32_t c) {
    const uint64_t both = static_cast<uint64_t>(b) << 32 | a;
    uint32_t r = 0;
    for (int i = 0; i < 4; ++i) {
        const uint32_t s = c >> 4 * i & 15;
        uint32_t byte = static_cast<uint32_t>(both >> 8 * (s & 7)) & 255;
        if (s & 8) byte = byte & 128 ? 255 : 0;
        r |= byte << 8 * i;
    }
    return r;
}
INLINE uint32_t funnel_left(uint32_t lo, uint32_t hi, uint32_t n) {
    return static_cast<uint32_t>((static_cast<uint64_t>(hi) << 32 | lo) << n >> 32);
}
INLINE uint32_t funnel_right(uint32_t lo, uint32_t hi, uint32_t n) {
    return static_cast<uint32_t>((static_cast<uint64_t>(hi) << 32 | lo) >> n);
}
template <uint32_t (*F)(uint32_t, uint32_t, uint32_t)>
INLINE uint32_t funnel(uint32_t lo, uint32_t hi, uint32_t n, bool clamp) {
    return F(lo, hi, clamp ? (n > 32 ? 32 : n) : n & 31);
}

// ---- floats ----

INLINE float flush(float a) {  // .ftz
    return std::fabs(a) < 0x1p-126f ? std::copysign(0.f, a) : a;
}
INLINE float saturate(float a) { return a > 0.f ? (a < 1.f ? a : 1.f) : 0.f; }  // NaN: 0
template <class T>
INLINE T least_number(T a, T b) {  // NaN only when both are; -0 below +0
    if (a != a) return b;
    if (b != b) return a;
    return a == b ? (std::signbit(a) ? a : b) : a < b ? a : b;
}
template <class T>
INLINE T most_number(T a, T b) {
    if (a != a) return b;
    if (b != b) return a;
    return a == b ? (std::signbit(a) ? b : a) : a > b ? a : b;
}
INLINE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
INLINE double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
// Rounded down: a b is exact in double, and so is the error of the sum.
INLINE float fma_down(float a, float b, float c) {
    const double p = static_cast<double>(a) * b, s = p + c, t = s - p,
                 error = (p - (s - t)) + (c - t);
    const float f = static_cast<float>(s);
    return f > s || (f == s && error < 0) ? std::nextafter(f, -HUGE_VALF) : f;
}

// To bfloat16, to the nearest, ties to even. NaN: 0x7fff.
INLINE uint16_t to_bf16(float a) {
    if (a != a) return 0x7fff;
    const uint32_t bits = std::bit_cast<uint32_t>(a);
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
INLINE float from_bf16(uint16_t a) { return std::bit_cast<float>(static_cast<uint32_t>(a) << 16); }
// max.NaN: the canonical NaN where one is NaN, and +0 is greater than -0.
INLINE uint16_t max_nan_bf16(uint16_t a, uint16_t b) {
    const float x = from_bf16(a), y = from_bf16(b);
    if (x != x || y != y) return 0x7fff;
    return x > y || (x == y && !(a & 0x8000)) ? a : b;
}
INLINE uint16_t greater_bf16(uint16_t a, uint16_t b) {
    return from_bf16(a) > from_bf16(b) ? 0xffff : 0;
}
INLINE uint32_t each_half(uint32_t a, uint32_t b, uint16_t (*f)(uint16_t, uint16_t)) {
    return static_cast<uint32_t>(f(a >> 16, b >> 16)) << 16 |
           f(static_cast<uint16_t>(a), static_cast<uint16_t>(b));
}

// To an integer of type T: out of range the nearest one, NaN 0 (for 64 bits 2^63).
template <class T, class F>
INLINE T to_integer(F a) {
    if (a != a) return sizeof(T) == 8 ? T(1ull << 63) : T(0);
    constexpr F low = static_cast<F>(std::numeric_limits<T>::min());
    constexpr F high = static_cast<F>(std::numeric_limits<T>::max());
    if (a <= low) return std::numeric_limits<T>::min();
    if (a >= high) return std::numeric_limits<T>::max();
    return static_cast<T>(a);
}

// ---- the warp ----

struct Shuffled {
    uint32_t value;
    bool inside;
};
// shfl.sync: c holds the highest lane (bits 0 to 4) and the mask of segments (8 to 12).
enum class Shuffle { up, down, bfly, idx };
template <Shuffle mode>
INLINE Shuffled shuffle(uint32_t a, uint32_t b, uint32_t c, uint32_t mask, Site site) {
    const uint32_t lane = lane_id(), segment = c >> 8 & 31, clamp = c & 31;
    b &= 31;
    const int least_lane = static_cast<int>(lane & segment),
              last = static_cast<int>((lane & segment) | (clamp & ~segment));
    int from = 0;
    bool inside = false;
    switch (mode) {
        case Shuffle::up:
            from = static_cast<int>(lane) - static_cast<int>(b);
            inside = from >= last;
            break;
        case Shuffle::down:
            from = static_cast<int>(lane + b);
            inside = from <= last;
            break;
        case Shuffle::bfly:
            from = static_cast<int>(lane ^ b);
            inside = from <= last;
            break;
        case Shuffle::idx:
            from = least_lane | static_cast<int>(b & ~segment);
            inside = from <= last;
            break;
    }
    if (!inside) from = static_cast<int>(lane);
    const uint64_t v = warp_op(WarpOp::shuffle, mask, a, static_cast<unsigned>(from), site);
    return {static_cast<uint32_t>(v), inside};
}

}  // namespace vgpu::ptx_exec
