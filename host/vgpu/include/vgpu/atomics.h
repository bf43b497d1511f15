// CUDA's atomic functions: relaxed, returning the old value. Real atomics, as blocks run on several
// cores.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace vgpu {

// *p = f(*p) atomically for any 4- or 8-byte T; returns the old value.
template <class T, class F>
inline T atomic_update(T* p, F f) {
    using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    static_assert(sizeof(T) == sizeof(Bits));
    typedef Bits __attribute__((may_alias)) Word;
    Word* word = reinterpret_cast<Word*>(p);
    Bits old = __atomic_load_n(word, __ATOMIC_RELAXED);
    for (;;) {
        T was;
        std::memcpy(&was, &old, sizeof was);
        const T now = f(was);
        Bits bits;
        std::memcpy(&bits, &now, sizeof bits);
        if (__atomic_compare_exchange_n(word, &old, bits, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED))
            return was;
    }
}

template <class T>
inline constexpr bool atomic_integer =
    std::is_same_v<T, int> || std::is_same_v<T, unsigned> ||
    std::is_same_v<T, unsigned long long> || std::is_same_v<T, long long>;

}  // namespace vgpu

inline float atomicAdd(float* p, float v) {
    return vgpu::atomic_update(p, [v](float x) { return x + v; });
}
inline double atomicAdd(double* p, double v) {
    return vgpu::atomic_update(p, [v](double x) { return x + v; });
}
inline float atomicExch(float* p, float v) {
    return vgpu::atomic_update(p, [v](float) { return v; });
}

#define VGPU_ATOMICS(T)                                                                    \
    inline T atomicAdd(T* p, T v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }   \
    inline T atomicSub(T* p, T v) { return __atomic_fetch_sub(p, v, __ATOMIC_RELAXED); }   \
    inline T atomicAnd(T* p, T v) { return __atomic_fetch_and(p, v, __ATOMIC_RELAXED); }   \
    inline T atomicOr(T* p, T v) { return __atomic_fetch_or(p, v, __ATOMIC_RELAXED); }     \
    inline T atomicXor(T* p, T v) { return __atomic_fetch_xor(p, v, __ATOMIC_RELAXED); }   \
    inline T atomicExch(T* p, T v) { return __atomic_exchange_n(p, v, __ATOMIC_RELAXED); } \
    inline T atomicMin(T* p, T v) {                                                        \
        return vgpu::atomic_update(p, [v](T x) { return v < x ? v : x; });                 \
    }                                                                                      \
    inline T atomicMax(T* p, T v) {                                                        \
        return vgpu::atomic_update(p, [v](T x) { return v > x ? v : x; });                 \
    }                                                                                      \
    inline T atomicCAS(T* p, T expected, T desired) {                                      \
        __atomic_compare_exchange_n(p, &expected, desired, false, __ATOMIC_RELAXED,        \
                                    __ATOMIC_RELAXED);                                     \
        return expected;                                                                   \
    }
VGPU_ATOMICS(int)
VGPU_ATOMICS(unsigned)
VGPU_ATOMICS(unsigned long long)
VGPU_ATOMICS(long long)
#undef VGPU_ATOMICS

// Counts up to `limit`, then starts again at 0 (atomicInc); down to 0, then starts again at `limit`
// (atomicDec).
inline unsigned atomicInc(unsigned* p, unsigned limit) {
    return vgpu::atomic_update(p, [limit](unsigned x) { return x >= limit ? 0 : x + 1; });
}
inline unsigned atomicDec(unsigned* p, unsigned limit) {
    return vgpu::atomic_update(p,
                               [limit](unsigned x) { return x == 0 || x > limit ? limit : x - 1; });
}
template <class T>
inline T atomicAdd_system(T* p, T v) {
    return atomicAdd(p, v);
}
template <class T>
inline T atomicAdd_block(T* p, T v) {
    return atomicAdd(p, v);
}
