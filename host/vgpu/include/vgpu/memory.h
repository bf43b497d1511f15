// Fences, cached and streaming loads and stores, clocks, and the ways a kernel stops.
#pragma once

#include <assert.h>  // a failed assert in a kernel fails its grid (cudaErrorAssert)
#include <time.h>

#include <atomic>

#include "vgpu/sync.h"

inline void __threadfence_block() { std::atomic_signal_fence(std::memory_order_seq_cst); }
inline void __threadfence() { std::atomic_thread_fence(std::memory_order_seq_cst); }
inline void __threadfence_system() { std::atomic_thread_fence(std::memory_order_seq_cst); }

// Cache hints: plain accesses here.
template <class T>
inline T __ldg(const T* p) {
    return *p;
}
template <class T>
inline T __ldca(const T* p) {
    return *p;
}
template <class T>
inline T __ldcg(const T* p) {
    return *p;
}
template <class T>
inline T __ldcs(const T* p) {
    return *p;
}
template <class T>
inline T __ldlu(const T* p) {
    return *p;
}
template <class T>
inline T __ldcv(const T* p) {
    return *static_cast<const volatile T*>(p);
}
template <class T>
inline void __stwb(T* p, T v) {
    *p = v;
}
template <class T>
inline void __stcg(T* p, T v) {
    *p = v;
}
template <class T>
inline void __stcs(T* p, T v) {
    *p = v;
}
template <class T>
inline void __stwt(T* p, T v) {
    *p = v;
}

// Nanoseconds, as if the device ran at 1 GHz.
inline long long clock64() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}
inline long clock() { return static_cast<long>(clock64()); }

// Polling loops sleep here: the block's other threads go on. Time itself does not matter.
inline void __nanosleep(unsigned) { vgpu::yield(); }

[[noreturn]] inline void __trap(vgpu::Site s = vgpu::Site::current()) {
    vgpu::fail(719, "__trap()", s);
}
