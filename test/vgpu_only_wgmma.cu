// What the virtual GPU says of kernels that use its tensor cores wrongly.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "kernels/common/dtype.h"
#include "kernels/launch.h"
#include "kernels/ptx/ldmatrix.h"
#include "kernels/ptx/mma_sync.h"
#include "kernels/ptx/tma.h"
#include "kernels/ptx/warp.h"
#include "kernels/ptx/wgmma.h"
#include "test/vgpu_run.h"
#include "test/wgmma_tiles.h"

namespace {

using namespace wt;
using test::fill;
using test::has;
using test::run;
using test::Tiles;

constexpr uint64_t kSeeds = 20;

void clear(Tiles& s) {
    for (size_t i = threadIdx.x; i < sizeof s / 4; i += blockDim.x)
        reinterpret_cast<uint32_t*>(&s)[i] = 0;
    ptx::fence_proxy_async();
    __syncthreads();
}

// ---- kernels with one mistake each --------------------------------------------------------------

enum class Mistake {
    base_offset,
    beyond,
    leaves_row,
    other_descriptor,
    other_order,
    some_skip,
    some_return,
    two_shapes,
    not_waited,
    written_in_flight,
    half_warpgroup
};

__global__ void mistaken(float* out, Mistake m) {
    Tiles& s = shared_storage<Tiles>();
    clear(s);
    float d[32] = {}, e[16] = {};
    uint64_t a = ptx::wgmma_descriptor(s.a, 0, 1024, ptx::Swizzle::b128),
             b = ptx::wgmma_descriptor(s.b, 0, 1024, ptx::Swizzle::b128);
    const bool odd = threadIdx.x == 77;
    if (m == Mistake::base_offset) a |= uint64_t{3} << 49;
    if (m == Mistake::beyond) b = ptx::wgmma_descriptor(&s.b[1][8], 0, 1024, ptx::Swizzle::b128);
    if (m == Mistake::leaves_row) a += 112 >> 4;
    if (m == Mistake::other_descriptor && odd) b += 32 >> 4;
    ptx::wgmma_fence();
    if (m == Mistake::some_return && threadIdx.x >= 96) return;
    if (m == Mistake::other_order && odd) ptx::wgmma_commit();
    if (m != Mistake::some_skip || threadIdx.x < 64) ptx::wgmma_bf16<64>(d, a, b, true);
    if (m == Mistake::two_shapes) {
        float(&half)[16] = reinterpret_cast<float(&)[16]>(d);
        ptx::wgmma_bf16<32>(half, a, b, true);
    }
    if (m != Mistake::other_order || !odd) ptx::wgmma_commit();
    if (m == Mistake::written_in_flight) d[3] = 1;
    if (m == Mistake::not_waited) return;
    ptx::wgmma_wait<0>();
    out[threadIdx.x] = d[0] + e[0];
}

std::string said(Mistake m, unsigned threads = 128, uint64_t seed = 0) {
    std::vector<float> out(256);
    return run({1, threads, sizeof(Tiles), seed}, mistaken, out.data(), m).message;
}

// Two tiles of 64 rows, one below the other, by the same B: in one call or in eight.
enum class Calls { one, eight, one_eight, one_other };
constexpr uint32_t kTileBytes = sizeof(bf16[64][64]);
struct TwoHigh {
    static constexpr int kHeight = 2, kCount = 4;
    static constexpr uint32_t a(int h, int j) { return h * kTileBytes + 32 * j; }
    static constexpr uint32_t b(int j) { return 32 * j; }
};
struct OtherWay : TwoHigh {  // the same first products, the second half of k before the rest
    static constexpr uint32_t a(int h, int j) { return TwoHigh::a(h, j ? 4 - j : 0); }
    static constexpr uint32_t b(int j) { return TwoHigh::b(j ? 4 - j : 0); }
};
__global__ void calls(float* out, Calls how, bool onto_values) {
    Tiles& s = shared_storage<Tiles>();
    for (int i = 0; i < 2; ++i) fill(s.a[i], i, 5);
    fill(s.b[0], 2, 7);
    ptx::fence_proxy_async();
    __syncthreads();
    float d[2][32];
    for (int i = 0; i < 64; ++i)
        d[i / 32][i % 32] =
            onto_values ? static_cast<float>(threadIdx.x * 64 + i) : __int_as_float(0x7fffffff);
    const uint64_t a = ptx::wgmma_descriptor(s.a, 0, 1024, ptx::Swizzle::b128),
                   b = ptx::wgmma_descriptor(s.b, 0, 1024, ptx::Swizzle::b128);
    const bool odd = threadIdx.x == 77;
    const auto eight = [&] {
        for (int i = 0; i < 8; ++i)
            ptx::wgmma_bf16<64>(d[i % 2], ptx::wgmma_advance(a, TwoHigh::a(i % 2, i / 2)),
                                ptx::wgmma_advance(b, TwoHigh::b(i / 2)), onto_values || i > 1);
    };
    ptx::wgmma_fence();
    if (how == Calls::eight || (how == Calls::one_eight && odd))
        eight();
    else if (how == Calls::one_other && odd)
        ptx::wgmma_bf16_tile<64, false, false, OtherWay>(d, a, b, onto_values);
    else
        ptx::wgmma_bf16_tile<64, false, false, TwoHigh>(d, a, b, onto_values);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    for (int i = 0; i < 64; ++i) out[threadIdx.x * 64 + i] = d[i / 32][i % 32];
}

template <int kIncrease>
__global__ void grab_registers(int mode) {
    const unsigned warpgroup = threadIdx.x / 128;
    if (mode == 0) {
        if (warpgroup == 0) ptx::registers_increase<kIncrease>();
    } else if (mode == 1) {
        if (threadIdx.x != 5) ptx::registers_decrease<40>();
    } else {
        ptx::registers_decrease<240>();
    }
}

__global__ void warp_mistakes(float* out, int mode) {
    Tiles& s = shared_storage<Tiles>();
    clear(s);
    float d[4] = {};
    uint32_t a[4] = {}, b[2] = {}, r[4] = {};
    const unsigned lane = threadIdx.x % 32;
    if (mode == 0) {
        if (lane < 16)
            ptx::mma_m16n8k16_bf16(d, a, b);
        else
            ptx::mma_m16n8k16_bf16(d, a, b);
    } else if (mode == 1) {
        if (lane != 3)
            ptx::mma_m16n8k16_bf16(d, a, b);
        else
            ptx::ldmatrix_x4(r, &s.a);
    } else if (mode == 2) {
        ptx::ldmatrix_x4(r, &s.a[0][lane][lane == 9 ? 4 : 0]);
    } else if (mode == 3) {
        ptx::ldmatrix_x2(
            a[0] == 1 ? reinterpret_cast<uint32_t(&)[2]>(a) : reinterpret_cast<uint32_t(&)[2]>(r),
            lane == 9 ? reinterpret_cast<const void*>(out) : &s.a[0][lane][0]);
    } else if (mode == 4) {
        // only 8 rows are asked for
        ptx::ldmatrix_x1(reinterpret_cast<uint32_t(&)[1]>(r),
                         lane < 8 ? &s.a[0][lane][0] : nullptr);
    } else {
        ptx::mma_m16n8k16_bf16(d, a, b);
    }
    out[threadIdx.x] = d[0] + static_cast<float>(r[0]);
}
std::string warp_said(int mode, unsigned threads = 32) {
    std::vector<float> out(64);
    return run({1, threads, sizeof(Tiles)}, warp_mistakes, out.data(), mode).message;
}

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("ptx: wgmmas in one call are those of eight") {
    for (uint64_t seed = 0; seed <= kSeeds; ++seed)
        for (bool onto_values : {false, true}) {
            std::vector<float> one(128 * 64), eight(128 * 64);
            CHECK(!run({1, 128, sizeof(Tiles), seed}, calls, one.data(), Calls::one, onto_values));
            CHECK(!run({1, 128, sizeof(Tiles), seed}, calls, eight.data(), Calls::eight,
                       onto_values));
            CHECK(one == eight);
            CHECK(one[0] == one[0]);
        }
    for (Calls how : {Calls::one_eight, Calls::one_other}) {
        std::vector<float> out(128 * 64);
        const std::string text = run({1, 128, sizeof(Tiles)}, calls, out.data(), how, true).message;
        CHECK_MESSAGE(has(text, "thread (77,0,0): wgmma m64n64k16 bf16 at"), text);
    }
}

TEST_CASE("ptx: what is said of wgmmas that cannot be") {
    CHECK_MESSAGE(has(said(Mistake::base_offset), "A's descriptor: its base offset is not 0"),
                  said(Mistake::base_offset));
    CHECK_MESSAGE(has(said(Mistake::beyond), "B's descriptor: it reaches beyond"),
                  said(Mistake::beyond));
    CHECK_MESSAGE(has(said(Mistake::leaves_row), "A's descriptor: it begins within a swizzled row"),
                  said(Mistake::leaves_row));
    CHECK_MESSAGE(has(said(Mistake::other_descriptor), "thread (77,0,0): wgmma m64n64k16 bf16 at"),
                  said(Mistake::other_descriptor));
    CHECK_MESSAGE(has(said(Mistake::other_descriptor), "are not those of the other threads"),
                  said(Mistake::other_descriptor));
    CHECK_MESSAGE(has(said(Mistake::other_order), "wgmma.commit_group at test/vgpu_only_wgmma.cu:"),
                  said(Mistake::other_order));
    CHECK_MESSAGE(has(said(Mistake::other_order),
                      "while the other threads of the warpgroup do wgmma m64n64k16 bf16 at test/"),
                  said(Mistake::other_order));
    CHECK_MESSAGE(has(said(Mistake::some_skip), "all 128 must do the same"),
                  said(Mistake::some_skip));
    CHECK_MESSAGE(has(said(Mistake::some_return), "threads 0-95 wait in wgmma.wait_group"),
                  said(Mistake::some_return));
    CHECK_MESSAGE(has(said(Mistake::two_shapes), "are in flight in a product of n = 64"),
                  said(Mistake::two_shapes));
    CHECK_MESSAGE(has(said(Mistake::not_waited), "has not been waited for"),
                  said(Mistake::not_waited));
    CHECK_MESSAGE(has(said(Mistake::half_warpgroup, 96), "needs a warpgroup, 128 threads"),
                  said(Mistake::half_warpgroup, 96));
    int found = 0;
    for (uint64_t seed = 1; seed <= kSeeds; ++seed)
        found += has(said(Mistake::written_in_flight, 128, seed),
                     "were written while a wgmma was under way");
    CHECK(found > 0);
}

TEST_CASE("ptx: what is said of setmaxnreg that cannot be") {
    const auto said = [](void (*kernel)(int), int mode) {
        return run({1, 384}, kernel, mode).message;
    };
    CHECK_MESSAGE(
        has(said(grab_registers<232>, 0),
            "threads 0-127 wait in setmaxnreg.inc (until other warpgroups have given registers back)"),
        said(grab_registers<232>, 0));
    CHECK_MESSAGE(has(said(grab_registers<160>, 0), "setmaxnreg.inc 160 at"),
                  said(grab_registers<160>, 0));
    CHECK_MESSAGE(has(said(grab_registers<160>, 0), "has 168 registers a thread (65536 / 384"),
                  said(grab_registers<160>, 0));
    CHECK_MESSAGE(has(said(grab_registers<160>, 1), "setmaxnreg (all 128 threads"),
                  said(grab_registers<160>, 1));
    CHECK_MESSAGE(has(said(grab_registers<160>, 2), "setmaxnreg.dec 240 at"),
                  said(grab_registers<160>, 2));
}

TEST_CASE("ptx: what is said of warp operations that cannot be") {
    CHECK_MESSAGE(has(warp_said(0), "mma.sync.m16n8k16 at test/vgpu_only_wgmma.cu:"), warp_said(0));
    CHECK_MESSAGE(
        has(warp_said(0),
            "while other lanes of the warp are in mma.sync.m16n8k16 at test/vgpu_only_wgmma.cu:"),
        warp_said(0));
    CHECK_MESSAGE(has(warp_said(1), "ldmatrix at test/"), warp_said(1));
    CHECK_MESSAGE(
        has(warp_said(2), "lane 9's row is at byte 1160 of shared memory, not a multiple of 16"),
        warp_said(2));
    CHECK_MESSAGE(has(warp_said(3), "lane 9's row is not in the block's"), warp_said(3));
    CHECK_MESSAGE(warp_said(4).empty(), warp_said(4));
    CHECK_MESSAGE(has(warp_said(5, 48), "needs all 32 lanes, and the block's last warp has 16"),
                  warp_said(5, 48));
}

TEST_SUITE_END();
