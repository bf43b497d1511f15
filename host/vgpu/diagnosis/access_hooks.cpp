// What g++ -fsanitize=thread calls for the loads, stores and atomics of the code it has compiled
// (make RACES=1), in place of its own library, which is not linked. In other builds nobody calls
// these.
#include <cstddef>
#include <cstdint>

#include "host/vgpu/exec/core.h"

namespace {

bool instrumented = false;

using Kind = vgpu::Races::Kind;

[[gnu::always_inline]] inline void tell(const volatile void* p, size_t bytes, Kind kind,
                                        const void* returns_to) {
    vgpu::Core* core = vgpu::context.core;
    if (core && core->races && core->races->looks_at(p))
        core->races->access(const_cast<const void*>(p), static_cast<uint32_t>(bytes), kind,
                            vgpu::Races::place(returns_to));
}

}  // namespace

bool vgpu::Races::wanted() { return instrumented; }

#define HERE __builtin_return_address(0)

extern "C" {

void __tsan_init() { instrumented = true; }  // by a constructor of every file
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

#define PLAIN(n)                                                               \
    void __tsan_read##n(void* p) { tell(p, n, Kind::read, HERE); }             \
    void __tsan_write##n(void* p) { tell(p, n, Kind::write, HERE); }           \
    void __tsan_unaligned_read##n(void* p) { tell(p, n, Kind::read, HERE); }   \
    void __tsan_unaligned_write##n(void* p) { tell(p, n, Kind::write, HERE); } \
    void __tsan_volatile_read##n(void* p) { tell(p, n, Kind::read, HERE); }    \
    void __tsan_volatile_write##n(void* p) { tell(p, n, Kind::write, HERE); }
PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)

void __tsan_read_range(void* p, size_t n) { tell(p, n, Kind::read, HERE); }
void __tsan_write_range(void* p, size_t n) { tell(p, n, Kind::write, HERE); }

// The memory order is an argument that is not looked at: always the strongest.
#define ATOMIC_UPDATE(bits, T, name, builtin)                 \
    T __tsan_atomic##bits##_##name(volatile T* p, T v, int) { \
        tell(p, sizeof(T), Kind::atomic, HERE);               \
        return builtin(p, v, __ATOMIC_SEQ_CST);               \
    }
#define ATOMICS(bits, T)                                                                          \
    T __tsan_atomic##bits##_load(const volatile T* p, int) {                                      \
        tell(p, sizeof(T), Kind::atomic, HERE);                                                   \
        return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                              \
    }                                                                                             \
    void __tsan_atomic##bits##_store(volatile T* p, T v, int) {                                   \
        tell(p, sizeof(T), Kind::atomic, HERE);                                                   \
        __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                 \
    }                                                                                             \
    ATOMIC_UPDATE(bits, T, exchange, __atomic_exchange_n)                                         \
    ATOMIC_UPDATE(bits, T, fetch_add, __atomic_fetch_add)                                         \
    ATOMIC_UPDATE(bits, T, fetch_sub, __atomic_fetch_sub)                                         \
    ATOMIC_UPDATE(bits, T, fetch_and, __atomic_fetch_and)                                         \
    ATOMIC_UPDATE(bits, T, fetch_or, __atomic_fetch_or)                                           \
    ATOMIC_UPDATE(bits, T, fetch_xor, __atomic_fetch_xor)                                         \
    ATOMIC_UPDATE(bits, T, fetch_nand, __atomic_fetch_nand)                                       \
    bool __tsan_atomic##bits##_compare_exchange_strong(volatile T* p, T* expected, T v, int,      \
                                                       int) {                                     \
        tell(p, sizeof(T), Kind::atomic, HERE);                                                   \
        return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST,               \
                                           __ATOMIC_SEQ_CST);                                     \
    }                                                                                             \
    bool __tsan_atomic##bits##_compare_exchange_weak(volatile T* p, T* expected, T v, int, int) { \
        tell(p, sizeof(T), Kind::atomic, HERE);                                                   \
        return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST,               \
                                           __ATOMIC_SEQ_CST);                                     \
    }
ATOMICS(8, uint8_t)
ATOMICS(16, uint16_t)
ATOMICS(32, uint32_t)
ATOMICS(64, uint64_t)

void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) { __atomic_signal_fence(__ATOMIC_SEQ_CST); }

}  // extern "C"
