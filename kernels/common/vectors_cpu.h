// A CPU's vectors of floats, from fp32 and bf16 in memory and back.
//
// No include guard: a file that is compiled for an instruction set (`#pragma GCC target`) includes
// it in a namespace of its own, behind kLanes, the floats of a vector, so that all of it is inlined
// there. <immintrin.h> and kernels/common/dtype.h come before.

typedef float V __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef uint32_t U __attribute__((vector_size(kLanes * 4)));
typedef uint16_t H __attribute__((vector_size(kLanes * 2), aligned(2), may_alias));
typedef uint16_t Bits __attribute__((may_alias));  // of a bf16

#define WT_INLINE __attribute__((always_inline)) static inline

WT_INLINE V load(const float* p) { return *reinterpret_cast<const V*>(p); }
WT_INLINE void store(float* p, V v) { *reinterpret_cast<V*>(p) = v; }
// bf16 is the upper half of a float. By an intrinsic: of a conversion of 16 lanes g++ makes
// two halves and puts them together. (With a mask, since those without one make g++ 12 warn.)
template <int lanes = kLanes>
WT_INLINE V load(const bf16* p) {
    if constexpr (lanes == 16) {
        const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
        return (V)((U)_mm512_maskz_cvtepu16_epi32(0xffff, half) << 16);
    } else {
        return (V)(__builtin_convertvector(*reinterpret_cast<const H*>(p), U) << 16);
    }
}
// To nearest even; a NaN becomes 0x7fff, as __float2bfloat16's.
WT_INLINE H round_to_bf16(V v) {
    const U u = (U)v, nearest = (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
    return __builtin_convertvector(v == v ? nearest : U{} + 0x7fffu, H);
}
WT_INLINE void store(bf16* p, V v) { *reinterpret_cast<H*>(p) = round_to_bf16(v); }
// The first `n` lanes, zeros behind them.
WT_INLINE V load_some(const float* p, int n) {
    V v = {};
    for (int i = 0; i < n; ++i) v[i] = p[i];
    return v;
}
WT_INLINE V load_some(const bf16* p, int n) {
    U u = {};
    for (int i = 0; i < n; ++i) u[i] = reinterpret_cast<const Bits*>(p)[i];
    return (V)(u << 16);
}
WT_INLINE void store_some(float* p, V v, int n) {
    for (int i = 0; i < n; ++i) p[i] = v[i];
}
WT_INLINE void store_some(bf16* p, V v, int n) {
    const H h = round_to_bf16(v);
    for (int i = 0; i < n; ++i) reinterpret_cast<Bits*>(p)[i] = h[i];
}
template <bool whole, class T>
WT_INLINE V load_lanes(const T* p, int n) {
    if constexpr (whole) return load(p);
    return load_some(p, n);
}
template <bool whole, class T>
WT_INLINE void store_lanes(T* p, V v, int n) {
    if constexpr (whole)
        store(p, v);
    else
        store_some(p, v, n);
}
