// mma.sync, ldmatrix, stmatrix, elect.sync: one meeting of a warp's 32 lanes for each, the work done once by the last.
// Layouts: kernels/ptx/mma_sync.h, ldmatrix.h.
//
// The meeting costs some 10 ns a lane, the m16n8k16 product itself 40 to 60 ns with AVX2.
#include <bit>
#include <cstring>

#include "host/vgpu/executor.h"
#include "vgpu/ptx.h"

namespace vgpu {
namespace {

typedef float V8 __attribute__((vector_size(32)));
typedef uint32_t U8 __attribute__((vector_size(32)));

constexpr uint32_t kTf32Lost = 0x1fff;  // bits of fp32 that tf32 has not

struct MmaOperands {
    float* d;
    const uint32_t* a;
    const uint32_t* b;
};

// D[16][8] += sum over k of A[16][k] B[k][8].
template <int kK>
inline void multiply(float (&d)[16][8], const float (&a)[16][kK], const float (&b)[kK][8]) {
    for (int half = 0; half < 16; half += 8) {  // 8 rows at a time: 8 of AVX2's 16 registers
        V8 sum[8];
        std::memcpy(sum, d[half], sizeof sum);
#pragma GCC unroll 16
        for (int k = 0; k < kK; ++k) {
            V8 row;
            std::memcpy(&row, b[k], sizeof row);
#pragma GCC unroll 8
            for (int m = 0; m < 8; ++m) sum[m] += a[half + m][k] * row;
        }
        std::memcpy(d[half], sum, sizeof sum);
    }
}

inline void gather_d(float (&d)[16][8], void* const* lanes) {
    for (int l = 0; l < 32; ++l) {
        const float* from = static_cast<const MmaOperands*>(lanes[l])->d;
        std::memcpy(&d[l / 4][l % 4 * 2], from, 8);
        std::memcpy(&d[l / 4 + 8][l % 4 * 2], from + 2, 8);
    }
}
inline void scatter_d(const float (&d)[16][8], void* const* lanes) {
    for (int l = 0; l < 32; ++l) {
        float* to = static_cast<const MmaOperands*>(lanes[l])->d;
        std::memcpy(to, &d[l / 4][l % 4 * 2], 8);
        std::memcpy(to + 2, &d[l / 4 + 8][l % 4 * 2], 8);
    }
}

void work_bf16(void* const* lanes, unsigned) {
    // Pairs along k as they lie in registers, then as floats: A's even and odd k apart.
    alignas(32) uint32_t a_pairs[16][8], b_pairs[8][8];
    alignas(32) float d[16][8], a[16][16], b[16][8];
    for (int l = 0; l < 32; ++l) {
        const MmaOperands& o = *static_cast<const MmaOperands*>(lanes[l]);
        const int g = l / 4, t = l % 4;
        a_pairs[g][t] = o.a[0];
        a_pairs[g + 8][t] = o.a[1];
        a_pairs[g][t + 4] = o.a[2];
        a_pairs[g + 8][t + 4] = o.a[3];
        b_pairs[t][g] = o.b[0];
        b_pairs[t + 4][g] = o.b[1];
    }
    gather_d(d, lanes);
    // The order of the sum is free: A as k = 0 2 4 .. 14, 1 3 .. 15, and B's rows likewise.
    const auto expand = [](const uint32_t (&pairs)[8], float* even, float* odd) {
        U8 p;
        std::memcpy(&p, pairs, sizeof p);
        const U8 low = p << 16, high = p & 0xffff0000u;
        std::memcpy(even, &low, sizeof low);
        std::memcpy(odd, &high, sizeof high);
    };
    for (int m = 0; m < 16; ++m) expand(a_pairs[m], a[m], a[m] + 8);
    for (int p = 0; p < 8; ++p) expand(b_pairs[p], b[p], b[p + 8]);
    multiply(d, a, b);
    scatter_d(d, lanes);
}

void work_tf32(void* const* lanes, unsigned) {
    alignas(32) uint32_t a[16][8], b[8][8];
    alignas(32) float d[16][8];
    uint32_t lost = 0;
    for (int l = 0; l < 32; ++l) {
        const MmaOperands& o = *static_cast<const MmaOperands*>(lanes[l]);
        const int g = l / 4, t = l % 4;
        a[g][t] = o.a[0];
        a[g + 8][t] = o.a[1];
        a[g][t + 4] = o.a[2];
        a[g + 8][t + 4] = o.a[3];
        b[t][g] = o.b[0];
        b[t + 4][g] = o.b[1];
        lost |= o.a[0] | o.a[1] | o.a[2] | o.a[3] | o.b[0] | o.b[1];
    }
    if (lost & kTf32Lost) [[unlikely]] {
        for (auto& row : a)
            for (uint32_t& v : row) v &= ~kTf32Lost;
        for (auto& row : b)
            for (uint32_t& v : row) v &= ~kTf32Lost;
    }
    gather_d(d, lanes);
    alignas(32) float fa[16][8], fb[8][8];
    std::memcpy(fa, a, sizeof fa);
    std::memcpy(fb, b, sizeof fb);
    multiply(d, fa, fb);
    scatter_d(d, lanes);
}

struct MatrixRows {
    void* row;
    uint32_t* r;  // the lane's registers
    int matrices;
    bool transpose;
};

// The 8x8 matrices of an ldmatrix or stmatrix as the rows in shared memory hold them.
using Matrices = uint16_t[4][8][8];

void work_ldmatrix(void* const* lanes, unsigned) {
    const MatrixRows& first = *static_cast<const MatrixRows*>(lanes[0]);
    Matrices m;
    for (int l = 0; l < 8 * first.matrices; ++l) std::memcpy(m[l / 8][l % 8], static_cast<const MatrixRows*>(lanes[l])->row, 16);
    for (int l = 0; l < 32; ++l) {
        uint32_t* r = static_cast<const MatrixRows*>(lanes[l])->r;
        const int g = l / 4, t = l % 4;
        for (int j = 0; j < first.matrices; ++j)
            r[j] = first.transpose ? m[j][2 * t][g] | static_cast<uint32_t>(m[j][2 * t + 1][g]) << 16
                                   : m[j][g][2 * t] | static_cast<uint32_t>(m[j][g][2 * t + 1]) << 16;
    }
}

void work_stmatrix(void* const* lanes, unsigned) {
    const MatrixRows& first = *static_cast<const MatrixRows*>(lanes[0]);
    Matrices m;
    for (int l = 0; l < 32; ++l) {
        const uint32_t* r = static_cast<const MatrixRows*>(lanes[l])->r;
        const int g = l / 4, t = l % 4;
        for (int j = 0; j < first.matrices; ++j) {
            const auto low = static_cast<uint16_t>(r[j]), high = static_cast<uint16_t>(r[j] >> 16);
            (first.transpose ? m[j][2 * t][g] : m[j][g][2 * t]) = low;
            (first.transpose ? m[j][2 * t + 1][g] : m[j][g][2 * t + 1]) = high;
        }
    }
    for (int l = 0; l < 8 * first.matrices; ++l) std::memcpy(static_cast<const MatrixRows*>(lanes[l])->row, m[l / 8][l % 8], 16);
}

// Lanes whose row is not asked for may bring any address.
void check_row(const void* row, int matrices, const char* what, Site site) {
    if (static_cast<int>(lane_id()) >= 8 * matrices) return;
    Worker& w = *context.worker;
    const auto offset = reinterpret_cast<uintptr_t>(row) - reinterpret_cast<uintptr_t>(context.shared);
    if (offset % 16 == 0 && offset + 16 <= w.grid->shared && offset < w.grid->shared) [[likely]] return;
    char text[160];
    if (offset < w.grid->shared && offset % 16)
        std::snprintf(text, sizeof text, "%s: lane %u's row is at byte %zu of shared memory, not a multiple of 16, at ", what, lane_id(), static_cast<size_t>(offset));
    else
        std::snprintf(text, sizeof text, "%s: lane %u's row is not in the block's %zu bytes of shared memory, at ", what, lane_id(), w.grid->shared);
    note_failure(w, offset < w.grid->shared && offset % 16 ? 716 : 700, text + describe_site(site));
    abandon(w);
}

void work_elect(void* const* lanes, unsigned mask) {
    // Which lane is free to choose, but always the same of a mask.
    const uint64_t seed = context.worker->seed;
    unsigned skip = seed ? static_cast<unsigned>((seed * 0x9e3779b97f4a7c15u >> 32) + mask) % static_cast<unsigned>(std::popcount(mask)) : 0;
    unsigned lane = 0;
    for (unsigned l = 0; l < 32; ++l)
        if (mask >> l & 1 && skip-- == 0) lane = l;
    for (unsigned l = 0; l < 32; ++l)
        if (mask >> l & 1) *static_cast<bool*>(lanes[l]) = l == lane;
}

}  // namespace

void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site) {
    MmaOperands mine{d, a, b};
    whole_warp(&mine, work_bf16, "mma.sync.m16n8k16", site);
}

void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site) {
    if (checking() && ((a[0] | a[1] | a[2] | a[3] | b[0] | b[1]) & kTf32Lost)) [[unlikely]]
        fail(719, "mma.sync of tf32 with an operand whose low 13 bits are not zero (to_tf32 rounds), which the PTX ISA does not define,", site);
    MmaOperands mine{d, a, b};
    whole_warp(&mine, work_tf32, "mma.sync.m16n8k8", site);
}

uint32_t to_tf32(float f) {
    const uint32_t bits = std::bit_cast<uint32_t>(f), magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return 0x7fffffffu & ~kTf32Lost;  // NaN, as cvt gives it
    if (magnitude == 0x7f800000u) return bits;
    return (bits + 0x1000u) & ~kTf32Lost;  // halves away from zero; overflow runs into infinity
}

void ldmatrix(uint32_t* r, int matrices, bool transpose, const void* row, Site site) {
    check_row(row, matrices, "ldmatrix", site);
    MatrixRows mine{const_cast<void*>(row), r, matrices, transpose};
    whole_warp(&mine, work_ldmatrix, "ldmatrix", site);
}

void stmatrix(void* row, int matrices, bool transpose, const uint32_t* r, Site site) {
    check_row(row, matrices, "stmatrix", site);
    MatrixRows mine{row, const_cast<uint32_t*>(r), matrices, transpose};
    whole_warp(&mine, work_stmatrix, "stmatrix", site);
}

bool elect_one(Site site) {
    bool mine = false;
    whole_warp(&mine, work_elect, "elect.sync", site);
    return mine;
}

}  // namespace vgpu
