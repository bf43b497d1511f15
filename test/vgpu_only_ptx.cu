// Compiled PTX on virtual GPUs: the values of instructions that C++ defines otherwise, and launches
// of kernels that are not in the PTX.
#include <doctest/doctest.h>

#include <cfenv>
#include <cmath>
#include <random>
#include <string>

#include "host/cuda/check.h"
#include "host/vgpu/ptx_exec/run.h"
#include "kernels/launch.h"

using namespace vgpu::ptx_exec;

namespace {

void not_in_ptx(int* p) { *p = 1; }

// Bit by bit, as the PTX ISA's pseudo-code has it.
uint32_t extract(uint32_t a, unsigned pos, unsigned len, bool is_signed) {
    uint32_t d = 0;
    const unsigned top = pos + len - 1 < 31 ? pos + len - 1 : 31;
    const uint32_t sign = is_signed && len ? a >> top & 1 : 0;
    for (unsigned i = 0; i < 32; ++i)
        d |= (i < len && pos + i <= 31 ? a >> (pos + i) & 1 : sign) << i;
    return d;
}
uint32_t insert(uint32_t a, uint32_t b, unsigned pos, unsigned len) {
    for (unsigned i = 0; i < len && pos + i <= 31; ++i)
        b = (b & ~(1u << (pos + i))) | (a >> i & 1) << (pos + i);
    return b;
}

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` and PTX=1 run

TEST_CASE("PTX: a kernel that is not in the program's PTX is refused") {
    int* p = nullptr;
    WT_CUDA(cudaMalloc(&p, sizeof *p));
    std::string said;
    try {
        wt::launch("not_in_ptx", {.grid = 1, .block = 1, .stream = nullptr}, not_in_ptx, p);
    } catch (const wt::Error& e) {
        said = e.what();
    }
    if (present()) {
        CHECK(said.find("cudaErrorInvalidDeviceFunction") != std::string::npos);
        CHECK(said.find("not_in_ptx") != std::string::npos);
    } else {
        CHECK(said.empty());
        int host = 0;
        WT_CUDA(cudaMemcpy(&host, p, sizeof host, cudaMemcpyDeviceToHost));
        CHECK(host == 1);
    }
    WT_CUDA(cudaFree(p));
}

TEST_SUITE_END();

TEST_CASE("PTX: shifts, fields and bytes") {
    CHECK(shl(1u, 31) == 1u << 31);
    CHECK(shl(1u, 32) == 0);
    CHECK(shl(uint64_t{1}, 64) == 0);
    CHECK(shr(0x80000000u, 32) == 0);
    CHECK(shr(static_cast<int32_t>(0x80000000u), 40) == -1);
    CHECK(shr(int64_t{-5}, 1) == -3);
    CHECK(funnel<funnel_left>(0x80000000u, 1u, 1, false) == 3);
    CHECK(funnel<funnel_left>(5u, 1u, 32, true) == 5);
    CHECK(funnel<funnel_left>(5u, 1u, 32, false) == 1);
    CHECK(funnel<funnel_right>(5u, 1u, 32, true) == 1);
    CHECK(funnel<funnel_right>(4u, 1u, 2, false) == 0x40000001u);
    CHECK(prmt(0x33221100u, 0x77665544u, 0x7531) == 0x77553311u);
    CHECK(prmt(0x80, 0, 0x0008) == 0x808080ffu);  // 8: the sign of byte 0, four times 0x80 else
    CHECK(prmt(0x7f, 0, 0x4448) == 0);
    std::mt19937 random(1);
    for (int i = 0; i < 20000; ++i) {
        const uint32_t a = random(), b = random(), pos = random() % 40, len = random() % 40;
        CHECK(bfe(a, pos, len) == extract(a, pos, len, false));
        if (pos < 32)
            CHECK(bfe(static_cast<int32_t>(a), pos, len) ==
                  static_cast<int32_t>(extract(a, pos, len, true)));
        CHECK(bfi(a, b, pos, len) == insert(a, b, pos, len));
    }
}

TEST_CASE("PTX: division") {
    CHECK(divide<int32_t>(-7, 2) == -3);
    CHECK(remainder_of<int32_t>(-7, 2) == -1);
    CHECK(divide<int32_t>(INT32_MIN, -1) == INT32_MIN);
    CHECK(remainder_of<int64_t>(INT64_MIN, -1) == 0);
    CHECK(divide<uint32_t>(7, 0) == ~0u);
    CHECK(remainder_of<uint32_t>(7, 0) == 7);
}

TEST_CASE("PTX: floats") {
    const float tiny = 0x1p-130f, nan = std::nanf("");
    CHECK(flush(tiny) == 0);
    CHECK(std::signbit(flush(-tiny)));
    CHECK(flush(0x1p-126f) == 0x1p-126f);
    CHECK(std::isnan(flush(nan)));
    CHECK(saturate(nan) == 0);
    CHECK(saturate(-2) == 0);
    CHECK(saturate(2) == 1);
    CHECK(saturate(0.25f) == 0.25f);
    CHECK(least_number(nan, 1.f) == 1);
    CHECK(most_number(1.f, nan) == 1);
    CHECK(std::isnan(most_number(nan, nan)));
    CHECK(std::signbit(least_number(0.f, -0.f)));
    CHECK(!std::signbit(most_number(-0.f, 0.f)));
    CHECK(to_integer<int32_t>(nan) == 0);
    CHECK(to_integer<int32_t>(3e9f) == INT32_MAX);
    CHECK(to_integer<int32_t>(-3e9f) == INT32_MIN);
    CHECK(to_integer<int32_t>(-2147483520.f) == -2147483520);
    CHECK(to_integer<uint32_t>(-1.f) == 0);
    CHECK(to_integer<uint64_t>(nan) == 1ull << 63);
    CHECK(to_bf16(1.f) == 0x3f80);
    CHECK(to_bf16(0x1.01p0f) == 0x3f80);  // a tie: to the even one
    CHECK(to_bf16(0x1.03p0f) == 0x3f82);
    CHECK(to_bf16(nan) == 0x7fff);
    CHECK(to_bf16(3.4e38f) == 0x7f80);
    CHECK(from_bf16(0xc000) == -2.f);
}

TEST_CASE("PTX: fma.rm rounds down") {
    std::mt19937 random(2);
    const auto any = [&](int range) {
        const float f = std::ldexp(static_cast<float>(random() % (1u << 24)) + 1,
                                   static_cast<int>(random() % range) - range / 2 - 24);
        return random() & 1 ? -f : f;
    };
    int inexact = 0;
    for (int i = 0; i < 20000; ++i) {
        volatile float a = any(8), b = any(8), c = any(60);
        std::fesetround(FE_DOWNWARD);
        volatile float want = std::fma(a, b, c);
        std::fesetround(FE_TONEAREST);
        volatile float nearest = std::fma(a, b, c);
        inexact += want != nearest;
        CHECK(fma_down(a, b, c) == want);
    }
    CHECK(inexact > 1000);
}
