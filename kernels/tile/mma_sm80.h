// Matrix products on tensor cores of sm_80 and later, shared by gemm and the convolutions: mma.sync
// on tiles that cp.async brings to shared memory, several stages ahead. bf16 operands are
// multiplied as they are; fp32 operands are rounded to tf32 on their way from shared memory to
// registers. What A(m,k) and B(k,n) are is said by a source (kernels/tile/matrix_iterators.h,
// kernels/conv/operand_iterators.h).
//
// A block computes BM x BN of C in steps of 64 bytes of k (32 bf16, 16 tf32). Operands keep the
// order they have in memory:
//   along k   a row of m (or n) is 64 bytes; ldmatrix gives fragments of either type: a 16-byte
//             chunk is 8 bf16 or 4 tf32, and a fragment's k is two chunks
//   along mn  a row of k is BM (or BN) elements; ldmatrix.trans gives fragments of bf16; those of
//             tf32, which it cannot transpose, are loaded word by word
// Chunks of a row are exchanged by an exclusive or, so that the 8 rows that an ldmatrix reads, and
// the 32 words of a load, lie in different banks.
#pragma once

#include "kernels/launch.h"
#include "kernels/ptx/cp_async.h"
#include "kernels/ptx/ldmatrix.h"
#include "kernels/ptx/mma_sync.h"
#include "kernels/tile/matrix_iterators.h"
#include "kernels/tile/split_k.h"

namespace wt::mma {

template <class T_, int BM_, int BN_, int kWarpsM_, int kWarpsN_>
struct Tile {
    using T = T_;
    static constexpr int BM = BM_, BN = BN_, kWarpsM = kWarpsM_, kWarpsN = kWarpsN_;
    static constexpr int kRowBytes = 64, BK = kRowBytes / sizeof(T), kStages = 4;
    static constexpr int kThreads = 32 * kWarpsM * kWarpsN;
    static constexpr int WM = BM / kWarpsM, WN = BN / kWarpsN;  // of a warp
    static constexpr int kTilesM = WM / 16, kTilesN = WN / 8;
    // A thread has WM x WN / 32 accumulators, and as many registers again for operands and
    // addresses.
    static constexpr int kBlocksPerSM = WM * WN <= 1024 ? 4 : 2;
    static_assert(WM % 16 == 0 && WN % 32 == 0, "results leave in runs of 4 x 8 columns");

    struct Stage {
        uint8_t a[BM * kRowBytes];
        uint8_t b[BN * kRowBytes];
    };
    // Row sums are added up by words of a row of k: 2 bf16 or 1 float, the k shared among
    // `kSumParts` threads.
    static constexpr int kSumWords = BM * sizeof(T) / 4, kSumParts = kThreads / kSumWords;
    static_assert(kSumWords * kSumParts == kThreads);
    struct SharedStorage {
        alignas(128) Stage stage[kStages];
        float row_sum[kSumParts][BM];
    };
    using Accumulators = float[kTilesM][kTilesN][4];
};

// Where 16-byte chunk `chunk` of row `row` (of k) lies in an operand's stage.
__device__ __forceinline__ int offset_along_k(int row, int chunk) {
    return row * 64 + ((chunk ^ (row >> 1 & 3)) << 4);
}
template <class T, int R>
__device__ __forceinline__ int offset_along_mn(int k, int chunk) {
    // Words of 4 successive k are read at a time, or chunks of 8.
    return k * R * static_cast<int>(sizeof(T)) +
           ((chunk ^ (sizeof(T) == 4 ? k % 4 * 2 : k % 8)) << 4);
}

template <class T>
__device__ __forceinline__ void copy(uint8_t* to, const Span<T>& s) {
    constexpr int kWhole = 16 / sizeof(T);
    ptx::cp_async_16(to, s.p, min(s.count, kWhole) * static_cast<int>(sizeof(T)));
}

// Carries R rows x BK of an operand that is contiguous along k. A thread takes a chunk of every
// kStep-th row. Source: T, V, Row; Row row(int); void seek(int k); Span<T> span(const Row&); void
// advance(int k).
template <class Tile, int R, class Source>
struct CopyAlongK {
    static constexpr int kPerRow = Tile::kRowBytes / 16, kStep = Tile::kThreads / kPerRow,
                         kCount = R / kStep;
    static_assert(R % kStep == 0 && kStep % 8 == 0 && Source::V * sizeof(typename Source::T) == 16);
    Source source;
    typename Source::Row rows[kCount];
    int offset;

    __device__ __forceinline__ CopyAlongK(const Source& s, int row0, int k0) : source(s) {
        const int chunk = threadIdx.x % kPerRow, r = threadIdx.x / kPerRow;
        offset = offset_along_k(r, chunk);
#pragma unroll
        for (int i = 0; i < kCount; ++i) rows[i] = source.row(row0 + r + i * kStep);
        source.seek(k0 + chunk * Source::V);
    }
    __device__ __forceinline__ void start(uint8_t* stage) {
#pragma unroll
        for (int i = 0; i < kCount; ++i)
            copy(stage + offset + i * kStep * Tile::kRowBytes, source.span(rows[i]));
        source.advance(Tile::BK);
    }
};

// Carries BK x R of an operand that is contiguous along m (or n). A thread takes a chunk of every
// kStep-th k. Source: T, V; void seek(int column, int k); Span<T> span(); void advance(int k).
template <class Tile, int R, class Source>
struct CopyAlongMN {
    using T = typename Source::T;
    static constexpr int kPerRow = R / Source::V, kStep = Tile::kThreads / kPerRow,
                         kCount = Tile::BK / kStep;
    static_assert(Tile::kThreads % kPerRow == 0 && Tile::BK % kStep == 0 &&
                  kStep % (sizeof(T) == 4 ? 4 : 8) == 0);
    Source source;
    int offset;

    __device__ __forceinline__ CopyAlongMN(const Source& s, int column0, int k0) : source(s) {
        const int chunk = threadIdx.x % kPerRow, k = threadIdx.x / kPerRow;
        offset = offset_along_mn<T, R>(k, chunk);
        source.seek(column0 + chunk * Source::V, k0 + k);
    }
    __device__ __forceinline__ void start(uint8_t* stage) {
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
            copy(stage + offset + i * kStep * R * static_cast<int>(sizeof(T)), source.span());
            source.advance(kStep);
        }
    }
};

enum class Major { k, mn };  // along which an operand lies
enum class Side { a, b };

// Loads a warp's lines (rows of A, columns of B) from `first` on, 16 of them to a piece: four
// registers a lane, in the order of mma's fragment of A (lines 0-7, lines 8-15, and these of the
// second half of k) or of two of B (lines 0-7 of both halves of k, then lines 8-15).
template <class T, Major M, Side S, int R>
struct Fragments {
    int offset;  // this lane's, in a stage

    __device__ __forceinline__ explicit Fragments(int first) {
        const int lane = threadIdx.x % 32;
        if constexpr (M == Major::mn && sizeof(T) == 4) {
            const int g = lane / 4, t = lane % 4;
            offset = offset_along_mn<T, R>(t, (first + g) / 4) + g % 4 * 4;
        } else {  // the lane brings the address of row lane % 8 of matrix lane / 8
            const int matrix = lane / 8, r = lane % 8;
            const int line_half = S == Side::a ? matrix % 2 : matrix / 2,
                      k_half = S == Side::a ? matrix / 2 : matrix % 2;
            offset = M == Major::k ? offset_along_k(first + line_half * 8 + r, k_half)
                                   : offset_along_mn<T, R>(k_half * 8 + r, first / 8 + line_half);
        }
    }
    // Loads piece i of the step's k number kk. What is added to a chunk is exclusive-ored: its bits
    // are zero in all that `offset` was made of.
    template <int kk>
    __device__ __forceinline__ void load(const uint8_t* stage, int i, uint32_t (&r)[4]) const {
        constexpr int kRow = R * sizeof(T);
        if constexpr (M == Major::k) {
            ptx::ldmatrix_x4(r, stage + (offset ^ (kk << 5)) + i * 16 * 64);
        } else if constexpr (sizeof(T) == 2) {
            ptx::ldmatrix_x4_trans(r, stage + (offset ^ (i << 5)) + kk * 16 * kRow);
        } else {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const int line_half = S == Side::a ? e % 2 : e / 2,
                          k_half = S == Side::a ? e / 2 : e % 2;
                const uint8_t* word = stage + (offset ^ ((i * 4 + line_half * 2) << 4)) +
                                      (kk * 8 + k_half * 4) * kRow;
                r[e] = *reinterpret_cast<const uint32_t*>(word);
            }
        }
        if constexpr (sizeof(T) == 4)
#pragma unroll
            for (int e = 0; e < 4; ++e) r[e] = ptx::to_tf32(__uint_as_float(r[e]));
    }
};

template <class Tile>
struct Operands {
    uint32_t a[Tile::kTilesM][4];
    uint32_t b[Tile::kTilesN][2];

    template <int kk, class FragmentsA, class FragmentsB>
    __device__ __forceinline__ void load(const typename Tile::Stage& stage,
                                         const FragmentsA& from_a, const FragmentsB& from_b) {
#pragma unroll
        for (int i = 0; i < Tile::kTilesM; ++i) from_a.template load<kk>(stage.a, i, a[i]);
#pragma unroll
        for (int i = 0; i < Tile::kTilesN / 2; ++i) {
            uint32_t two[4];
            from_b.template load<kk>(stage.b, i, two);
            b[2 * i][0] = two[0], b[2 * i][1] = two[1], b[2 * i + 1][0] = two[2],
                  b[2 * i + 1][1] = two[3];
        }
    }
    __device__ __forceinline__ void multiply(typename Tile::Accumulators& acc) const {
        if constexpr (sizeof(typename Tile::T) == 2)
            ptx::mma_tile_m16n8k16_bf16(acc, a, b);
        else
            ptx::mma_tile_m16n8k8_tf32(acc, a, b);
    }
};

// This thread's part of the row sums of A, for a bias gradient: a word of a row of k, a share of
// the k of each step.
template <class Tile>
struct ThreadRowSums {
    static constexpr int kShare = Tile::BK / Tile::kSumParts;
    float low = 0, high = 0;

    __device__ __forceinline__ void add(const typename Tile::Stage& stage) {
        const int word = threadIdx.x % Tile::kSumWords, part = threadIdx.x / Tile::kSumWords;
#pragma unroll 4
        for (int k = part * kShare; k < (part + 1) * kShare; ++k) {
            const int at = offset_along_mn<typename Tile::T, Tile::BM>(k, word / 4) + word % 4 * 4;
            const uint32_t bits = *reinterpret_cast<const uint32_t*>(stage.a + at);
            if constexpr (sizeof(typename Tile::T) == 2)
                low += __uint_as_float(bits << 16), high += __uint_as_float(bits & 0xffff0000u);
            else
                low += __uint_as_float(bits);
        }
    }
    __device__ __forceinline__ void publish(typename Tile::SharedStorage& shared) const {
        constexpr int kPerWord = 4 / sizeof(typename Tile::T);
        const int row = threadIdx.x % Tile::kSumWords * kPerWord,
                  part = threadIdx.x / Tile::kSumWords;
        shared.row_sum[part][row] = low;
        if constexpr (kPerWord == 2) shared.row_sum[part][row + 1] = high;
    }
};

// The loop over k: `steps` steps of BK. One barrier a step: behind it, everybody's copies of this
// step's stage are there and everybody has read the stage before, which the copies of kStages - 1
// steps ahead then overwrite. With sum_rows (A along mn only) also leaves the sums of A's rows in
// shared.row_sum.
template <class Tile, Major A, Major B, class CopyA, class CopyB>
__device__ __forceinline__ void product(typename Tile::SharedStorage& shared, CopyA& copy_a,
                                        CopyB& copy_b, int steps, typename Tile::Accumulators& acc,
                                        bool sum_rows = false) {
    using T = typename Tile::T;
    const int warp = threadIdx.x / 32;
    const Fragments<T, A, Side::a, Tile::BM> from_a(warp / Tile::kWarpsN * Tile::WM);
    const Fragments<T, B, Side::b, Tile::BN> from_b(warp % Tile::kWarpsN * Tile::WN);
    ThreadRowSums<Tile> sums;
#pragma unroll
    for (int m = 0; m < Tile::kTilesM; ++m)
#pragma unroll
        for (int n = 0; n < Tile::kTilesN; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e) acc[m][n][e] = 0;

    int started = 0;  // steps
    auto start = [&] {
        if (started < steps) {
            typename Tile::Stage& stage = shared.stage[started % Tile::kStages];
            copy_a.start(stage.a), copy_b.start(stage.b);
        }
        // maybe an empty group: so that the number of groups tells the stage
        ptx::cp_async_commit();
        ++started;
    };
    for (int i = 0; i < Tile::kStages - 1; ++i) start();
    for (int step = 0; step < steps; ++step) {
        ptx::cp_async_wait<Tile::kStages - 2>();
        __syncthreads();
        start();
        const typename Tile::Stage& stage = shared.stage[step % Tile::kStages];
        Operands<Tile> now, next;
        now.template load<0>(stage, from_a, from_b);
        next.template load<1>(stage, from_a, from_b);
        now.multiply(acc);
        if constexpr (A == Major::mn)
            if (sum_rows) sums.add(stage);
        next.multiply(acc);
    }
    if constexpr (A == Major::mn)
        if (sum_rows) {
            sums.publish(shared);
            __syncthreads();
        }
}

// Lane t of four has columns 2 t and 2 t + 1 of 4 x 8 columns of a row, in order; gives lane t the
// 8 columns of the t-th. A transposition: pairs change hands with the neighbour, then with the one
// over.
__device__ __forceinline__ Vec<8> eight_columns(const Vec<8>& mine) {
    float v[4][2];
    unroll<8>([&](auto i) { v[i / 2][i % 2] = mine[i]; });
    const int t = threadIdx.x % 4;
    unroll<2>([&](auto bit) {
        const bool upper = t >> bit & 1;
        unroll<2>([&](auto pair) {
            constexpr int low = bit == 0 ? 2 * pair : pair, high = low + (1 << bit);
            unroll<2>([&](auto e) {
                const float got =
                    __shfl_xor_sync(0xffffffffu, upper ? v[low][e] : v[high][e], 1 << bit);
                v[low][e] = upper ? got : v[low][e], v[high][e] = upper ? v[high][e] : got;
            });
        });
    });
    Vec<8> r;
    unroll<8>([&](auto i) { r.set(i, v[i / 2][i % 2]); });
    return r;
}

// Stores a block's sums: through the epilogue to C, or to the workspace of partial sums. The tiles
// of the first columns store the row sums too.
template <class Tile, EpilogueOp F = EpilogueOp::plain, class Out>
__device__ __forceinline__ void store_tile(const SplitKOutput<Out>& r, const BlockTile& t,
                                           const typename Tile::SharedStorage& shared,
                                           const typename Tile::Accumulators& acc) {
    if (r.row_sums && t.n == 0)
        for (int row = threadIdx.x; row < Tile::BM && t.m + row < r.rows; row += Tile::kThreads) {
            float sum = shared.row_sum[0][row];
            for (int part = 1; part < Tile::kSumParts; ++part) sum += shared.row_sum[part][row];
            (r.split.uses_workspace() ? r.partial_row_sums(t.group, t.split)
                                      : r.row_sums + int64_t(t.group) * r.rows)[t.m + row] = sum;
        }
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int row0 = t.m + warp / Tile::kWarpsN * Tile::WM + lane / 4;
    const int col0 = t.n + warp % Tile::kWarpsN * Tile::WN + lane % 4 * 8;
    const Epilogue<Out> out = r.out.of_group(t.group, r.group_stride);
    float* partial = r.split.uses_workspace() ? r.partial(t.group, t.split) : nullptr;
    unroll<Tile::kTilesM>([&](auto m) {
        unroll<2>([&](auto half) {
            const int row = row0 + m * 16 + half * 8;
            unroll<Tile::WN / 32>([&](auto q) {
                const int col = col0 + q * 32;
                Vec<8> v;
                unroll<8>([&](auto i) { v.set(i, acc[m][q * 4 + i / 2][half * 2 + i % 2]); });
                v = eight_columns(v);
                if (row >= r.rows || col >= r.out.cols) return;
                if (partial)
                    store(partial + int64_t(row) * r.partial_ld() + col, v);
                else
                    store_epilogue<F>(out, row, col, v);
            });
        });
    });
}

}  // namespace wt::mma
