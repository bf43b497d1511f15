// Barriers, warp shuffles and votes. Each is a rendezvous: a thread that is not the last to arrive
// hands the core to another fiber, the last goes on at once. About one fiber switch a thread.
//
// Rules, stricter than hardware where hardware leaves it open, so that mistakes show:
// - __syncthreads: every thread of the block must arrive, at the same source line. A thread that
//   has returned from the kernel while others wait is reported (hardware since Volta counts it as
//   arrived).
// - Warp operations: every lane in the mask that exists in the block must arrive with the same
//   operation and mask. A lane that has returned is reported. A shuffle from a lane outside the
//   mask gives all ones (NaN).
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "vgpu/context.h"

namespace vgpu {

// The place of a call in the source; std::source_location is missing from clang before 16.
struct Site {
    const char* file = "?";
    unsigned line = 0;
    static constexpr Site current(const char* file = __builtin_FILE(),
                                  unsigned line = __builtin_LINE()) {
        return {file, line};
    }
};

enum class BlockOp : uint8_t { none, count, all, any };
// __syncthreads and its counting forms; the result is of all threads' predicates.
int block_barrier(BlockOp, int predicate, Site);

// bar.sync id, threads: waits until `threads` threads (a multiple of 32) have synced or arrived at
// barrier `id` (0..15).
void bar_sync(unsigned id, unsigned threads, Site site = Site::current());
// bar.arrive id, threads: counts, does not wait.
void bar_arrive(unsigned id, unsigned threads, Site site = Site::current());

enum class WarpOp : uint8_t {
    sync,
    shuffle,
    ballot,
    add,
    min,
    max,
    min_signed,
    max_signed,
    bit_and,
    bit_or,
    bit_xor,
    together
};
uint64_t warp_op(WarpOp, unsigned mask, uint64_t value, unsigned source_lane, Site);

// For operations of a whole warp (mma.sync, ldmatrix): every lane of `mask` brings a pointer, the
// last to arrive calls work(pointers by lane, mask) once, then all go on. Lanes outside the mask
// have null pointers.
void warp_together(unsigned mask, void* mine, void (*work)(void* const* lanes, unsigned mask),
                   Site site = Site::current());

// Ends the grid with a message that names the kernel, its block and this thread. `code` is a
// cudaError_t.
[[noreturn]] void fail(int code, const char* what, Site site = Site::current());

// Lets other runnable threads of the block go on first: for loops that poll shared or global
// memory.
void yield();

template <class T>
inline T shuffle_from(unsigned mask, T value, unsigned source, Site site) {
    static_assert(std::is_trivially_copyable_v<T> && (sizeof(T) <= 8),
                  "shuffles move values of up to 8 bytes");
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    bits = warp_op(WarpOp::shuffle, mask, bits, source, site);
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

}  // namespace vgpu

inline void __syncthreads(vgpu::Site s = vgpu::Site::current()) {
    vgpu::block_barrier(vgpu::BlockOp::none, 0, s);
}
inline int __syncthreads_count(int p, vgpu::Site s = vgpu::Site::current()) {
    return vgpu::block_barrier(vgpu::BlockOp::count, p, s);
}
inline int __syncthreads_and(int p, vgpu::Site s = vgpu::Site::current()) {
    return vgpu::block_barrier(vgpu::BlockOp::all, p, s);
}
inline int __syncthreads_or(int p, vgpu::Site s = vgpu::Site::current()) {
    return vgpu::block_barrier(vgpu::BlockOp::any, p, s);
}

inline void __syncwarp(unsigned mask = 0xffffffffu, vgpu::Site s = vgpu::Site::current()) {
    vgpu::warp_op(vgpu::WarpOp::sync, mask, 0, 0, s);
}

// Shuffles within segments of `width` lanes (a power of two), as in the CUDA C++ guide: a source
// outside the segment means the lane's own value.
template <class T>
inline T __shfl_sync(unsigned mask, T v, int source, int width = 32,
                     vgpu::Site s = vgpu::Site::current()) {
    const unsigned lane = vgpu::lane_id(), w = static_cast<unsigned>(width);
    return vgpu::shuffle_from(mask, v,
                              (lane & ~(w - 1)) | (static_cast<unsigned>(source) & (w - 1)), s);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32,
                        vgpu::Site s = vgpu::Site::current()) {
    const unsigned lane = vgpu::lane_id(), in = lane & static_cast<unsigned>(width - 1);
    return vgpu::shuffle_from(mask, v, in >= delta ? lane - delta : lane, s);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32,
                          vgpu::Site s = vgpu::Site::current()) {
    const unsigned lane = vgpu::lane_id(), in = lane & static_cast<unsigned>(width - 1);
    return vgpu::shuffle_from(mask, v,
                              delta < static_cast<unsigned>(width) - in ? lane + delta : lane, s);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T v, int lane_mask, int width = 32,
                         vgpu::Site s = vgpu::Site::current()) {
    const unsigned lane = vgpu::lane_id(), to = lane ^ static_cast<unsigned>(lane_mask);
    return vgpu::shuffle_from(mask, v, to <= (lane | static_cast<unsigned>(width - 1)) ? to : lane,
                              s);
}

inline unsigned __ballot_sync(unsigned mask, int p, vgpu::Site s = vgpu::Site::current()) {
    return static_cast<unsigned>(vgpu::warp_op(vgpu::WarpOp::ballot, mask, p != 0, 0, s));
}
inline int __any_sync(unsigned mask, int p, vgpu::Site s = vgpu::Site::current()) {
    return vgpu::warp_op(vgpu::WarpOp::bit_or, mask, p != 0, 0, s) != 0;
}
inline int __all_sync(unsigned mask, int p, vgpu::Site s = vgpu::Site::current()) {
    return vgpu::warp_op(vgpu::WarpOp::bit_and, mask, p != 0, 0, s) != 0;
}
// The lanes that exist in this warp. Hardware may answer any converged subset; code must not depend
// on which.
inline unsigned __activemask() {
    const dim3& d = vgpu::context.block_dim;
    const unsigned threads = d.x * d.y * d.z, first = vgpu::linear_thread() & ~31u;
    return threads - first >= 32 ? 0xffffffffu : (1u << (threads - first)) - 1;
}

inline unsigned __reduce_add_sync(unsigned mask, unsigned v, vgpu::Site s = vgpu::Site::current()) {
    return static_cast<unsigned>(vgpu::warp_op(vgpu::WarpOp::add, mask, v, 0, s));
}
inline int __reduce_add_sync(unsigned mask, int v, vgpu::Site s = vgpu::Site::current()) {
    return static_cast<int>(vgpu::warp_op(vgpu::WarpOp::add, mask, static_cast<unsigned>(v), 0, s));
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned v, vgpu::Site s = vgpu::Site::current()) {
    return static_cast<unsigned>(vgpu::warp_op(vgpu::WarpOp::min, mask, v, 0, s));
}
inline int __reduce_min_sync(unsigned mask, int v, vgpu::Site s = vgpu::Site::current()) {
    return static_cast<int>(
        vgpu::warp_op(vgpu::WarpOp::min_signed, mask, static_cast<uint64_t>(int64_t{v}), 0, s));
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned v, vgpu::Site s = vgpu::Site::current()) {
    return static_cast<unsigned>(vgpu::warp_op(vgpu::WarpOp::max, mask, v, 0, s));
}
inline int __reduce_max_sync(unsigned mask, int v, vgpu::Site s = vgpu::Site::current()) {
    return static_cast<int>(
        vgpu::warp_op(vgpu::WarpOp::max_signed, mask, static_cast<uint64_t>(int64_t{v}), 0, s));
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned v, vgpu::Site s = vgpu::Site::current()) {
    return static_cast<unsigned>(vgpu::warp_op(vgpu::WarpOp::bit_and, mask, v, 0, s));
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned v, vgpu::Site s = vgpu::Site::current()) {
    return static_cast<unsigned>(vgpu::warp_op(vgpu::WarpOp::bit_or, mask, v, 0, s));
}
inline unsigned __reduce_xor_sync(unsigned mask, unsigned v, vgpu::Site s = vgpu::Site::current()) {
    return static_cast<unsigned>(vgpu::warp_op(vgpu::WarpOp::bit_xor, mask, v, 0, s));
}
