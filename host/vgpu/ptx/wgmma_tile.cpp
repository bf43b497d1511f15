// The dense work of wgmma: operands from swizzled shared memory into panels of floats, and their
// product.
//
// Panels hold 16 rows of A, or 16 columns of B, for each k: [mn / 16][k][16]. The inner product
// keeps 8 sums of a vector in registers, which is as many as two multiply-adds a cycle of latency 4
// need; 16 with AVX-512, where 8 would load as often as they add.
#include <algorithm>
#include <cstring>

#include "host/vgpu/ptx/wgmma.h"

namespace vgpu {
namespace {

#if defined(__AVX512F__)
constexpr int kVector = 16;
#elif defined(__AVX__)
constexpr int kVector = 8;
#else
constexpr int kVector = 4;
#endif
typedef float Vector __attribute__((vector_size(4 * kVector), may_alias));
typedef uint32_t U4 __attribute__((vector_size(16)));
typedef uint16_t H8 __attribute__((vector_size(16)));

constexpr int kMostK = 64;
constexpr int kElementK[] = {16, 8};  // along k, of bf16 and tf32
constexpr uint32_t kTf32Kept = ~0x1fffu;

struct alignas(64) Scratch {
    float a[kTileRows / kPanel][kMostK][kPanel];
    float b[256 / kPanel][kMostK][kPanel];
};

// ---- operands -------------------------------------------------------------------------------

inline uint32_t swizzle(uint32_t address, uint32_t span) {
    return address ^ ((address >> 7 & (span / 16 - 1)) << 4);
}

// Where 16 bytes of the operand begin: rows of K-major operands hold k, chunk c of row `line` is
// bytes 16 c .. of it; of MN-major ones each k is a line of m or n.
[[gnu::always_inline]] inline uint32_t chunk_address(const Operand& o, uint32_t line,
                                                     uint32_t chunk) {
    uint32_t offset;
    if (o.span == 16)
        offset = o.mn_major ? chunk * o.stride + line / 8 * o.leading + line % 8 * 16
                            : line / 8 * o.stride + line % 8 * 16 + chunk * o.leading;
    else if (o.mn_major)
        offset = chunk / (o.span / 16) * o.leading + chunk % (o.span / 16) * 16 +
                 line / 8 * o.stride + line % 8 * o.span;
    else
        offset = line / 8 * o.stride + line % 8 * o.span + chunk * 16;
    return swizzle(o.start + offset, o.span);
}

template <class V>
inline V load(const void* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
inline void store(float* p, U4 v) { std::memcpy(p, &v, sizeof v); }

// Eight bf16 as floats.
inline void expand(float* to, H8 v) {
    const H8 zero{};
    store(to, reinterpret_cast<U4>(__builtin_shufflevector(zero, v, 0, 8, 1, 9, 2, 10, 3, 11)));
    store(to + 4,
          reinterpret_cast<U4>(__builtin_shufflevector(zero, v, 4, 12, 5, 13, 6, 14, 7, 15)));
}

// Rows of 8 bf16 along k, 8 of them, to 8 k of 8 floats.
inline void transpose_bf16(float* to, const H8 (&r)[8]) {
    H8 p[8], q[8];
    for (int i = 0; i < 4; ++i) {  // pairs of rows i, i + 4
        p[2 * i] = __builtin_shufflevector(r[i], r[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
        p[2 * i + 1] = __builtin_shufflevector(r[i], r[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
    }
    for (int i = 0; i < 2; ++i)  // rows i, i + 2, i + 4, i + 6
        for (int h = 0; h < 2; ++h) {
            q[4 * i + 2 * h] =
                __builtin_shufflevector(p[2 * i + h], p[2 * i + 4 + h], 0, 8, 1, 9, 2, 10, 3, 11);
            q[4 * i + 2 * h + 1] =
                __builtin_shufflevector(p[2 * i + h], p[2 * i + 4 + h], 4, 12, 5, 13, 6, 14, 7, 15);
        }
    for (int h = 0; h < 4; ++h) {
        expand(to + 2 * h * kPanel,
               __builtin_shufflevector(q[h], q[h + 4], 0, 8, 1, 9, 2, 10, 3, 11));
        expand(to + (2 * h + 1) * kPanel,
               __builtin_shufflevector(q[h], q[h + 4], 4, 12, 5, 13, 6, 14, 7, 15));
    }
}

// Rows of 4 tf32 along k, 4 of them, to 4 k of 4.
inline void transpose_tf32(float* to, const U4 (&r)[4]) {
    const U4 p0 = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5),
             p1 = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
    const U4 p2 = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7),
             p3 = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
    store(to, __builtin_shufflevector(p0, p1, 0, 1, 4, 5) & kTf32Kept);
    store(to + kPanel, __builtin_shufflevector(p0, p1, 2, 3, 6, 7) & kTf32Kept);
    store(to + 2 * kPanel, __builtin_shufflevector(p2, p3, 0, 1, 4, 5) & kTf32Kept);
    store(to + 3 * kPanel, __builtin_shufflevector(p2, p3, 2, 3, 6, 7) & kTf32Kept);
}

// `mn` rows or columns of one wgmma's operand into k0 .. of the panels.
void unpack(float (*panels)[kMostK][kPanel], int k0, const Operand& o, int mn, WgmmaType type,
            const char* shared) {
    if (type == WgmmaType::tf32) {
        for (int at = 0; at < mn; at += 4)
            for (int c = 0; c < 2; ++c) {
                U4 rows[4];
                for (int r = 0; r < 4; ++r)
                    rows[r] = load<U4>(shared + chunk_address(o, static_cast<uint32_t>(at + r),
                                                              static_cast<uint32_t>(c)));
                transpose_tf32(&panels[at / kPanel][k0 + 4 * c][at % kPanel], rows);
            }
    } else if (o.mn_major) {
        for (int c = 0; c < mn / 8; ++c)
            for (int k = 0; k < 16; ++k)
                expand(&panels[c / 2][k0 + k][c % 2 * 8],
                       load<H8>(shared + chunk_address(o, static_cast<uint32_t>(k),
                                                       static_cast<uint32_t>(c))));
    } else {
        for (int at = 0; at < mn; at += 8)
            for (int c = 0; c < 2; ++c) {
                H8 rows[8];
                for (int r = 0; r < 8; ++r)
                    rows[r] = load<H8>(shared + chunk_address(o, static_cast<uint32_t>(at + r),
                                                              static_cast<uint32_t>(c)));
                transpose_bf16(&panels[at / kPanel][k0 + 8 * c][at % kPanel], rows);
            }
    }
}

// ---- product --------------------------------------------------------------------------------

constexpr int kAcross = kPanel / kVector, kRows = 8 / kAcross;
// side by side, as registers allow: each element of A is loaded once for them
constexpr int kMostPanels = kVector == 16 ? 2 : 1;

// kPanels panels of the tile: 64 x 16 each. Loads and stores are of vectors, and every loop over
// `sum` is unrolled: memcpy, or an index that is not a constant, would keep it in memory.
template <bool kAccumulate, int kPanels>
void multiply_panels(float* tile, const float (*a)[kMostK][kPanel],
                     const float (*b)[kMostK][kPanel], int k) {
    const auto at_tile = [&](int p, int m, int j) {
        return reinterpret_cast<Vector*>(tile + p * kTileRows * kPanel + m * kPanel) + j;
    };
    for (int m = 0; m < kTileRows; m += kRows) {
        Vector sum[kPanels][kRows][kAcross];
#pragma GCC unroll 2
        for (int p = 0; p < kPanels; ++p)
#pragma GCC unroll 8
            for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
                for (int j = 0; j < kAcross; ++j)
                    sum[p][i][j] = kAccumulate ? *at_tile(p, m + i, j) : Vector{};
        const float(*row)[kPanel] = a[m / kPanel];
        for (int at = 0; at < k; ++at) {
            const float* rows = row[at] + m % kPanel;
            Vector columns[kPanels][kAcross];
#pragma GCC unroll 2
            for (int p = 0; p < kPanels; ++p)
#pragma GCC unroll 4
                for (int j = 0; j < kAcross; ++j)
                    columns[p][j] = reinterpret_cast<const Vector*>(b[p][at])[j];
#pragma GCC unroll 8
            for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
                for (int p = 0; p < kPanels; ++p)
#pragma GCC unroll 4
                    for (int j = 0; j < kAcross; ++j) sum[p][i][j] += rows[i] * columns[p][j];
        }
#pragma GCC unroll 2
        for (int p = 0; p < kPanels; ++p)
#pragma GCC unroll 8
            for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
                for (int j = 0; j < kAcross; ++j) *at_tile(p, m + i, j) = sum[p][i][j];
    }
}

float* panel_of(float* tile, int j) { return tile + j / 2 * (kTileRows * kPanel) + j % 2 * 8; }

}  // namespace

std::vector<uint32_t> chunks_of(const Operand& o, int mn, WgmmaType type) {
    // As unpack() goes through them.
    const auto lines = static_cast<uint32_t>(o.mn_major ? kElementK[static_cast<int>(type)] : mn);
    const auto chunks = static_cast<uint32_t>(o.mn_major ? mn / 8 : 2);
    std::vector<uint32_t> at;
    at.reserve(size_t{lines} * chunks);
    for (uint32_t line = 0; line < lines; ++line)
        for (uint32_t chunk = 0; chunk < chunks; ++chunk)
            at.push_back(chunk_address(o, line, chunk));
    return at;
}

Operand decode(uint64_t d, bool mn_major) {
    const auto field = [&](int at) { return static_cast<uint32_t>(d >> at & 0x3fff) << 4; };
    const uint32_t mode = static_cast<uint32_t>(d >> 62);
    return {field(0), field(16), field(32), mode ? 256u >> mode : 16u, mn_major};
}

const char* refuse(uint64_t d, bool mn_major, int mn, WgmmaType type, size_t shared) {
    const Operand o = decode(d, mn_major);
    if (d >> 49 & 7) return "its base offset is not 0";
    if (mn_major && type == WgmmaType::tf32) return "tf32 operands are K-major only";
    if (o.span > 16) {
        const uint32_t row = mn_major ? std::min(static_cast<uint32_t>(mn) * 2, o.span) : 32;
        if (o.start % o.span + row > o.span) return "it begins within a swizzled row and leaves it";
    }
    const uint32_t lines = mn_major ? 16 : static_cast<uint32_t>(mn),
                   chunks = mn_major ? static_cast<uint32_t>(mn / 8) : 2;
    uint32_t last = 0;
    for (uint32_t line :
         {0u, lines - 1})  // strides may be what they like, but they are not negative
        for (uint32_t chunk : {0u, chunks - 1})
            last = std::max(last, chunk_address(o, line, chunk) / o.span * o.span + o.span);
    return last > shared ? "it reaches beyond the block's shared memory" : nullptr;
}

void multiply(float* tile, int n, bool accumulate, const Product* products, int count,
              const char* shared, bool same_b) {
    static thread_local std::unique_ptr<Scratch> scratch;
    if (!scratch) scratch.reset(new Scratch);
    Scratch& s = *scratch;
    int k = 0;
    for (int i = 0; i < count; ++i, k += kElementK[static_cast<int>(products[0].type)]) {
        unpack(s.a, k, products[i].a, kTileRows, products[i].type, shared);
        if (!same_b) unpack(s.b, k, products[i].b, n, products[i].type, shared);
    }
    const int panels = (n + kPanel - 1) / kPanel;
    for (int p = 0; p < panels;) {
        float* to = tile + p * kTileRows * kPanel;
        const bool wide = p + kMostPanels <= panels;
        if (wide)
            accumulate ? multiply_panels<true, kMostPanels>(to, s.a, s.b + p, k)
                       : multiply_panels<false, kMostPanels>(to, s.a, s.b + p, k);
        else
            accumulate ? multiply_panels<true, 1>(to, s.a, s.b + p, k)
                       : multiply_panels<false, 1>(to, s.a, s.b + p, k);
        p += wide ? kMostPanels : 1;
    }
}

// Four lanes' 16 bytes of 8 columns are 8 columns of two rows, 8 apart (kernels/ptx/wgmma.h).
void gather(float* tile, int n, float* const* d) {
    for (int j = 0; j < n / 8; ++j) {
        float* to = panel_of(tile, j);
        for (int g = 0; g < 32; ++g, d += 4) {
            const int row = g / 8 * 16 + g % 8;
            const U4 d0 = load<U4>(d[0] + 4 * j), d1 = load<U4>(d[1] + 4 * j),
                     d2 = load<U4>(d[2] + 4 * j), d3 = load<U4>(d[3] + 4 * j);
            store(to + row * kPanel, __builtin_shufflevector(d0, d1, 0, 1, 4, 5));
            store(to + row * kPanel + 4, __builtin_shufflevector(d2, d3, 0, 1, 4, 5));
            store(to + (row + 8) * kPanel, __builtin_shufflevector(d0, d1, 2, 3, 6, 7));
            store(to + (row + 8) * kPanel + 4, __builtin_shufflevector(d2, d3, 2, 3, 6, 7));
        }
        d -= kWarpgroup;
    }
}

void scatter(const float* tile, int n, float* const* d) {
    for (int j = 0; j < n / 8; ++j) {
        const float* from = panel_of(const_cast<float*>(tile), j);
        for (int g = 0; g < 32; ++g) {
            const int row = g / 8 * 16 + g % 8;
            const U4 a = load<U4>(from + row * kPanel), b = load<U4>(from + row * kPanel + 4);
            const U4 c = load<U4>(from + (row + 8) * kPanel),
                     e = load<U4>(from + (row + 8) * kPanel + 4);
            store(d[4 * g] + 4 * j, __builtin_shufflevector(a, c, 0, 1, 4, 5));
            store(d[4 * g + 1] + 4 * j, __builtin_shufflevector(a, c, 2, 3, 6, 7));
            store(d[4 * g + 2] + 4 * j, __builtin_shufflevector(b, e, 0, 1, 4, 5));
            store(d[4 * g + 3] + 4 * j, __builtin_shufflevector(b, e, 2, 3, 6, 7));
        }
    }
}

void gather_thread(float* tile, int n, const float* d, unsigned thread) {
    const unsigned g = thread / 4, t = thread % 4, row = g / 8 * 16 + g % 8;
    for (int j = 0; j < n / 8; ++j) {
        float* to = panel_of(tile, j) + row * kPanel + 2 * t;
        std::memcpy(to, d + 4 * j, 8);
        std::memcpy(to + 8 * kPanel, d + 4 * j + 2, 8);
    }
}

}  // namespace vgpu
