// bfloat16 and the arithmetic intrinsics of virtual GPUs against exact references.
#include <doctest/doctest.h>

#include <cuda_bf16.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "vgpu/device.h"

namespace {

// float -> bf16 by arithmetic: the nearest of the two neighbours, the even one at a tie.
unsigned short nearest_even(float f) {
    if (std::isnan(f)) return 0x7fff;
    const unsigned u = std::bit_cast<unsigned>(f);
    const unsigned down = u & 0xffff0000u, up = down + 0x10000u;
    // Above the largest bf16 the upper neighbour counts as 2^128.
    const auto value = [](unsigned bits) {
        return (bits & 0x7fffffffu) == 0x7f800000u
                   ? std::copysign(std::ldexp(1.0, 128), (bits >> 31) ? -1.0 : 1.0)
                   : double{std::bit_cast<float>(bits)};
    };
    if (std::isinf(f)) return static_cast<unsigned short>(u >> 16);
    const double below = std::abs(value(u) - value(down)), above = std::abs(value(up) - value(u));
    const bool take_up = above < below || (above == below && (up >> 16 & 1) == 0);
    return static_cast<unsigned short>((take_up ? up : down) >> 16);
}

double ulps(float got, double want) {
    if (std::isnan(want)) return std::isnan(got) ? 0 : 1e9;
    if (std::isinf(want) || std::abs(want) > std::numeric_limits<float>::max())
        return got == std::copysign(HUGE_VALF, static_cast<float>(want)) ? 0 : 1e9;
    const double step = std::ldexp(1.0, std::max(std::ilogb(want == 0 ? 1e-300 : want), -126) - 23);
    return std::abs(got - want) / step;
}

}  // namespace

TEST_CASE("bf16: every pattern goes to float and back") {
    for (unsigned b = 0; b < 65536; ++b) {
        const __nv_bfloat16 x = __ushort_as_bfloat16(static_cast<unsigned short>(b));
        const float f = __bfloat162float(x);
        if ((b & 0x7fff) > 0x7f80) {
            CHECK(std::isnan(f));
            CHECK(__hisnan(x));
            CHECK(__bfloat16_as_ushort(__float2bfloat16(f)) == 0x7fff);
        } else {
            unsigned u;
            std::memcpy(&u, &f, 4);
            CHECK(u == b << 16);
            CHECK(__bfloat16_as_ushort(__float2bfloat16(f)) == b);
        }
    }
}

TEST_CASE("bf16: rounding is to nearest, ties to even") {
    const auto check = [](float f) {
        const unsigned short got = __bfloat16_as_ushort(__float2bfloat16(f)),
                             want = nearest_even(f);
        if (got != want) CHECK_MESSAGE(got == want, "for " << f);
    };
    // Around every pattern: the tie, one float either side of it, and of the pattern itself.
    for (unsigned b = 0; b < 65536; ++b)
        for (unsigned low : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu})
            check(std::bit_cast<float>(b << 16 | low));
    std::mt19937 random(1);
    for (int i = 0; i < 200000; ++i) check(std::bit_cast<float>(static_cast<unsigned>(random())));
    CHECK(__bfloat16_as_ushort(__float2bfloat16(3.4e38f)) == 0x7f80);  // rounds to infinity
    CHECK(__bfloat16_as_ushort(__float2bfloat16(-0.0f)) == 0x8000);
}

TEST_CASE("bf16: arithmetic rounds once") {
    std::mt19937 random(2);
    std::uniform_real_distribution<float> value(-4, 4);
    for (int i = 0; i < 20000; ++i) {
        const __nv_bfloat16 a = value(random), b = value(random), c = value(random);
        const double x = float(a), y = float(b);
        // exact in float
        CHECK(__bfloat16_as_ushort(a * b) == nearest_even(static_cast<float>(x * y)));
        CHECK(__bfloat16_as_ushort(a + b) == nearest_even(static_cast<float>(x + y)));
        CHECK(__bfloat16_as_ushort(__hfma(a, b, c)) ==
              nearest_even(std::fma(float(a), float(b), float(c))));
        CHECK((a < b) == (x < y));
        CHECK(float(__hmax(a, b)) == std::max(x, y));
    }
    const __nv_bfloat16 nan = __ushort_as_bfloat16(0x7fff), one = 1.0f;
    CHECK_FALSE(nan == nan);
    CHECK(nan != one);
    CHECK(float(__hmax(nan, one)) == 1.0f);
    CHECK(float(__hmin(one, nan)) == 1.0f);
    CHECK(float(-one) == -1.0f);
    const __nv_bfloat162 two = __floats2bfloat162_rn(1.5f, -2.0f);
    CHECK(__low2float(two) == 1.5f);
    CHECK(__high2float(two * two) == 4.0f);
    unsigned packed;
    std::memcpy(&packed, &two, 4);
    CHECK(packed == 0xc0003fc0u);  // x in the lower half
}

TEST_CASE("vgpu: fast exponentials and logarithms") {
    // Bounds measured over these points; CUDA's own for __expf is 2 + 1.16 |x| ulp, for __logf
    // 2^-21.4 absolute near 1.
    double exp_worst = 0, exp2_worst = 0, log_worst = 0, pow_worst = 0;
    for (int i = -105000; i <= 89000; i += 7) {
        const float x = static_cast<float>(i) * 1e-3f;
        exp_worst = std::max(exp_worst, ulps(__expf(x), std::exp(double{x})));
        exp2_worst = std::max(exp2_worst, ulps(vgpu::exp2_fast(x), std::exp2(double{x})));
    }
    CHECK(exp_worst <= 2.0);
    CHECK(exp2_worst <= 2.0);
    for (unsigned u = 1; u < 0x7f800000u; u += 40503) {
        const float x = std::bit_cast<float>(u);
        const double want = std::log(double{x});
        log_worst = std::max(log_worst, std::abs(__logf(x) - want) / std::max(std::abs(want), 0.1));
    }
    CHECK(log_worst <= std::ldexp(1.0, -21));
    for (int i = 1; i < 40000; ++i) {  // LRN's powers
        const float x = 1.0f + static_cast<float>(i) * 1e-2f;
        const double want = std::pow(double{x}, -0.75);
        pow_worst = std::max(pow_worst, std::abs(__powf(x, -0.75f) - want) / want);
    }
    CHECK(pow_worst <= 2e-6);
    CHECK(__expf(1000.0f) == HUGE_VALF);
    CHECK(__expf(-1000.0f) == 0.0f);
    CHECK(__expf(-HUGE_VALF) == 0.0f);
    CHECK(__expf(0.0f) == 1.0f);
    CHECK(std::isnan(__expf(NAN)));
    CHECK(__logf(0.0f) == -HUGE_VALF);
    CHECK(__logf(HUGE_VALF) == HUGE_VALF);
    CHECK(__logf(1.0f) == 0.0f);
    CHECK(std::isnan(__logf(-1.0f)));
    CHECK(std::isnan(__logf(NAN)));
}

TEST_CASE("vgpu: bits and integers") {
    CHECK(__popc(0xf0f00001u) == 9);
    CHECK(__clz(1) == 31);
    CHECK(__clz(0) == 32);
    CHECK(__ffs(0) == 0);
    CHECK(__ffs(8) == 4);
    CHECK(__brev(1u) == 0x80000000u);
    CHECK(__brev(0x12345678u) == 0x1e6a2c48u);
    CHECK(__umulhi(0xffffffffu, 0xffffffffu) == 0xfffffffeu);
    CHECK(__mulhi(-1, 5) == -1);
    CHECK(__mul64hi(1ll << 62, 8) == 2);
    CHECK(__byte_perm(0x33221100u, 0x77665544u, 0x7531u) == 0x77553311u);
    CHECK(__funnelshift_l(0x80000000u, 1u, 1) == 3u);
    CHECK(__float_as_int(1.0f) == 0x3f800000);
    CHECK(__saturatef(NAN) == 0.0f);
    CHECK(__saturatef(3.0f) == 1.0f);
    CHECK(max(1.0f, NAN) == 1.0f);
    CHECK(min(NAN, 2.0f) == 2.0f);
    CHECK(__float2int_rn(2.5f) == 2);
    CHECK(rsqrtf(4.0f) == 0.5f);
}
