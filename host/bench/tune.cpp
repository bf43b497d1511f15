#include "host/bench/tune.h"

#include <cstdio>

#include "host/bench/comparison.h"

namespace wt::bench {

Tuning::Entry fastest_variant(const std::string& layer_op, const std::string& operation,
                              const std::string& problem, KernelChoice choice,
                              const TuneSettings& how) {
    const DeviceGuard guard(how.device);
    const BenchCase bench_case = problem_case(operation, problem, how.device);
    Settings settings;
    settings.device = how.device;
    settings.patience.seconds = how.seconds;
    settings.variants = bench_case.candidates(choice);
    Tuning::Entry best{bench_case.variants[bench_case.chosen(choice)].name, 0};
    if (settings.variants.empty()) return best;
    Stopwatch watch(how.device);
    int timed = 0;
    for (const Row& row : compare(bench_case, watch, settings).rows) {
        if (row.state != Row::State::timed) continue;
        ++timed;
        if (best.ms == 0 || row.timing.median_ms < best.ms)
            best = {row.variant, row.timing.median_ms};
    }
    std::printf("tuned   %-28s %-14s %.4f ms, fastest of %d\n", layer_op.c_str(),
                best.variant.c_str(), best.ms, timed);
    std::fflush(stdout);
    return best;
}

}  // namespace wt::bench
