// The parts of a matrix product on ordinary (SIMT) threads, shared by gemm and the convolutions. To
// read such a kernel, follow an element of A from memory to C:
//
//   source      says where A(m,k) lies and reads V adjacent elements of it, zeros outside
//               (tile/matrix_iterators.h, conv/operand_iterators.h); one for A, one for B
//   AlongK,     a thread's part of a tile's loads: fetch() from the source into registers, store()
//   AlongMN     from there to the stage; which of the two: whether the operand is contiguous along
//               k, or along m (n)
//   Stage       a tile of A and one of B in shared memory, k outermost; two of them, so that there
//               is one barrier a step
//   multiply    acc[8 rows] += a column of A x a row of B, 8 x 8 a thread
//   product     the loop over k: loads of the next stage between quarters of this one's products
//   store_tile  the accumulators to C, or partial sums to the workspace where k is split
//               (split_k.h)
//   Epilogue    bias, ReLU and so on, on the way to C (epilogue.h), there or in split_k.h's
//               reduction kernel
//
// A block computes BM x BN of C in steps of BK = 16. A warp's 32 threads cover 32 x 64: 4 threads
// down, 8 across. A thread owns 8 adjacent rows and twice 4 adjacent columns, 32 apart: then the 8
// threads across read 128 contiguous bytes of B at a time, free of bank conflicts.
#pragma once

#include "kernels/common/vec.h"
#include "kernels/launch.h"

namespace wt::simt {

template <int BM_, int BN_>
struct Tile {
    static constexpr int BM = BM_, BN = BN_, BK = 16;
    static constexpr int kThreads = BM * BN / 64;
    // leaves 128 (255) registers a thread: no spills
    static constexpr int kBlocksPerSM = kThreads == 256 ? 2 : 4;
    static_assert(BM % 32 == 0 && BN % 64 == 0, "whole warps of 32 x 64");

    // Rows are 4 floats longer than the tile: operands contiguous along k are stored transposed, 4
    // (bf16: 2) threads to a row of memory, and so at most 2 of them write to the same bank. (An
    // exact swizzle exists, but its addresses take the registers that the accumulators leave.)
    static constexpr int kPad = 4, kPitchA = BM + kPad, kPitchB = BN + kPad;
    struct Stage {
        float a[BK * kPitchA];
        float b[BK * kPitchB];
    };
    struct SharedStorage {
        alignas(16) Stage stage[2];
        float row_sum[BM];  // of A, where a bias gradient is wanted
    };
};

// Where this thread's 8 x 8 elements of the tile begin: rows m .. m+7, columns n .. n+3 and n+32 ..
// n+35.
struct ThreadOrigin {
    int m, n;
};

template <class Tile>
__device__ __forceinline__ ThreadOrigin thread_origin() {
    constexpr int kWarpsAcross = Tile::BN / 64;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    return {warp / kWarpsAcross * 32 + lane / 8 * 8, warp % kWarpsAcross * 64 + lane % 8 * 4};
}

// Carries R rows x BK of an operand that is contiguous along k. A thread takes V adjacent k of
// every kStep-th row. A Source has T, V, Row; Row row(int); void seek(int k); PackedFragment<T, V>
// read(const Row&), zeros outside the matrix; void advance(int k).
template <class Tile, int R, class Source>
struct AlongK {
    static constexpr int V = Source::V, kPerRow = Tile::BK / V, kStep = Tile::kThreads / kPerRow,
                         kCount = R / kStep;
    static constexpr int kFragments = (kCount + 1) / 2;  // in a half of the tile
    static constexpr int kPitch = R + Tile::kPad;
    static_assert(R % kStep == 0);
    Source source;
    typename Source::Row rows[kCount];
    PackedFragment<typename Source::T, V> fragments[kFragments];
    int offset;  // in a stage, of the first element

    __device__ __forceinline__ AlongK(const Source& s, int row0, int k0) : source(s) {
        const int k = threadIdx.x % kPerRow * V, r = threadIdx.x / kPerRow;
        offset = k * kPitch + r;
#pragma unroll
        for (int i = 0; i < kCount; ++i) rows[i] = source.row(row0 + r + i * kStep);
        source.seek(k0 + k);
    }
    // Loads a half of the next tile; after the second half the source is at the tile behind it.
    template <int Half>
    __device__ __forceinline__ void fetch() {
        unroll<kFragments>([&](auto i) {
            if constexpr (Half * kFragments + i < kCount)
                fragments[i] = source.read(rows[Half * kFragments + i]);
        });
        if constexpr (Half == 1) source.advance(Tile::BK);
    }
    template <int Half>
    __device__ __forceinline__ void store(float* stage) const {
        unroll<kFragments>([&](auto h) {
            constexpr int i = Half * kFragments + h;
            if constexpr (i < kCount) {
                const Vec<V> v = unpack(fragments[h]);
                unroll<V>([&](auto j) { stage[offset + j * kPitch + i * kStep] = v[j]; });
            }
        });
    }
};

// Carries BK x R of an operand that is contiguous along m (or n). A thread takes V adjacent columns
// of every kStep-th k. A Source has T, V; void seek(int column, int k); PackedFragment<T, V>
// read(); void advance(int k).
template <class Tile, int R, class Source>
struct AlongMN {
    static constexpr int V = Source::V, kPerRow = R / V, kStep = Tile::kThreads / kPerRow,
                         kCount = Tile::BK / kStep;
    static constexpr int kFragments = (kCount + 1) / 2;
    static constexpr int kPitch = R + Tile::kPad;
    static_assert(Tile::BK % kStep == 0);
    Source source;
    PackedFragment<typename Source::T, V> fragments[kFragments];
    int offset;  // in a stage, of the first element

    __device__ __forceinline__ AlongMN(const Source& s, int column0, int k0) : source(s) {
        const int k = threadIdx.x / kPerRow, c = threadIdx.x % kPerRow * V;
        offset = k * kPitch + c;
        source.seek(column0 + c, k0 + k);
    }
    template <int Half>
    __device__ __forceinline__ void fetch() {
        unroll<kFragments>([&](auto i) {
            if constexpr (Half * kFragments + i < kCount) {
                fragments[i] = source.read();
                source.advance(kStep);
            }
        });
    }
    template <int Half>
    __device__ __forceinline__ void store(float* stage) const {
        unroll<kFragments>([&](auto h) {
            constexpr int i = Half * kFragments + h;
            if constexpr (i < kCount)
                wt::store(stage + offset + i * kStep * kPitch, unpack(fragments[h]));
        });
    }
};

// acc[i] += A(m+i, k) * B(k, n..) over the k of [K0, K1) of one stage.
template <class Tile, int K0, int K1>
__device__ __forceinline__ void multiply(const typename Tile::Stage& s, ThreadOrigin origin,
                                         Vec<8> (&acc)[8]) {
    WT_UNROLL_K
    for (int k = K0; k < K1; ++k) {
        const float* bk = &s.b[k * Tile::kPitchB + origin.n];
        const Vec<8> b = join(load<4>(bk), load<4>(bk + 32));
#ifdef VGPU  // a CPU broadcasts from memory
        const float* a = &s.a[k * Tile::kPitchA + origin.m];
#else
        const Vec<8> a = load<8>(&s.a[k * Tile::kPitchA + origin.m]);
#endif
        unroll<8>([&](auto i) { acc[i] = fma(a[i], b, acc[i]); });
    }
}

// The loop over k: `steps` steps of BK (at least one). With sum_rows, thread t < BM also adds up
// row t of A in shared.row_sum: a bias gradient for one more pass over shared memory. (There, not
// in a register: the accumulators leave none.)
template <class Tile, class LoadA, class LoadB>
__device__ __forceinline__ void product(typename Tile::SharedStorage& shared, LoadA& a, LoadB& b,
                                        int steps, ThreadOrigin origin, Vec<8> (&acc)[8],
                                        bool sum_rows = false) {
    if (sum_rows && threadIdx.x < Tile::BM) shared.row_sum[threadIdx.x] = 0;
    // The first stage.
    a.template fetch<0>();
    a.template store<0>(shared.stage[0].a);
    a.template fetch<1>();
    a.template store<1>(shared.stage[0].a);
    b.template fetch<0>();
    b.template store<0>(shared.stage[0].b);
    b.template fetch<1>();
    b.template store<1>(shared.stage[0].b);
    __syncthreads();
    constexpr int kQuarter = Tile::BK / 4;
    for (int step = 0; step < steps; ++step) {
        const typename Tile::Stage& now = shared.stage[step % 2];
        typename Tile::Stage& next = shared.stage[(step + 1) % 2];
        const bool more = step + 1 < steps;
        // Half an operand's loads at a time: it takes a quarter of the registers, and a quarter of
        // a step, 256 multiply-adds a thread, still hides their latency.
        if (more) a.template fetch<0>();
        multiply<Tile, 0, kQuarter>(now, origin, acc);
        if (more) {
            a.template store<0>(next.a);
            a.template fetch<1>();
        }
        multiply<Tile, kQuarter, 2 * kQuarter>(now, origin, acc);
        if (more) {
            a.template store<1>(next.a);
            b.template fetch<0>();
        }
        multiply<Tile, 2 * kQuarter, 3 * kQuarter>(now, origin, acc);
        if (more) {
            b.template store<0>(next.b);
            b.template fetch<1>();
        }
        multiply<Tile, 3 * kQuarter, Tile::BK>(now, origin, acc);
        if (more) b.template store<1>(next.b);
        if (sum_rows && threadIdx.x < Tile::BM) {
            float sum = shared.row_sum[threadIdx.x];
#pragma unroll 2
            for (int k = 0; k < Tile::BK; ++k) sum += now.a[k * Tile::kPitchA + threadIdx.x];
            shared.row_sum[threadIdx.x] = sum;
        }
        __syncthreads();
    }
}

}  // namespace wt::simt
