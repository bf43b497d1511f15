// GPUs for which nothing was built, as virtual GPUs can be told to be.
#include <doctest/doctest.h>

#include "host/cuda/architecture.h"
#include "host/cuda/buffer.h"
#include "host/cuda/check.h"
#include "host/vgpu/runtime/faults.h"
#include "kernels/probe/pattern.h"
#include "test/program.h"

using namespace wt;
using namespace wt::test;

TEST_CASE(
    "vgpu faults: a device runs its major architecture's code up to its minor one, else the last's "
    "PTX") {
    struct Row {
        int capability;
        const char* built;
        int runs;
        bool translated;
    };
    for (const Row& r :
         {Row{80, "80 90", 80, false}, Row{86, "80 90", 80, false}, Row{89, "80 86 90", 86, false},
          Row{90, "80 90", 90, false}, Row{100, "80 90", 90, true}, Row{120, "80", 80, true},
          Row{90, "80", 80, true}, Row{75, "80 90", 0, false}, Row{86, "90", 0, false},
          Row{80, "86 90", 0, false}, Row{89, "90 80", 80, false}, Row{100, "90 120", 0, false}}) {
        INFO(r.capability << " with " << std::string(r.built));
        const vgpu::DeviceCode code = vgpu::code_for(r.capability, r.built);
        CHECK(code.architecture == r.runs);
        CHECK(code.translated == r.translated);
    }
}

TEST_CASE("architecture: what was built, what the GPU is, and what to build") {
    CHECK(missing_architecture("GPU 1 (a card)", 86, "90", {90, 86, 90}) ==
          "GPU 1 (a card) has compute capability 8.6, and the kernels were built for sm_90 and, as "
          "PTX, for compute_90 and later: build with make "
          "ARCHS=\"86 90\"");
    CHECK(missing_architecture("GPU 0 (a card)", 75, "80 90", {75}) ==
          "GPU 0 (a card) has compute capability 7.5, and the kernels were built for sm_80, sm_90 "
          "and, as PTX, for compute_90 and later: they need "
          "8.0 or later; use another GPU, or virtual ones (make TARGET=vgpu)");
}

TEST_CASE("architecture: programs say at their start that nothing was built for a GPU") {
    const TempDir s;
    const std::string train =
        program("train") + " --net mini --data synthetic:10 --batch 4 --steps 1 --out run --gpus ";
    const std::string second = "VGPU_CAPABILITY=9.0,8.6 VGPU_ARCHS=90 ";
    const std::string told =
        "GPU 1 (virtual GPU 1) has compute capability 8.6, and the kernels were built for sm_90 "
        "and, as PTX, for compute_90 and "
        "later: build with make ARCHS=";
    check_one_line(run(s, second + train + "0,1"), 1, "train: " + told + "\"86 90\"\n");
    check_one_line(run(s, second + train + "1"), 1, "train: " + told + "86\n");
    CHECK_FALSE(std::filesystem::exists(s / "run"));
    check_one_line(
        run(s, second + program("compare") + " lrn_forward --net mini --check-only --device 1"), 1,
        "compare: " + told + "86\n");
    check_one_line(run(s, "VGPU_CAPABILITY=7.5 " + program("unit") + " -tc='*philox*'"), 1,
                   "unit: GPU 0 (virtual GPU 0) has compute capability 7.5");
    CHECK(run(s, second + train + "0,0").status == 0);  // those that are used
    // PTX, translated by the driver
    CHECK(run(s, "VGPU_CAPABILITY=12.0 " + train + "0,1 --overwrite").status == 0);
}

TEST_CASE(
    "architecture: a virtual GPU older than 9.0 is planned for as one, and refuses Hopper's") {
    const TempDir s;
    const std::string older = "VGPU_CAPABILITY=8.6 ",
                      train = program("train") +
                              " --net mini --data synthetic:10 --batch 4 --steps 1 --gpus 0 "
                              "--precision bf16 --out run --kernels own";
    check_one_line(run(s, older + train + ",conv2.fprop=wgmma_sm90"), 2,
                   "needs compute capability 9.0");
    CHECK(run(s, older + train + ",conv2.fprop=mma_sm80").status == 0);
    // By preference, not by name: a GPU's tensor cores, where a CPU does better without.
    const std::string log = slurp(s / "run/metrics.jsonl");
    CHECK(log.find("\"conv3.fprop\":\"mma_sm80\"") != std::string::npos);
}

TEST_CASE("architecture: without the check the first kernel fails as CUDA's would") {
    const TempDir s;
    const Result r = run(s, "VGPU_CAPABILITY=9.0,7.5 " + program("unit") +
                                " --no-skip -tc='no kernel image: architecture'");
    INFO(r.out << r.err);
    CHECK(r.status == 0);
    CHECK(r.out.find("1 passed, 0 failed") != std::string::npos);
}

TEST_CASE("no kernel image: architecture" * doctest::skip()) {
    const DeviceGuard guard(1);
    DeviceBuffer<uint32_t> words(1, 64);
    std::string why;
    try {
        probe::write_pattern(words.data(), 64, 1, nullptr);
    } catch (const Error& e) {
        why = e.what();
    }
    CHECK(why.find("cudaErrorNoKernelImageForDevice (no kernel image is available for execution on "
                   "the device") != std::string::npos);
    cudaFuncAttributes a{};
    CHECK(cudaFuncGetAttributes(&a, probe::pattern_kernel()) == cudaErrorNoKernelImageForDevice);
    CHECK(cudaGetLastError() == cudaErrorNoKernelImageForDevice);
}
