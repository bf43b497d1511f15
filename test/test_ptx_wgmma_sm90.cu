// wgmma against brute force, for every width, major-ness and swizzle; stmatrix, elect.sync,
// setmaxnreg. Operands are integers whose sums fp32 holds exactly, so results must be equal. Tiles
// are written by ordinary stores to where the formulas of the PTX ISA (9.7.15.5.1) put each
// element: the same sources check the virtual GPU and the hardware.
#include <doctest/doctest.h>

#include <cstring>
#include <limits>
#include <vector>

#include "host/cuda/buffer.h"
#include "host/cuda/device.h"
#include "host/cuda/stream.h"
#include "kernels/common/dtype.h"
#include "kernels/launch.h"
#include "kernels/ptx/ldmatrix.h"
#include "kernels/ptx/tma.h"
#include "kernels/ptx/warp.h"
#include "kernels/ptx/wgmma.h"
#include "test/seeds.h"

namespace {

using namespace wt;
using test::SeedGuard;
using test::seeds;

constexpr int kK = 64;  // of every operand

bool too_old() {
    if (const int sm = device_sm(0); sm && sm < 90) {
        MESSAGE("skip: wgmma needs sm_90a, this is sm_", sm);
        return true;
    }
    return false;
}

// ---- tiles in shared memory ---------------------------------------------------------------------

// A tile of `mn` rows or columns by kK, at a multiple of 1024 bytes. swizzle: bytes of a row; 16:
// none.
struct Layout {
    int mn, swizzle, element;  // bytes of an element
    bool mn_major;

    // Bytes from the tile's start, before the swizzle.
    __host__ __device__ int offset(int i, int k) const {
        const int across = swizzle / element;  // elements of a row
        if (swizzle ==
            16)  // core matrices of 8 x 16 bytes: dense along the contiguous direction's chunks
            return mn_major ? i / 8 * stride() + i % 8 * 2 + k / 8 * leading() + k % 8 * 16
                            : i / 8 * stride() + i % 8 * 16 + k / across * leading() +
                                  k % across * element;
        return mn_major ? i / across * leading() + i % across * element + k / 8 * stride() +
                              k % 8 * swizzle
                        : k / across * (mn * swizzle) + i / 8 * stride() + i % 8 * swizzle +
                              k % across * element;
    }
    __host__ __device__ int stride() const {
        if (swizzle != 16) return 8 * swizzle;
        return mn_major ? kK / 8 * 128 : 128;
    }
    __host__ __device__ int leading() const {
        if (swizzle != 16) return mn_major ? kK * swizzle : 0;
        return mn_major ? 128 : mn / 8 * 128;
    }
    // From one wgmma's k (32 bytes of it) to the next one's.
    __host__ __device__ int advance(int step) const {
        if (swizzle == 16) return 2 * leading() * step;
        if (mn_major) return 16 * swizzle * step;
        const int steps = swizzle / 32;  // in a row
        return step / steps * (mn * swizzle) + step % steps * 32;
    }
    __host__ __device__ int bytes() const { return mn * kK * element; }
};

__device__ uint32_t swizzled(uint32_t address, int swizzle) {
    return address ^ ((address >> 7 & static_cast<uint32_t>(swizzle / 16 - 1)) << 4);
}

struct Storage {
    alignas(1024) unsigned char a[2 * 64 * kK * 2];  // two warpgroups' rows; of tf32 only one's
    alignas(1024) unsigned char b[256 * kK * 4];
};
static_assert(sizeof(Storage) <= 227 * 1024);

// Element (i, k) of the tile at `base` from row-major `from`: [i][k], or [k][i] where `mn` is
// contiguous there.
template <class T>
__device__ void fill(unsigned char* base, const Layout& l, const T* from) {
#ifdef VGPU
    const uint32_t start = vgpu::shared_address(base);
#else
    const uint32_t start = ptx::shared_address(base);
#endif
    for (int e = static_cast<int>(threadIdx.x); e < l.mn * kK; e += static_cast<int>(blockDim.x)) {
        const int i = e / kK, k = e % kK;
        const uint32_t at = swizzled(start + static_cast<uint32_t>(l.offset(i, k)), l.swizzle);
        *reinterpret_cast<T*>(base + (at - start)) = from[e];
    }
}

__device__ uint64_t descriptor(const unsigned char* base, const Layout& l, int step) {
    return ptx::wgmma_descriptor(base + l.advance(step), static_cast<uint32_t>(l.leading()),
                                 static_cast<uint32_t>(l.stride()),
                                 l.swizzle == 16 ? ptx::Swizzle::none : ptx::swizzle_of(l.swizzle));
}

template <int N>
__device__ void store(float* out, const float (&d)[N / 2]) {
    const int thread = static_cast<int>(threadIdx.x) % 128, warp = thread / 32, g = thread % 32 / 4,
              t = thread % 4;
    for (int i = 0; i < N / 2; ++i)
        out[(16 * warp + g + 8 * (i / 2 % 2)) * N + 8 * (i / 4) + 2 * t + i % 2] = d[i];
}
template <int N>
__device__ void load(float (&d)[N / 2], const float* in) {
    const int thread = static_cast<int>(threadIdx.x) % 128, warp = thread / 32, g = thread % 32 / 4,
              t = thread % 4;
    for (int i = 0; i < N / 2; ++i)
        d[i] = in[(16 * warp + g + 8 * (i / 2 % 2)) * N + 8 * (i / 4) + 2 * t + i % 2];
}

// ---- kernels ------------------------------------------------------------------------------------

// Every warpgroup: its 64 rows of A times B, [64][N] each to `out`. onto_values: added to what
// `out` holds; else the first product ignores accumulators of NaN. The steps along k are one group,
// or, where one operand is transposed and for some widths of tf32, a group each; not by an
// argument, which would put the wgmmas into branches.
template <int N, class T, bool TransposeA, bool TransposeB>
__global__ void __launch_bounds__(256)
    product(float* out, const T* a, const T* b, Layout la, Layout lb, bool onto_values) {
    Storage& s = shared_storage<Storage>();
    const int warpgroup = static_cast<int>(threadIdx.x) / 128,
              groups = static_cast<int>(blockDim.x) / 128;
    for (int w = 0; w < groups; ++w) fill(s.a + w * la.bytes(), la, a + w * la.mn * kK);
    fill(s.b, lb, b);
    ptx::fence_proxy_async();
    __syncthreads();
    float d[N / 2];
    out += warpgroup * 64 * N;
    if (onto_values)
        load<N>(d, out);
    else
        for (float& v : d) v = __int_as_float(0x7fffffff);
    constexpr int kSteps = kK * sizeof(T) / 32;
    constexpr bool kGroupEach = sizeof(T) == 2 ? TransposeA != TransposeB : N == 96;
    // their arithmetic branches, which wgmmas in flight do not bear
    uint64_t da[kSteps], db[kSteps];
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
        da[step] = descriptor(s.a + warpgroup * la.bytes(), la, step);
        db[step] = descriptor(s.b, lb, step);
    }
    ptx::wgmma_keep(d);
    ptx::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
        const bool accumulate = step > 0 || onto_values;
        if constexpr (sizeof(T) == 2)
            ptx::wgmma_bf16<N, TransposeA, TransposeB>(d, da[step], db[step], accumulate);
        else
            ptx::wgmma_tf32<N>(d, da[step], db[step], accumulate);
        if constexpr (kGroupEach) {
            ptx::wgmma_commit();
            ptx::wgmma_wait<1>();
        }
    }
    if constexpr (!kGroupEach) ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::wgmma_keep(d);
    store<N>(out, d);
}

// A pipeline of two buffers, each filled by ordinary stores while the other is multiplied:
// out[64][64] = A B with k of 64 times `tiles`. Accumulators are read halfway, halved, and used
// again.
struct PipelineStorage {
    alignas(1024) unsigned char a[2][64 * kK * 2], b[2][64 * kK * 2];
};
__global__ void __launch_bounds__(128)
    pipeline(float* out, const bf16* a, const bf16* b, int tiles) {
    PipelineStorage& s = shared_storage<PipelineStorage>();
    const Layout l{64, 128, 2, false};
    const auto load_tile = [&](int tile) {
        fill(s.a[tile % 2], l, a + tile * 64 * kK);
        fill(s.b[tile % 2], l, b + tile * 64 * kK);
        ptx::fence_proxy_async();
        __syncthreads();
    };
    float d[32];
    load_tile(0);
    for (int tile = 0; tile < tiles; ++tile) {
        ptx::wgmma_keep(d);
        ptx::wgmma_fence();
#pragma unroll
        for (int step = 0; step < 4; ++step)
            ptx::wgmma_bf16<64>(d, descriptor(s.a[tile % 2], l, step),
                                descriptor(s.b[tile % 2], l, step), tile > 0 || step > 0);
        ptx::wgmma_commit();
        if (tile == tiles / 2) {
            ptx::wgmma_wait<0>();
            ptx::wgmma_keep(d);
            for (float& v : d) v *= 0.5f;
        } else {
            ptx::wgmma_wait<1>();
            ptx::wgmma_keep(d);
        }
        __syncthreads();  // every warp is done with the other buffer
        if (tile + 1 < tiles) load_tile(tile + 1);
    }
    ptx::wgmma_wait<0>();
    ptx::wgmma_keep(d);
    store<64>(out, d);
}

// out[64][64] = rows first ... first + 63 of A, which has 128, times B: the descriptor starts at
// that row, wherever in the swizzle's pattern it is.
constexpr int kViewRows = 128;
struct ViewStorage {
    alignas(1024) unsigned char a[kViewRows * kK * 2], b[64 * kK * 2];
};
__global__ void __launch_bounds__(128)
    product_of_view(float* out, const bf16* a, const bf16* b, int first, int swizzle) {
    ViewStorage& s = shared_storage<ViewStorage>();
    const Layout la{kViewRows, swizzle, 2, false}, lb{64, 128, 2, false};
    fill(s.a, la, a);
    fill(s.b, lb, b);
    ptx::fence_proxy_async();
    __syncthreads();
    float d[32];
    uint64_t da[4], db[4];  // made beforehand: ptxas wants nothing but products between fences
#pragma unroll
    for (int step = 0; step < 4; ++step) {
        da[step] =
            ptx::wgmma_advance(descriptor(s.a, la, step), static_cast<uint32_t>(first * swizzle));
        db[step] = descriptor(s.b, lb, step);
    }
    ptx::wgmma_keep(d);
    ptx::wgmma_fence();
#pragma unroll
    for (int step = 0; step < 4; ++step) ptx::wgmma_bf16<64>(d, da[step], db[step], step > 0);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::wgmma_keep(d);
    store<64>(out, d);
}

// Two accumulators of one warpgroup in flight at once, their products interleaved.
__global__ void __launch_bounds__(128) two_accumulators(float* out, const bf16* a, const bf16* b) {
    PipelineStorage& s = shared_storage<PipelineStorage>();
    const Layout l{64, 128, 2, false};
    for (int i = 0; i < 2; ++i) {
        fill(s.a[i], l, a + i * 64 * kK);
        fill(s.b[i], l, b + i * 64 * kK);
    }
    ptx::fence_proxy_async();
    __syncthreads();
    float d[32], e[16];
    ptx::wgmma_keep(d);
    ptx::wgmma_keep(e);
    ptx::wgmma_fence();
#pragma unroll
    for (int step = 0; step < 4; ++step) {
        ptx::wgmma_bf16<64>(d, descriptor(s.a[0], l, step), descriptor(s.b[0], l, step), step > 0);
        ptx::wgmma_bf16<32>(e, descriptor(s.a[1], l, step), descriptor(s.b[1], l, step), step > 0);
    }
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::wgmma_keep(d);
    ptx::wgmma_keep(e);
    store<64>(out, d);
    store<32>(out + 64 * 64, e);
}

struct MatrixStorage {
    alignas(16) uint16_t element[32][8];
};
__global__ void store_matrices(uint16_t* out, int matrices, bool transpose) {
    MatrixStorage& s = shared_storage<MatrixStorage>();
    for (int i = static_cast<int>(threadIdx.x); i < 256; i += 32) s.element[i / 8][i % 8] = 0xffff;
    __syncthreads();
    const uint32_t lane = threadIdx.x;
    void* row = s.element[lane * 5 % 32];
    uint32_t r4[4], r2[2];
    for (uint32_t j = 0; j < 4; ++j) r4[j] = (lane * 8 + j * 2) | (lane * 8 + j * 2 + 1) << 16;
    for (uint32_t j = 0; j < 2; ++j) r2[j] = r4[j];
    if (matrices == 4) {
        if (transpose)
            ptx::stmatrix_x4_trans(row, r4);
        else
            ptx::stmatrix_x4(row, r4);
    } else {
        if (transpose)
            ptx::stmatrix_x2_trans(row, r2);
        else
            ptx::stmatrix_x2(row, r2);
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < 256; i += 32) out[i] = s.element[i / 8][i % 8];
}

// How many lanes of each warp are elected, twice.
__global__ void elect(int* elected) {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const bool first = ptx::elect_one(), second = ptx::elect_one();
    if (first) atomicAdd(&elected[3 * warp], 1);
    if (second) atomicAdd(&elected[3 * warp + 1], 1);
    if (first && second) atomicAdd(&elected[3 * warp + 2], 1);
}

// Three warpgroups as a warp-specialised kernel has them.
__global__ void __launch_bounds__(384, 1) registers(int* out) {
    const int warpgroup = static_cast<int>(threadIdx.x) / 128;
    if (warpgroup == 0) {
        ptx::registers_decrease<40>();
        out[threadIdx.x] = 1;
    } else {
        ptx::registers_increase<232>();
        out[threadIdx.x] = 2;
    }
}

// ---- expectations -------------------------------------------------------------------------------

int value(int i, int prime) { return i * prime % 17 - 8; }

template <class T>
std::vector<T> values(int n, int prime) {
    std::vector<T> v(static_cast<size_t>(n));
    for (int i = 0; i < n; ++i)
        v[static_cast<size_t>(i)] = from_float<T>(static_cast<float>(value(i, prime)));
    return v;
}

// A[rows][k] times B[n][k], both tile after tile along k.
std::vector<float> expected_product(int rows, int n, int prime_a, int prime_b) {
    std::vector<float> d;
    for (int m = 0; m < rows; ++m)
        for (int j = 0; j < n; ++j) {
            int sum = 0;
            for (int k = 0; k < kK; ++k)
                sum += value(m * kK + k, prime_a) * value(j * kK + k, prime_b);
            d.push_back(static_cast<float>(sum));
        }
    return d;
}

template <int N, class T, bool TransposeA, bool TransposeB>
void check_product(int swizzle_a, int swizzle_b, int warpgroups, bool onto_values) {
    CAPTURE(N);
    CAPTURE(TransposeA);
    CAPTURE(TransposeB);
    CAPTURE(swizzle_a);
    CAPTURE(swizzle_b);
    CAPTURE(warpgroups);
    CAPTURE(onto_values);
    const Stream stream(0);
    const int rows = 64 * warpgroups;
    const Layout la{64, swizzle_a, sizeof(T), TransposeA}, lb{N, swizzle_b, sizeof(T), TransposeB};
    const std::vector<float> start = values<float>(rows * N, 11);
    std::vector<float> expected = expected_product(rows, N, 5, 7);
    if (onto_values)
        for (size_t i = 0; i < expected.size(); ++i) expected[i] += start[i];
    DeviceBuffer<T> a(0, static_cast<size_t>(rows * kK)), b(0, static_cast<size_t>(N * kK));
    DeviceBuffer<float> out(0, expected.size());
    a.upload(values<T>(rows * kK, 5));
    b.upload(values<T>(N * kK, 7));
    for (const uint64_t seed : seeds(2)) {
        CAPTURE(seed);
        SeedGuard guard(seed);
        out.upload(start);
        launch("product",
               {1, static_cast<unsigned>(128 * warpgroups), stream.get(), sizeof(Storage)},
               product<N, T, TransposeA, TransposeB>, out.data(), static_cast<const T*>(a.data()),
               static_cast<const T*>(b.data()), la, lb, onto_values);
        stream.synchronize();
        CHECK(out.download() == expected);
    }
}

// Whether a tile of n columns, n contiguous, is whole slabs of this swizzle.
bool whole_slabs(int n, int swizzle) { return n % (swizzle / 2) == 0; }

template <int N, bool TransposeA, bool TransposeB>
void check_swizzles() {
    int turn = 0;
    for (const int swizzle : {16, 32, 64, 128}) {
        if (TransposeB && !whole_slabs(N, swizzle)) continue;
        check_product<N, bf16, TransposeA, TransposeB>(swizzle, swizzle, 1, turn++ % 2 != 0);
    }
}
template <int N>
void check_width() {
    check_swizzles<N, false, false>();
    check_swizzles<N, false, true>();
    check_swizzles<N, true, false>();
    check_swizzles<N, true, true>();
    check_product<N, bf16, false, false>(128, 64, 2, true);
    check_product<N, bf16, true, true>(64, 32, 2, false);
}

std::vector<float> run_pipeline(int tiles) {
    const Stream stream(0);
    DeviceBuffer<bf16> a(0, static_cast<size_t>(tiles * 64 * kK)),
        b(0, static_cast<size_t>(tiles * 64 * kK));
    DeviceBuffer<float> out(0, 64 * 64);
    a.upload(values<bf16>(tiles * 64 * kK, 5));
    b.upload(values<bf16>(tiles * 64 * kK, 7));
    launch("pipeline", {1, 128, stream.get(), sizeof(PipelineStorage)}, pipeline, out.data(),
           static_cast<const bf16*>(a.data()), static_cast<const bf16*>(b.data()), tiles);
    stream.synchronize();
    return out.download();
}

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("ptx: wgmma bf16 of n = 16, 32, 48, every major-ness and swizzle") {
    if (too_old()) return;
    check_width<16>();
    check_width<32>();
    check_width<48>();
}
TEST_CASE("ptx: wgmma bf16 of n = 64, 96, 112, 128, every major-ness and swizzle") {
    if (too_old()) return;
    check_width<64>();
    check_width<96>();
    check_width<112>();
    check_width<128>();
}
TEST_CASE("ptx: wgmma bf16 of n = 160, 192, 256, every major-ness and swizzle") {
    if (too_old()) return;
    check_width<160>();
    check_width<192>();
    check_width<256>();
}

TEST_CASE("ptx: wgmma tf32 of every width and swizzle, low bits ignored") {
    if (too_old()) return;
    const auto all = [](int swizzle) {
        check_product<16, float, false, false>(swizzle, 128, 1, false);
        check_product<48, float, false, false>(swizzle, 64, 1, true);
        check_product<96, float, false, false>(swizzle, 32, 1, true);
        check_product<128, float, false, false>(swizzle, 16, 1, true);
        check_product<256, float, false, false>(swizzle, swizzle, 1, false);
    };
    for (const int swizzle : {16, 32, 64, 128}) all(swizzle);
    // 1 + 2^-11 and the like are 1 in tf32: truncated, not rounded.
    const Stream stream(0);
    std::vector<float> ones(64 * kK, 1.0f), above(64 * kK);
    for (size_t i = 0; i < above.size(); ++i)
        above[i] = 1.0f + static_cast<float>(i % 4 + 1) * 0x1p-13f;
    DeviceBuffer<float> a(0, ones.size()), b(0, 16 * kK), out(0, 64 * 16);
    a.upload(above);
    b.upload(ones.data(), 16 * kK);
    launch("product", {1, 128, stream.get(), sizeof(Storage)}, product<16, float, false, false>,
           out.data(), static_cast<const float*>(a.data()), static_cast<const float*>(b.data()),
           Layout{64, 128, 4, false}, Layout{16, 128, 4, false}, false);
    stream.synchronize();
    CHECK(out.download() == std::vector<float>(64 * 16, static_cast<float>(kK)));
}

TEST_CASE("ptx: wgmma in a pipeline of two buffers, accumulators changed between") {
    if (too_old()) return;
    constexpr int kTiles = 5;
    std::vector<float> expected(64 * 64, 0.0f);
    for (int tile = 0; tile < kTiles; ++tile)
        for (int m = 0; m < 64; ++m)
            for (int n = 0; n < 64; ++n) {
                int sum = 0;
                for (int k = 0; k < kK; ++k)
                    sum += value((tile * 64 + m) * kK + k, 5) * value((tile * 64 + n) * kK + k, 7);
                float& e = expected[static_cast<size_t>(m * 64 + n)];
                e += static_cast<float>(sum);
                if (tile == kTiles / 2) e *= 0.5f;
            }
    for (const uint64_t seed : seeds(12)) {
        CAPTURE(seed);
        SeedGuard guard(seed);
        CHECK(run_pipeline(kTiles) == expected);
    }
}

// The ISA (9.7.15.5.1.2.2) gives the descriptor a start address, and a base offset of 0 where the
// swizzle's pattern begins at a multiple of its length. So a start within the pattern is one whose
// rows are found by the exclusive or of whole addresses. Without a swizzle rows are 16 bytes, and
// any start will do.
TEST_CASE("ptx: wgmma reads rows from any row of a swizzled tile on") {
    if (too_old()) return;
    const Stream stream(0);
    DeviceBuffer<bf16> a(0, kViewRows * kK), b(0, 64 * kK);
    DeviceBuffer<float> out(0, 64 * 64);
    a.upload(values<bf16>(kViewRows * kK, 5));
    b.upload(values<bf16>(64 * kK, 7));
    const std::vector<float> all = expected_product(kViewRows, 64, 5, 7);
    for (const int swizzle : {16, 32, 64, 128})
        for (const int first : {0, 1, 2, 3, 4, 5, 6, 7, 8, 13, 29, 58, 62, 64}) {
            CAPTURE(swizzle);
            CAPTURE(first);
            launch("product_of_view", {1, 128, stream.get(), sizeof(ViewStorage)}, product_of_view,
                   out.data(), static_cast<const bf16*>(a.data()),
                   static_cast<const bf16*>(b.data()), first, swizzle);
            stream.synchronize();
            const auto from = all.begin() + first * 64;
            CHECK(out.download() == std::vector<float>(from, from + 64 * 64));
        }
}

TEST_CASE("ptx: wgmmas of two accumulators, interleaved") {
    if (too_old()) return;
    const Stream stream(0);
    DeviceBuffer<bf16> a(0, 2 * 64 * kK), b(0, 2 * 64 * kK);
    DeviceBuffer<float> out(0, 64 * 64 + 64 * 32);
    a.upload(values<bf16>(2 * 64 * kK, 5));
    b.upload(values<bf16>(2 * 64 * kK, 7));
    const std::vector<float> both = expected_product(128, 128, 5, 7);
    std::vector<float> expected;
    for (int m = 0; m < 64; ++m)
        for (int n = 0; n < 64; ++n) expected.push_back(both[static_cast<size_t>(m * 128 + n)]);
    for (int m = 64; m < 128; ++m)
        for (int n = 64; n < 96; ++n) expected.push_back(both[static_cast<size_t>(m * 128 + n)]);
    for (const uint64_t seed : seeds(4)) {
        CAPTURE(seed);
        SeedGuard guard(seed);
        launch("two_accumulators", {1, 128, stream.get(), sizeof(PipelineStorage)},
               two_accumulators, out.data(), static_cast<const bf16*>(a.data()),
               static_cast<const bf16*>(b.data()));
        stream.synchronize();
        CHECK(out.download() == expected);
    }
}

TEST_CASE("ptx: stmatrix puts each matrix's rows where its lanes say, plain and transposed") {
    if (too_old()) return;
    const Stream stream(0);
    for (const int matrices : {2, 4})
        for (const bool transpose : {false, true}) {
            CAPTURE(matrices);
            CAPTURE(transpose);
            std::vector<uint16_t> expected(256, 0xffff);
            for (int lane = 0; lane < 32; ++lane)
                for (int j = 0; j < matrices; ++j)
                    for (int h = 0; h < 2; ++h) {
                        const int g = lane / 4, t = lane % 4;
                        const int row = transpose ? 2 * t + h : g,
                                  column = transpose ? g : 2 * t + h;
                        expected[static_cast<size_t>((8 * j + row) * 5 % 32 * 8 + column)] =
                            static_cast<uint16_t>(lane * 8 + j * 2 + h);
                    }
            DeviceBuffer<uint16_t> out(0, 256);
            launch("store_matrices", {1, 32, stream.get(), sizeof(MatrixStorage)}, store_matrices,
                   out.data(), matrices, transpose);
            stream.synchronize();
            CHECK(out.download() == expected);
        }
}

TEST_CASE("ptx: elect.sync takes one lane of a warp, always the same") {
    if (too_old()) return;
    const Stream stream(0);
    for (const uint64_t seed : seeds(5)) {
        SeedGuard guard(seed);
        DeviceBuffer<int> elected(0, 12);
        elected.upload(std::vector<int>(12, 0));
        launch("elect", {1, 128, stream.get()}, elect, elected.data());
        stream.synchronize();
        CHECK(elected.download() == std::vector<int>(12, 1));
    }
}

TEST_CASE("ptx: setmaxnreg moves registers between warpgroups") {
    if (too_old()) return;
    const Stream stream(0);
    std::vector<int> expected(384, 2);
    std::fill_n(expected.begin(), 128, 1);
    for (const uint64_t seed : seeds(5)) {
        SeedGuard guard(seed);
        DeviceBuffer<int> out(0, 384);
        launch("registers", {1, 384, stream.get()}, registers, out.data());
        stream.synchronize();
        CHECK(out.download() == expected);
    }
}

TEST_SUITE_END();
