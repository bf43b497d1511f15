// Two bf16 at once: the greater ones with NaN kept, and masks of where one is greater.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "host/cuda/buffer.h"
#include "host/cuda/device.h"
#include "host/cuda/stream.h"
#include "kernels/launch.h"
#include "kernels/ptx/bf16x2.h"

namespace {

using namespace wt;

__global__ void both(const uint32_t* a, const uint32_t* b, uint32_t* out, int n) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= n) return;
    out[2 * i] = ptx::max_nan_bf16x2(a[i], b[i]);
    out[2 * i + 1] = ptx::greater_bf16x2(a[i], b[i]);
}

float value(uint32_t bits) {
    const uint32_t word = bits << 16;
    float f;
    std::memcpy(&f, &word, sizeof f);
    return f;
}

uint32_t greater_one(uint32_t a, uint32_t b) {
    const float x = value(a), y = value(b);
    if (std::isnan(x) || std::isnan(y)) return 0x7fff;
    if (x == y) return std::signbit(x) ? b : a;  // +0 rather than -0
    return x > y ? a : b;
}

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("ptx: two bf16 at once: maximum with NaN, and where one is greater") {
    if (const int sm = device_sm(0); sm && sm < 90) {
        MESSAGE("skip: bf16x2 comparisons need sm_90, this is sm_", sm);
        return;
    }
    // zeros, subnormals, the least normal one, ones, the greatest, infinities, NaNs; of both signs
    std::vector<uint32_t> values;
    for (const uint32_t v :
         {0x0000, 0x0001, 0x007f, 0x0080, 0x3f7f, 0x3f80, 0x7f7f, 0x7f80, 0x7f81, 0x7fc0, 0x7fff})
        for (const uint32_t sign : {0x0000, 0x8000}) values.push_back(v | sign);
    std::vector<uint32_t> a, b, want;
    for (const uint32_t x : values)
        for (const uint32_t y : values)
            for (const uint32_t other : {0x4000u, 0xc000u}) {
                // the upper halves are another pair, so that neither half leaks into the other
                a.push_back(x | other << 16);
                b.push_back(y | 0x3f80u << 16);
                want.push_back(greater_one(x, y) | greater_one(other, 0x3f80) << 16);
                want.push_back((value(x) > value(y) ? 0xffffu : 0) |
                               (value(other) > 1 ? 0xffff0000u : 0));
            }
    const int n = static_cast<int>(a.size());
    DeviceBuffer<uint32_t> in_a(0, a.size()), in_b(0, b.size()), out(0, want.size());
    in_a.upload(a);
    in_b.upload(b);
    const Stream stream(0);
    launch("bf16x2", {static_cast<unsigned>((n + 127) / 128), 128, stream.get()}, both,
           static_cast<const uint32_t*>(in_a.data()), static_cast<const uint32_t*>(in_b.data()),
           out.data(), n);
    stream.synchronize();
    const std::vector<uint32_t> got = out.download();
    for (size_t i = 0; i < want.size(); ++i) {
        CAPTURE(a[i / 2]);
        CAPTURE(b[i / 2]);
        CAPTURE(i % 2);
        CHECK(got[i] == want[i]);
    }
}

TEST_SUITE_END();
