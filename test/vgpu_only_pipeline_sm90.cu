// A pipeline of wgmmas that lacks one fence or wait is caught under some seed: accumulators are
// written at the earliest or the latest moment that is legal. With PTX=1 the kernel is what nvcc
// makes of it.
#include <string>
#include <vector>

#include "kernels/common/dtype.h"
#include "kernels/launch.h"
#include "kernels/ptx/tma.h"
#include "kernels/ptx/wgmma.h"
#include "test/wgmma_tiles.h"

// With a name: nvcc leaves out kernels that nothing else in the file can call.
namespace pipelines {

using namespace wt;
using test::fill;
using test::Tiles;

enum class Left {
    nothing,
    first_fence,
    later_fence,
    wait_before_refill,
    last_wait,
    last_commit,
    read_before_wait
};

constexpr int kTiles = 6;

// Six tiles of k = 64 through two buffers; accumulators are doubled after the second.
__global__ void pipeline(float* out, Left left) {
    Tiles& s = shared_storage<Tiles>();
    const auto load = [&](int tile) {
        fill(s.a[tile % 2], tile, 5);
        fill(s.b[tile % 2], tile, 7);
        ptx::fence_proxy_async();
        __syncthreads();
    };
    float d[32] = {};
    load(0);
    for (int tile = 0; tile < kTiles; ++tile) {
        if (left != Left::first_fence && (left != Left::later_fence || tile == 0))
            ptx::wgmma_fence();
        for (int step = 0; step < 4; ++step)
            ptx::wgmma_bf16<64>(
                d, ptx::wgmma_descriptor(&s.a[tile % 2][0][16 * step], 0, 1024, ptx::Swizzle::b128),
                ptx::wgmma_descriptor(&s.b[tile % 2][0][16 * step], 0, 1024, ptx::Swizzle::b128),
                true);
        if (left != Left::last_commit || tile < kTiles - 1) ptx::wgmma_commit();
        if (left == Left::read_before_wait && tile == kTiles - 1)
            for (int i = 0; i < 32; ++i) out[threadIdx.x * 32 + i] = d[i];
        if (tile == 1) {
            ptx::wgmma_wait<0>();
            for (float& v : d) v *= 2;
        } else if (left != Left::wait_before_refill) {
            ptx::wgmma_wait<1>();
        }
        __syncthreads();
        if (tile + 1 < kTiles) load(tile + 1);
    }
    if (left != Left::last_wait) ptx::wgmma_wait<0>();
    if (left != Left::read_before_wait)
        for (int i = 0; i < 32; ++i) out[threadIdx.x * 32 + i] = d[i];
}

}  // namespace pipelines

#ifdef VGPU
#include <doctest/doctest.h>

#include "test/vgpu_run.h"

namespace {

using namespace pipelines;
using test::has;
using test::run;

constexpr uint64_t kSeeds = 20;

std::vector<float> expected_pipeline() {
    std::vector<float> out(128 * 32);
    for (int thread = 0; thread < 128; ++thread)
        for (int i = 0; i < 32; ++i) {
            const int m = thread / 32 * 16 + thread % 32 / 4 + 8 * (i / 2 % 2),
                      n = 8 * (i / 4) + 2 * (thread % 4) + i % 2;
            int sum = 0;
            for (int tile = 0; tile < kTiles; ++tile) {
                for (int k = 0; k < 64; ++k)
                    sum += ((tile * 4096 + m * 64 + k) * 5 % 17 - 8) *
                           ((tile * 4096 + n * 64 + k) * 7 % 17 - 8);
                if (tile == 1) sum *= 2;
            }
            out[static_cast<size_t>(thread * 32 + i)] = static_cast<float>(sum);
        }
    return out;
}

// Under how many of the seeds 1 .. kSeeds the kernel fails or gives something else.
int caught(Left left, std::string* said = nullptr) {
    const std::vector<float> expected = expected_pipeline();
    int n = 0;
    for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
        std::vector<float> out(expected.size());
        const auto failure = run({1, 128, sizeof(Tiles), seed}, pipeline, out.data(), left);
        if (failure && said) *said = failure.message;
        n += failure || out != expected;
    }
    return n;
}

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` and PTX=1 run

TEST_CASE("ptx: a wgmma pipeline is right under every seed") {
    CHECK(caught(Left::nothing) == 0);
    std::vector<float> out(128 * 32);
    CHECK(!run({1, 128, sizeof(Tiles)}, pipeline, out.data(), Left::nothing));
    CHECK(out == expected_pipeline());
}

TEST_CASE("ptx: a wgmma pipeline that lacks one fence or wait is caught under some seed") {
    std::string text;
    CHECK(caught(Left::first_fence, &text) == kSeeds);
    CHECK_MESSAGE(has(text, "wgmma m64n64k16 bf16 at test/vgpu_only_pipeline_sm90.cu:"), text);
    CHECK_MESSAGE(has(text, "without a wgmma_fence before it"), text);
    CHECK(caught(Left::later_fence, &text) == kSeeds);
    CHECK_MESSAGE(has(text, "has written its accumulators since the last wgmma_wait"), text);
    CHECK(caught(Left::wait_before_refill) > 0);
    CHECK(caught(Left::read_before_wait) == kSeeds);
    CHECK(caught(Left::last_wait, &text) == kSeeds);
    CHECK_MESSAGE(has(text, "has not been waited for"), text);
    CHECK(caught(Left::last_commit, &text) == kSeeds);
}

TEST_SUITE_END();
#endif  // VGPU
