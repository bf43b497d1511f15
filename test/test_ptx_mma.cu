// mma.sync and ldmatrix against brute force. Operands are integers that every sum of them holds
// exactly, so results must be equal, whatever the order of the sum. Fragments are filled and read
// by the tables of the PTX ISA, spelled out element by element: the same sources check the virtual
// GPU and the hardware.
#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "host/cuda/buffer.h"
#include "host/cuda/stream.h"
#include "kernels/common/dtype.h"
#include "kernels/launch.h"
#include "kernels/ptx/ldmatrix.h"
#include "kernels/ptx/mma_sync.h"
#include "test/seeds.h"

namespace {

using wt::bf16;
using wt::DeviceBuffer;
using wt::Stream;

// One warp: D[16][8] += A[16][16] B[16][8], `times` over.
__global__ void one_bf16(float* d, const bf16* a, const bf16* b, int times) {
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    bf16 af[8], bf[4];
    float df[4];
    for (int i = 0; i < 8; ++i) af[i] = a[(g + 8 * (i / 2 % 2)) * 16 + 2 * t + i % 2 + 8 * (i / 4)];
    for (int i = 0; i < 4; ++i) bf[i] = b[(2 * t + i % 2 + 8 * (i / 2)) * 8 + g];
    for (int i = 0; i < 4; ++i) df[i] = d[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2];
    uint32_t ar[4], br[2];
    std::memcpy(ar, af, sizeof ar);
    std::memcpy(br, bf, sizeof br);
    for (int i = 0; i < times; ++i) wt::ptx::mma_m16n8k16_bf16(df, ar, br);
    for (int i = 0; i < 4; ++i) d[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = df[i];
}

__global__ void one_tf32(float* d, const float* a, const float* b, int times) {
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    uint32_t ar[4], br[2];
    float df[4];
    for (int i = 0; i < 4; ++i)
        ar[i] = wt::ptx::to_tf32(a[(g + 8 * (i % 2)) * 8 + t + 4 * (i / 2)]);
    for (int i = 0; i < 2; ++i) br[i] = wt::ptx::to_tf32(b[(t + 4 * i) * 8 + g]);
    for (int i = 0; i < 4; ++i) df[i] = d[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2];
    for (int i = 0; i < times; ++i) wt::ptx::mma_m16n8k8_tf32(df, ar, br);
    for (int i = 0; i < 4; ++i) d[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = df[i];
}

__global__ void round_tf32(uint32_t* out, const float* in, int n) {
    for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x))
        out[i] = wt::ptx::to_tf32(in[i]);
}

struct MatrixStorage {
    // 64 rows of 16 bytes, shuffled among the matrices' rows
    alignas(16) uint16_t element[64][8];
};

// Every warp loads four matrices whose row r of matrix j is row (8 j + r) * 5 % 32 + 32 (warp % 2)
// of shared memory.
__global__ void load_matrices(uint32_t* out, int matrices, bool transpose) {
    MatrixStorage& s = wt::shared_storage<MatrixStorage>();
    for (int i = static_cast<int>(threadIdx.x); i < 512; i += static_cast<int>(blockDim.x))
        s.element[i / 8][i % 8] = static_cast<uint16_t>(1000 + i);
    __syncthreads();
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const void* row = s.element[lane * 5 % 32 + warp % 2 * 32];
    uint32_t r1[1] = {0}, r2[2] = {0, 0}, r4[4] = {0, 0, 0, 0};
    if (matrices == 1) {
        if (transpose)
            wt::ptx::ldmatrix_x1_trans(r1, row);
        else
            wt::ptx::ldmatrix_x1(r1, row);
        out[threadIdx.x] = r1[0];
    } else if (matrices == 2) {
        if (transpose)
            wt::ptx::ldmatrix_x2_trans(r2, row);
        else
            wt::ptx::ldmatrix_x2(r2, row);
        for (int j = 0; j < 2; ++j) out[threadIdx.x * 2 + j] = r2[j];
    } else if (matrices == 8) {  // two of x4, the second one's rows in reverse
        const void* const rows[2] = {row, s.element[(31 - lane) * 5 % 32 + warp % 2 * 32]};
        uint32_t r8[2][4];
        if (transpose)
            wt::ptx::ldmatrix_x4_tile<true>(r8, rows);
        else
            wt::ptx::ldmatrix_x4_tile<false>(r8, rows);
        for (int j = 0; j < 8; ++j) out[threadIdx.x * 8 + j] = r8[j / 4][j % 4];
    } else {
        if (transpose)
            wt::ptx::ldmatrix_x4_trans(r4, row);
        else
            wt::ptx::ldmatrix_x4(r4, row);
        for (int j = 0; j < 4; ++j) out[threadIdx.x * 4 + j] = r4[j];
    }
}

struct WarpTileStorage {
    alignas(16) bf16 a[32][24];  // [m][k], a row of 48 bytes: ldmatrix without bank conflicts
    alignas(16) bf16 b[16][24];  // [k][n]: loaded transposed
};

// Warps of a 32x16 tile with k = 16: fragments by ldmatrix, as kernels do it. Warp w: rows 16 (w %
// 2), columns 8 (w / 2).
__global__ void tile_by_ldmatrix(float* d, const bf16* a, const bf16* b) {
    WarpTileStorage& s = wt::shared_storage<WarpTileStorage>();
    for (int i = static_cast<int>(threadIdx.x); i < 512; i += 128) s.a[i / 16][i % 16] = a[i];
    for (int i = static_cast<int>(threadIdx.x); i < 256; i += 128) s.b[i / 16][i % 16] = b[i];
    __syncthreads();
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int m0 = warp % 2 * 16, n0 = warp / 2 * 8;
    uint32_t ar[4], br[2];
    wt::ptx::ldmatrix_x4(ar, &s.a[m0 + lane % 16][lane / 16 * 8]);
    wt::ptx::ldmatrix_x2_trans(br, &s.b[lane % 16][n0]);
    float df[4] = {0, 0, 0, 0};
    wt::ptx::mma_m16n8k16_bf16(df, ar, br);
    for (int i = 0; i < 4; ++i)
        d[(m0 + lane / 4 + 8 * (i / 2)) * 16 + n0 + lane % 4 * 2 + i % 2] = df[i];
}

// One warp: M x N fragments at once must be what they are one by one.
constexpr int kM = 3, kN = 5;
template <bool Tf32>
__global__ void tile_and_single(float* tile, float* single, const uint32_t* operands) {
    uint32_t a[kM][4], b[kN][2];
    for (int m = 0; m < kM; ++m)
        for (int i = 0; i < 4; ++i) a[m][i] = operands[(m * 4 + i) * 32 + threadIdx.x];
    for (int n = 0; n < kN; ++n)
        for (int i = 0; i < 2; ++i) b[n][i] = operands[((kM + n) * 4 + i) * 32 + threadIdx.x];
    float d[kM][kN][4], e[kM][kN][4];
    for (int m = 0; m < kM; ++m)
        for (int n = 0; n < kN; ++n)
            for (int i = 0; i < 4; ++i)
                d[m][n][i] = e[m][n][i] = static_cast<float>((m * kN + n) * 4 + i);
    for (int step = 0; step < 2; ++step) {
        if constexpr (Tf32)
            wt::ptx::mma_tile_m16n8k8_tf32(d, a, b);
        else
            wt::ptx::mma_tile_m16n8k16_bf16(d, a, b);
        for (int m = 0; m < kM; ++m)
            for (int n = 0; n < kN; ++n) {
                if constexpr (Tf32)
                    wt::ptx::mma_m16n8k8_tf32(e[m][n], a[m], b[n]);
                else
                    wt::ptx::mma_m16n8k16_bf16(e[m][n], a[m], b[n]);
            }
    }
    for (int m = 0; m < kM; ++m)
        for (int n = 0; n < kN; ++n)
            for (int i = 0; i < 4; ++i) {
                tile[((m * kN + n) * 4 + i) * 32 + threadIdx.x] = d[m][n][i];
                single[((m * kN + n) * 4 + i) * 32 + threadIdx.x] = e[m][n][i];
            }
}

// Distinct enough that no two places can be mistaken for each other, small enough to be exact in
// bf16.
int value(int i, int prime) { return i * prime % 251 - 125; }

template <class T>
std::vector<T> values(int n, int prime) {
    std::vector<T> v(static_cast<size_t>(n));
    for (int i = 0; i < n; ++i)
        v[static_cast<size_t>(i)] = wt::from_float<T>(static_cast<float>(value(i, prime)));
    return v;
}

template <class T>
void check_product(int k, void (*kernel)(float*, const T*, const T*, int)) {
    const Stream stream(0);
    for (const uint64_t seed : wt::test::seeds(3)) {
        wt::test::SeedGuard guard(seed);
        const std::vector<T> a = values<T>(16 * k, 37), b = values<T>(8 * k, 101);
        std::vector<float> d = values<float>(128, 53), expected = d;
        constexpr int kTimes = 3;
        for (int m = 0; m < 16; ++m)
            for (int n = 0; n < 8; ++n)
                for (int i = 0; i < k; ++i)
                    expected[static_cast<size_t>(m * 8 + n)] +=
                        static_cast<float>(kTimes * value(m * k + i, 37) * value(i * 8 + n, 101));
        DeviceBuffer<T> da(0, a.size()), db(0, b.size());
        DeviceBuffer<float> dd(0, d.size());
        da.upload(a);
        db.upload(b);
        dd.upload(d);
        wt::launch("one", {1, 32, stream.get()}, kernel, dd.data(),
                   static_cast<const T*>(da.data()), static_cast<const T*>(db.data()), kTimes);
        stream.synchronize();
        CHECK(dd.download() == expected);
    }
}

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("ptx: mma.sync m16n8k16 bf16 multiplies fragments as the ISA lays them out") {
    check_product<bf16>(16, one_bf16);
}

TEST_CASE("ptx: mma.sync m16n8k8 tf32 multiplies fragments as the ISA lays them out") {
    check_product<float>(8, one_tf32);
}

TEST_CASE("ptx: a warp's tile of mma.sync at once is what its products are one by one") {
    const Stream stream(0);
    for (const bool tf32 : {false, true})
        for (const uint64_t seed : wt::test::seeds(1)) {
            wt::test::SeedGuard guard(seed);
            std::vector<uint32_t> operands((kM + kN) * 4 * 32);
            for (size_t i = 0; i < operands.size(); ++i) {
                const auto bits = [&](int prime) {
                    const float f = static_cast<float>(value(static_cast<int>(i), prime));
                    uint32_t u;
                    std::memcpy(&u, &f, 4);
                    return u;
                };
                operands[i] = tf32 ? bits(37) : bits(37) >> 16 | (bits(101) & 0xffff0000u);
            }
            DeviceBuffer<uint32_t> in(0, operands.size());
            DeviceBuffer<float> tile(0, kM * kN * 4 * 32), single(0, kM * kN * 4 * 32);
            in.upload(operands);
            wt::launch("tile_and_single", {1, 32, stream.get()},
                       tf32 ? tile_and_single<true> : tile_and_single<false>, tile.data(),
                       single.data(), static_cast<const uint32_t*>(in.data()));
            stream.synchronize();
            CHECK(tile.download() == single.download());
        }
}

TEST_CASE("ptx: to_tf32 rounds halves away from zero") {
    const std::vector<std::pair<uint32_t, uint32_t>> cases = {
        {0x3f800000, 0x3f800000}, {0x3f800fff, 0x3f800000}, {0x3f801000, 0x3f802000},
        {0x3f801001, 0x3f802000}, {0x3f803000, 0x3f804000}, {0xbf801000, 0xbf802000},
        {0xbf800fff, 0xbf800000}, {0x3fffffff, 0x40000000}, {0x00000000, 0x00000000},
        {0x80000000, 0x80000000}, {0x7f7fffff, 0x7f800000}, {0x7f800000, 0x7f800000},
        {0xff800000, 0xff800000}};
    std::vector<float> in;
    std::vector<uint32_t> expected;
    for (const auto& [from, to] : cases) {
        float f;
        std::memcpy(&f, &from, 4);
        in.push_back(f);
        expected.push_back(to);
    }
    const Stream stream(0);
    DeviceBuffer<float> din(0, in.size());
    DeviceBuffer<uint32_t> dout(0, in.size());
    din.upload(in);
    wt::launch("round_tf32", {1, 32, stream.get()}, round_tf32, dout.data(),
               static_cast<const float*>(din.data()), static_cast<int>(in.size()));
    stream.synchronize();
    CHECK(dout.download() == expected);
}

TEST_CASE("ptx: ldmatrix takes a row from each lane, plain and transposed") {
    const Stream stream(0);
    for (const uint64_t seed : wt::test::seeds(2))
        for (const int matrices : {1, 2, 4, 8})
            for (const bool transpose : {false, true}) {
                CAPTURE(matrices);
                CAPTURE(transpose);
                wt::test::SeedGuard guard(seed);
                constexpr int kThreads = 128;
                DeviceBuffer<uint32_t> out(0, static_cast<size_t>(kThreads * matrices));
                wt::launch("load_matrices", {1, kThreads, stream.get(), sizeof(MatrixStorage)},
                           load_matrices, out.data(), matrices, transpose);
                stream.synchronize();
                std::vector<uint32_t> expected;
                for (int thread = 0; thread < kThreads; ++thread)
                    for (int j = 0; j < matrices; ++j) {
                        uint32_t half[2];
                        for (int h = 0; h < 2; ++h) {
                            const int g = thread % 32 / 4, t = thread % 4;
                            const int row = transpose ? 2 * t + h : g,
                                      column = transpose ? g : 2 * t + h;
                            const int from = j < 4 ? 8 * j + row : 31 - (8 * (j - 4) + row);
                            half[h] = static_cast<uint32_t>(
                                1000 + (from * 5 % 32 + thread / 32 % 2 * 32) * 8 + column);
                        }
                        expected.push_back(half[0] | half[1] << 16);
                    }
                CHECK(out.download() == expected);
            }
}

TEST_CASE("ptx: ldmatrix and mma.sync together multiply tiles of shared memory") {
    const Stream stream(0);
    for (const uint64_t seed : wt::test::seeds(3)) {
        wt::test::SeedGuard guard(seed);
        const std::vector<bf16> a = values<bf16>(512, 29), b = values<bf16>(256, 67);
        std::vector<float> expected(512, 0.0f);
        for (int m = 0; m < 32; ++m)
            for (int n = 0; n < 16; ++n)
                for (int k = 0; k < 16; ++k)
                    expected[static_cast<size_t>(m * 16 + n)] +=
                        static_cast<float>(value(m * 16 + k, 29) * value(k * 16 + n, 67));
        DeviceBuffer<bf16> da(0, 512), db(0, 256);
        DeviceBuffer<float> dd(0, 512);
        da.upload(a);
        db.upload(b);
        wt::launch("tile_by_ldmatrix", {1, 128, stream.get(), sizeof(WarpTileStorage)},
                   tile_by_ldmatrix, dd.data(), static_cast<const bf16*>(da.data()),
                   static_cast<const bf16*>(db.data()));
        stream.synchronize();
        CHECK(dd.download() == expected);
    }
}

TEST_SUITE_END();
