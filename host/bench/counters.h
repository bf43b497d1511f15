// bin/compare --counters: what a profiler would count of every variant, without a GPU. Only
// programs of make PTX=1 can (host/vgpu/README.md, "Counters").
//
//   if (const std::string why = why_no_counters(); !why.empty()) throw UsageError(why);
//   const CountedCase counted = count_case(bench_case, settings, begins);
//   puts(to_text(counted).c_str());
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "host/bench/comparison.h"
#include "host/json.h"

namespace wt::bench {

// "", or in one line why this program does not count and which one does.
std::string why_no_counters();

// Of instructions, of one kind of access, of one kind of matrix instruction, of one line. The
// names are those of the JSON file; what they mean: host/vgpu/ptx_exec/counters.h.
struct CountedAccess {
    std::string what;  // "global loads"
    std::string unit;  // "sectors", "wavefronts"
    double requests = 0, lanes = 0, units = 0, least = 0, bytes = 0, rows = 0;
};
struct CountedMatrix {
    std::string what;  // "wgmma 64x256x16 bf16"
    double warps = 0, flops = 0, shared_bytes = 0;
};
struct CountedLine {
    std::string place;  // "kernels/tile/simt.h:120"
    CountedAccess access;
};
struct CountedKernel {
    std::string name, shape;  // "48 blocks of 256 threads"
    double blocks = 0, warps = 0, instructions = 0, lanes = 0;
    std::vector<std::pair<std::string, double>> classes;  // the most first
    std::vector<CountedAccess> accesses;                  // those that it makes
    double block_sectors = 0;
    std::vector<CountedMatrix> matrix;
    std::vector<CountedLine> worst;  // by what they take beyond the least
};
struct CountedVariant {
    std::string variant;
    std::string why;  // "", or why it is not counted
    bool failed = false;
    std::vector<CountedKernel> kernels;

    // Bytes that go between L2 and the multiprocessors, where the first caches keep all of a block.
    double l2_bytes() const;
    double shared_wavefronts() const;  // of loads, stores and atomics, and of wgmma's operands
    double flops() const;              // of matrix instructions
    double instructions() const;
};
struct CountedCase {
    const BenchCase* bench_case = nullptr;
    std::string precision;
    std::vector<CountedVariant> variants;
};

// Runs each of the case's variants once, on a device of its own choice of order. `begins` hears
// which one is next.
CountedCase count_case(const BenchCase& bench_case, const Settings& settings,
                       const std::string& precision,
                       const std::function<void(const std::string& variant)>& begins);

std::string counters_heading();
std::string to_text(const CountedCase& counted);
Json to_json(const CountedCase& counted);
// One page of all cases.
std::string counters_page(const std::vector<CountedCase>& all, const std::string& title);

}  // namespace wt::bench
