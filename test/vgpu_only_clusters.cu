// How many clusters a virtual GPU says run at once, and that kernels' plans follow it.
#include <doctest/doctest.h>

#include <string>

#include "host/cuda/check.h"
#include "kernels/common/clusters.h"
#include "kernels/common/machine.h"
#include "kernels/gemm/wgmma_plan.h"
#include "test/program.h"

using namespace wt;
using namespace wt::test;

namespace {

__global__ void nothing(int) {}
__global__ void nothing_either(int) {}
__global__ void large(int) {}

// What the device answers, -1 where it refuses; why.
struct Answer {
    int clusters = -1;
    cudaError_t error = cudaSuccess;
};
Answer ask(unsigned size, unsigned threads = 384, size_t shared = 0, unsigned grid = 0) {
    cudaLaunchAttribute a{};
    a.id = cudaLaunchAttributeClusterDimension;
    a.val.clusterDim = {size, 1, 1};
    cudaLaunchConfig_t c{};
    c.gridDim = dim3(grid ? grid : size);
    c.blockDim = dim3(threads);
    c.dynamicSmemBytes = shared;
    c.attrs = &a, c.numAttrs = 1;
    Answer answer;
    answer.error = cudaOccupancyMaxActiveClusters(&answer.clusters, large, &c);
    cudaGetLastError();
    return answer;
}

GemmProblem fc7() {
    return {.layout = GemmLayout::nt,
            .m = 128,
            .n = 4096,
            .k = 4096,
            .lda = 4096,
            .ldb = 4096,
            .ldc = 4096,
            .dtype = DType::bf16,
            .out = DType::bf16};
}

}  // namespace

TEST_CASE("vgpu clusters: as many at once as on an H100") {
    constexpr size_t kAll = 227 << 10;
    CHECK(ask(1, 384, kAll).error == cudaErrorInvalidValue);  // not allowed yet
    CHECK(cudaFuncSetAttribute(large, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(kAll)) == cudaSuccess);
    CHECK(ask(1, 384, kAll).clusters == 132);
    CHECK(ask(2, 384, kAll).clusters == 66);
    CHECK(ask(3, 384, kAll).clusters == 42);  // 6 parts of 16 SMs, 2 of 18
    CHECK(ask(4, 384, kAll).clusters == 32);
    CHECK(ask(8, 384, kAll).clusters == 16);
    CHECK(ask(8, 384, 100 << 10).clusters == 32);  // two blocks an SM
    CHECK(ask(1, 1024).clusters == 2 * 132);
    // What a launch refuses.
    CHECK(ask(16).error == cudaErrorInvalidClusterSize);
    CHECK(ask(4, 384, 0, 6).error == cudaErrorInvalidClusterSize);
    CHECK(ask(2, 1025).error == cudaErrorInvalidConfiguration);
    CHECK(ask(2, 384, 228 << 10).error == cudaErrorInvalidValue);
    cudaLaunchConfig_t plain{};
    plain.gridDim = plain.blockDim = dim3(1);
    CHECK(cudaOccupancyMaxActiveClusters(nullptr, nothing, &plain) == cudaErrorInvalidValue);
    int clusters = 0;
    CHECK(cudaOccupancyMaxActiveClusters(&clusters, nothing, nullptr) == cudaErrorInvalidValue);
    CHECK(cudaOccupancyMaxActiveClusters(&clusters, static_cast<const void*>(nullptr), &plain) ==
          cudaErrorInvalidDeviceFunction);
    CHECK(cudaGetLastError() == cudaErrorInvalidDeviceFunction);
}

TEST_CASE("vgpu clusters: kernels are planned for them") {
    const auto kernel = reinterpret_cast<const void*>(nothing_either);
    const auto at_once = [&](unsigned size) {
        return clusters_at_once({.grid = {},
                                 .block = dim3(384),
                                 .stream = nullptr,
                                 .shared = 200 << 10,
                                 .cluster = size},
                                kernel);
    };
    CHECK(at_once(1) == 132);
    CHECK(at_once(2) == 66);
    CHECK(at_once(4) == 32);
    CHECK(at_once(8) == 16);
    plan_overrides.sms = 7;  // never more than the SMs hold
    CHECK(at_once(4) == 1);
    CHECK(at_once(8) == 0);
    plan_overrides.sms = 0;
    const gemm_wgmma::Plan plan = gemm_wgmma::plan_of(fc7());
    CHECK(plan.schedule.cluster_size() == 4);
    CHECK(plan.blocks == 128);
}

// Run by the next test, in a process of its own.
TEST_CASE("fewer clusters: plans" * doctest::skip()) {
    CHECK(ask(4).clusters == 31);
    CHECK(ask(8).clusters == 14);
    CHECK(ask(2, 1024).clusters == 132);
    const gemm_wgmma::Plan plan = gemm_wgmma::plan_of(fc7());
    CHECK(plan.waves == 1);
    CHECK(plan.schedule.cluster_size() != 4);
    CHECK(plan.schedule.cluster_size() != 8);
}

TEST_CASE("vgpu clusters: VGPU_CLUSTERS changes what is planned") {
    const TempDir s;
    const auto unit = [&](const char* clusters) {
        return run(s, std::string("VGPU_CLUSTERS=") + clusters + " " + program("unit") +
                          " --no-skip -tc='fewer clusters: plans'");
    };
    const Result told = unit("4:31,8:14");
    INFO(told.out << told.err);
    CHECK(told.status == 0);
    CHECK(told.out.find("1 passed, 0 failed") != std::string::npos);
    CHECK(unit("4:32").status != 0);
    for (const char* bad : {"4", "4:x", "0:3", "17:1", "4:31+8:14"}) {
        INFO(std::string(bad));
        const Result r = unit(bad);
        CHECK(r.status != 0);
        CHECK(r.err.find(std::string("vgpu: VGPU_CLUSTERS=") + bad + ": must be sizes") !=
              std::string::npos);
    }
}
