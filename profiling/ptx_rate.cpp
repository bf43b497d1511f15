// How long kernels take on a virtual GPU, in CPU seconds of one core, a line each:
//
//   ptx_rate      OP VARIANT SECONDS INSTRUCTIONS, of one launch
//
// In a program whose kernels are compiled PTX that counts the instructions it executes
// (ptx_rate.py makes it), INSTRUCTIONS are those of the launch, of all its threads; else 0.
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "host/bench/registry.h"
#include "host/cuda/stream.h"

extern "C" [[gnu::weak]] uint64_t vgpu_ptx_executed;

namespace {

using namespace wt;

struct Row {
    const char *op, *problem, *variant;
    bench::Precision precision;
};
// Beside tensor operations: plain products, loops over pixels, reductions, updates.
constexpr Row kRows[] = {
    {"gemm", "m=256,n=256,k=256", "naive", bench::Precision::fp32},
    {"gemm", "m=512,n=512,k=512", "tiled", bench::Precision::fp32},
    {"conv_fprop", "n=1,h=13,c=64,k=64,r=3,pad=1", "naive", bench::Precision::fp32},
    {"conv_dgrad", "n=1,h=13,c=64,k=64,r=3,pad=1", "naive", bench::Precision::bf16},
    {"lrn_forward", "pixels=2916,c=96", "vec8", bench::Precision::bf16},
    {"lrn_forward", "pixels=2916,c=96", "shuffle", bench::Precision::bf16},
    {"pool_forward", "n=4,h=27,c=96", "vec8", bench::Precision::bf16},
    {"lrn_pool_forward", "n=1,h=27,c=96", "fused", bench::Precision::bf16},
    {"dropout", "", "vec128", bench::Precision::bf16},
    {"softmax", "rows=128,classes=1000", "row", bench::Precision::fp32},
    {"softmax", "rows=128,classes=1000", "block", bench::Precision::fp32},
    {"sgd", "total=1048576", "multi", bench::Precision::fp32},
};

double cpu_seconds() {
    timespec t{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

void measure(const Row& row) {
    const bench::BenchCase c = bench::problem_case(row.op, row.problem, row.precision, 0);
    size_t v = 0;
    while (v < c.variants.size() && c.variants[v].name != row.variant) ++v;
    if (v == c.variants.size() || !c.variants[v].refuses.empty())
        throw Error(std::string(row.op) + " has no variant " + row.variant + " for " + row.problem);
    const auto ready = c.prepare(0);
    const Stream stream(0);
    const auto once = [&] {
        const double begin = cpu_seconds();
        ready->launch(v, stream.get());
        stream.synchronize();
        return cpu_seconds() - begin;
    };
    once();
    const bool counted = &vgpu_ptx_executed != nullptr;
    const uint64_t before = counted ? vgpu_ptx_executed : 0;
    std::vector<double> seconds{once()};
    const uint64_t instructions = counted ? vgpu_ptx_executed - before : 0;
    double all = seconds[0];
    while (!counted && (seconds.size() < 5 || all < 0.3)) {
        seconds.push_back(once());
        all += seconds.back();
    }
    std::nth_element(seconds.begin(), seconds.begin() + std::ptrdiff_t(seconds.size() / 2),
                     seconds.end());
    std::printf("%s %s %.9f %llu\n", row.op, row.variant, seconds[seconds.size() / 2],
                static_cast<unsigned long long>(instructions));
    std::fflush(stdout);
}

}  // namespace

int main() {
    try {
        for (const Row& row : kRows) measure(row);
        return 0;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "ptx_rate: %s\n", e.what());
        return 1;
    }
}
