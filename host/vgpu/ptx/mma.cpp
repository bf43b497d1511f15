// mma.sync, ldmatrix, stmatrix, elect.sync: one meeting of a warp's 32 lanes for each, the work
// done once by the last. Layouts: kernels/ptx/mma_sync.h, ldmatrix.h.
//
// The meeting costs some 10 ns a lane, the m16n8k16 product itself 40 to 60 ns with AVX2.
#include <algorithm>
#include <bit>
#include <cstring>

#include "host/vgpu/exec/core.h"
#include "vgpu/ptx.h"

namespace vgpu {
namespace {

typedef float F8 __attribute__((vector_size(32), may_alias));
typedef uint32_t U4 __attribute__((vector_size(16)));

constexpr uint32_t kTf32Lost = 0x1fff;  // bits of fp32 that tf32 has not

struct MmaOperands {
    float* d;
    const uint32_t* a;
    const uint32_t* b;
    int m, n;  // fragments of A and B: d[m][n][4], a[m][4], b[n][2]
};

inline U4 load(const void* p) {
    U4 v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
inline void store(void* p, U4 v) { std::memcpy(p, &v, sizeof v); }

#define VGPU_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)

// Fragments go to and from tiles by 16-byte loads and shuffles in registers: 4-byte stores that a
// vector load picks up again would wait for the store buffer, and cost more than the product. What
// a tile's registers become is f's affair: f(register, to) stores four of a row.

// A: registers [g][t], [g + 8][t], [g][t + 4], [g + 8][t + 4] of a tile of 16 x 8.
template <class F>
inline void gather_a(void* const* lanes, int fragment, F f) {
    for (int g = 0; g < 8; ++g) {
        const auto a = [&](int t) {
            return load(static_cast<const MmaOperands*>(lanes[4 * g + t])->a + 4 * fragment);
        };
        const U4 r0 = a(0), r1 = a(1), r2 = a(2), r3 = a(3);
        const U4 p0 = VGPU_SHUFFLE(r0, r1, 0, 4, 1, 5), p1 = VGPU_SHUFFLE(r2, r3, 0, 4, 1, 5);
        const U4 p2 = VGPU_SHUFFLE(r0, r1, 2, 6, 3, 7), p3 = VGPU_SHUFFLE(r2, r3, 2, 6, 3, 7);
        f(g, 0, VGPU_SHUFFLE(p0, p1, 0, 1, 4, 5));
        f(g + 8, 0, VGPU_SHUFFLE(p0, p1, 2, 3, 6, 7));
        f(g, 4, VGPU_SHUFFLE(p2, p3, 0, 1, 4, 5));
        f(g + 8, 4, VGPU_SHUFFLE(p2, p3, 2, 3, 6, 7));
    }
}

// B: registers [t][g], [t + 4][g] of a tile of 8 x 8.
template <class F>
inline void gather_b(void* const* lanes, int fragment, F f) {
    for (int t = 0; t < 4; ++t) {
        U4 q[4];
        for (int i = 0; i < 4; ++i) {
            uint64_t two[2];
            for (int j = 0; j < 2; ++j)
                std::memcpy(
                    &two[j],
                    static_cast<const MmaOperands*>(lanes[8 * i + 4 * j + t])->b + 2 * fragment, 8);
            q[i] = load(two);
        }
        for (int h = 0; h < 2; ++h) {
            f(t, 4 * h, VGPU_SHUFFLE(q[2 * h], q[2 * h + 1], 0, 2, 4, 6));
            f(t + 4, 4 * h, VGPU_SHUFFLE(q[2 * h], q[2 * h + 1], 1, 3, 5, 7));
        }
    }
}

// D of one fragment, or of two side by side.
using TileD = float[16][16];
inline void gather_d(TileD& d, void* const* lanes, int fragment, int count) {
    for (int g = 0; g < 8; ++g)
        for (int j = 0; j < count; ++j) {
            const auto r = [&](int t) {
                return load(static_cast<const MmaOperands*>(lanes[4 * g + t])->d +
                            4 * (fragment + j));
            };
            const U4 d0 = r(0), d1 = r(1), d2 = r(2), d3 = r(3);
            store(&d[g][8 * j], VGPU_SHUFFLE(d0, d1, 0, 1, 4, 5));
            store(&d[g][8 * j + 4], VGPU_SHUFFLE(d2, d3, 0, 1, 4, 5));
            store(&d[g + 8][8 * j], VGPU_SHUFFLE(d0, d1, 2, 3, 6, 7));
            store(&d[g + 8][8 * j + 4], VGPU_SHUFFLE(d2, d3, 2, 3, 6, 7));
        }
}
inline void scatter_d(const TileD& d, void* const* lanes, int fragment, int count) {
    for (int g = 0; g < 8; ++g)
        for (int j = 0; j < count; ++j) {
            const U4 a = load(&d[g][8 * j]), b = load(&d[g][8 * j + 4]), c = load(&d[g + 8][8 * j]),
                     e = load(&d[g + 8][8 * j + 4]);
            const auto to = [&](int t, U4 v) {
                store(static_cast<const MmaOperands*>(lanes[4 * g + t])->d + 4 * (fragment + j), v);
            };
            to(0, VGPU_SHUFFLE(a, c, 0, 1, 4, 5));
            to(1, VGPU_SHUFFLE(a, c, 2, 3, 6, 7));
            to(2, VGPU_SHUFFLE(b, e, 0, 1, 4, 5));
            to(3, VGPU_SHUFFLE(b, e, 2, 3, 6, 7));
        }
}

// D[16][8 kAcross] += sum over k of A[16][k] B[k][..]: 8 sums of a vector in registers. Loads are
// of vectors and loops over `sum` unrolled, else it would live in memory.
template <int kAcross, int kK>
inline void multiply(TileD& d, const float (&a)[16][kK], const float (&b)[kK][16]) {
    constexpr int kRows = 8 / kAcross;
    for (int m = 0; m < 16; m += kRows) {
        F8 sum[kRows][kAcross];
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
            for (int j = 0; j < kAcross; ++j) sum[i][j] = reinterpret_cast<const F8*>(d[m + i])[j];
        for (int k = 0; k < kK; ++k) {
            F8 row[kAcross];
#pragma GCC unroll 2
            for (int j = 0; j < kAcross; ++j) row[j] = reinterpret_cast<const F8*>(b[k])[j];
#pragma GCC unroll 8
            for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
                for (int j = 0; j < kAcross; ++j) sum[i][j] += a[m + i][k] * row[j];
        }
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
            for (int j = 0; j < kAcross; ++j) reinterpret_cast<F8*>(d[m + i])[j] = sum[i][j];
    }
}

// The products of a tile: B's fragments are unpacked once, A's as they come; D's go two by two.
template <int kK, class UnpackA, class UnpackB>
inline void work_tile(void* const* lanes, UnpackA unpack_a, UnpackB unpack_b) {
    alignas(32) float d[16][16], a[16][kK], b[kMmaTile / 2][kK][16];
    const auto [unused_d, unused_a, unused_b, rows, columns] =
        *static_cast<const MmaOperands*>(lanes[0]);
    for (int n = 0; n < columns; ++n)
        gather_b(lanes, n,
                 [&](int i, int column, U4 v) { unpack_b(b[n / 2], i, n % 2 * 8 + column, v); });
    for (int m = 0; m < rows; ++m) {
        gather_a(lanes, m, [&](int row, int i, U4 v) { unpack_a(a, row, i, v); });
        for (int n = 0; n < columns; n += 2) {
            const int fragment = m * columns + n, count = n + 1 < columns ? 2 : 1;
            gather_d(d, lanes, fragment, count);
            count == 2 ? multiply<2>(d, a, b[n / 2]) : multiply<1>(d, a, b[n / 2]);
            scatter_d(d, lanes, fragment, count);
        }
    }
}

// Registers are pairs along k. The order of the sum is free: A's columns are k = 0 2 4 .. 14, 1 3
// .. 15 here, and so are B's rows.
void work_bf16(void* const* lanes, unsigned) {
    work_tile<16>(
        lanes,
        [](float(&a)[16][16], int row, int pair, U4 v) {
            store(&a[row][pair], v << 16);
            store(&a[row][pair + 8], v & 0xffff0000u);
        },
        [](float(&b)[16][16], int pair, int column, U4 v) {
            store(&b[pair][column], v << 16);
            store(&b[pair + 8][column], v & 0xffff0000u);
        });
}

void work_tf32(void* const* lanes, unsigned) {
    work_tile<8>(
        lanes, [](float(&a)[16][8], int row, int k, U4 v) { store(&a[row][k], v & ~kTf32Lost); },
        [](float(&b)[8][16], int k, int column, U4 v) { store(&b[k][column], v & ~kTf32Lost); });
}

struct LoadMatrices {
    const void* const* rows;
    uint32_t* r;
    int count, matrices;
};
struct StoreMatrices {
    void* const* rows;
    const uint32_t* r;
    int count, matrices;
};

// The 8x8 matrices of an instruction as the rows in shared memory hold them.
using Matrices = uint16_t[4][8][8];

template <bool kTranspose>
void work_ldmatrix(void* const* lanes, unsigned) {
    const auto of = [&](int l) -> const LoadMatrices& {
        return *static_cast<const LoadMatrices*>(lanes[l]);
    };
    const auto [rows_unused, r_unused, count, matrices] = of(0);
    for (int i = 0; i < count; ++i) {
        alignas(16) Matrices m;
        for (int l = 0; l < 8 * matrices; ++l) std::memcpy(m[l / 8][l % 8], of(l).rows[i], 16);
        for (int l = 0; l < 32; ++l) {
            uint32_t* r = of(l).r + i * matrices;
            const int g = l / 4, t = l % 4;
            for (int j = 0; j < matrices; ++j) {
                if constexpr (kTranspose)
                    r[j] = m[j][2 * t][g] | static_cast<uint32_t>(m[j][2 * t + 1][g]) << 16;
                else
                    std::memcpy(&r[j], &m[j][g][2 * t], 4);
            }
        }
    }
}

template <bool kTranspose>
void work_stmatrix(void* const* lanes, unsigned) {
    const auto of = [&](int l) -> const StoreMatrices& {
        return *static_cast<const StoreMatrices*>(lanes[l]);
    };
    // g++ takes it for more
    const int count = of(0).count, matrices = std::min(of(0).matrices, 4);
    for (int i = 0; i < count; ++i) {
        Matrices m;
        for (int l = 0; l < 32; ++l) {
            const uint32_t* r = of(l).r + i * matrices;
            const int g = l / 4, t = l % 4;
            for (int j = 0; j < matrices; ++j) {
                if constexpr (kTranspose)
                    m[j][2 * t][g] = static_cast<uint16_t>(r[j]),
                             m[j][2 * t + 1][g] = static_cast<uint16_t>(r[j] >> 16);
                else
                    std::memcpy(&m[j][g][2 * t], &r[j], 4);
            }
        }
        for (int l = 0; l < 8 * matrices; ++l) std::memcpy(of(l).rows[i], m[l / 8][l % 8], 16);
    }
}

// Lanes whose row is not asked for may bring any address.
void check_row(const void* row, int matrices, const char* what, Races::Kind kind, Site site) {
    if (static_cast<int>(lane_id()) >= 8 * matrices) return;
    Core& core = *context.core;
    const auto offset =
        reinterpret_cast<uintptr_t>(row) - reinterpret_cast<uintptr_t>(context.shared);
    if (offset % 16 == 0 && offset + 16 <= core.grid->shared && offset < core.grid->shared)
        [[likely]] {
        if (core.races) core.races->access(row, 16, kind, core.races->place(site));
        return;
    }
    char text[160];
    if (offset < core.grid->shared && offset % 16)
        std::snprintf(
            text, sizeof text,
            "%s: lane %u's row is at byte %zu of shared memory, not a multiple of 16, at ", what,
            lane_id(), static_cast<size_t>(offset));
    else
        std::snprintf(text, sizeof text,
                      "%s: lane %u's row is not in the block's %zu bytes of shared memory, at ",
                      what, lane_id(), core.grid->shared);
    note_failure(core, offset < core.grid->shared && offset % 16 ? 716 : 700,
                 text + describe_site(site));
    abandon(core);
}

void work_elect(void* const* lanes, unsigned mask) {
    // Which lane is free to choose, but always the same of a mask.
    const uint64_t seed = context.core->seed;
    unsigned skip = seed ? static_cast<unsigned>((seed * 0x9e3779b97f4a7c15u >> 32) + mask) %
                               static_cast<unsigned>(std::popcount(mask))
                         : 0;
    unsigned lane = 0;
    for (unsigned l = 0; l < 32; ++l)
        if (mask >> l & 1 && skip-- == 0) lane = l;
    for (unsigned l = 0; l < 32; ++l)
        if (mask >> l & 1) *static_cast<bool*>(lanes[l]) = l == lane;
}

}  // namespace

void mma_m16n8k16_bf16(float* d, const uint32_t* a, const uint32_t* b, int m, int n, Site site) {
    MmaOperands mine{d, a, b, m, n};
    whole_warp(&mine, work_bf16, "mma.sync.m16n8k16", site);
}

void mma_m16n8k8_tf32(float* d, const uint32_t* a, const uint32_t* b, int m, int n, Site site) {
    if (checking()) {
        uint32_t bits = 0;
        for (int i = 0; i < 4 * m; ++i) bits |= a[i];
        for (int i = 0; i < 2 * n; ++i) bits |= b[i];
        if (bits & kTf32Lost)
            fail(
                719,
                "mma.sync of tf32 with an operand whose low 13 bits are not zero (to_tf32 rounds), which the PTX ISA does not define,",
                site);
    }
    MmaOperands mine{d, a, b, m, n};
    whole_warp(&mine, work_tf32, "mma.sync.m16n8k8", site);
}

uint32_t to_tf32(float f) {
    const uint32_t bits = std::bit_cast<uint32_t>(f), magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return 0x7fffffffu & ~kTf32Lost;  // NaN, as cvt gives it
    if (magnitude == 0x7f800000u) return bits;
    return (bits + 0x1000u) & ~kTf32Lost;  // halves away from zero; overflow runs into infinity
}

void ldmatrix(uint32_t* r, const void* const* rows, int count, int matrices, bool transpose,
              Site site) {
    for (int i = 0; i < count; ++i)
        check_row(rows[i], matrices, "ldmatrix", Races::Kind::read, site);
    LoadMatrices mine{rows, r, count, matrices};
    whole_warp(&mine, transpose ? work_ldmatrix<true> : work_ldmatrix<false>, "ldmatrix", site);
}

void stmatrix(void* const* rows, int count, int matrices, bool transpose, const uint32_t* r,
              Site site) {
    for (int i = 0; i < count; ++i)
        check_row(rows[i], matrices, "stmatrix", Races::Kind::write, site);
    StoreMatrices mine{rows, r, count, matrices};
    whole_warp(&mine, transpose ? work_stmatrix<true> : work_stmatrix<false>, "stmatrix", site);
}

bool elect_one(Site site) {
    bool mine = false;
    whole_warp(&mine, work_elect, "elect.sync", site);
    return mine;
}

}  // namespace vgpu
