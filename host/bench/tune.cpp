// Measuring the variants of a problem for the trainer's choice (host/net/tuning.h).
#include <cstdio>

#include "host/bench/comparison.h"
#include "host/net/operations.h"
#include "host/net/tuning.h"

namespace wt {

template <class Problem, class Args>
Tuning::Entry measure_variants(const std::string& layer_pass, Table<Problem, Args> table, const Problem& problem, KernelChoice choice, const Tuning& how) {
    const int device = how.measure_on;
    const DeviceGuard guard(device);
    const int sm = device_sm(device);
    const bench::Job job = bench::make_job(layer_pass, operation_name<Args>, problem, table, sm);
    bench::Settings settings;
    settings.device = device;
    settings.patience.seconds = how.seconds;
    for (size_t i = 0; i < table.size(); ++i) {
        if (!job.variants[i].refuses.empty() || !allowed(table[i], choice, sm)) continue;
        // Made for the other kind of device, and slow on this one.
        if (const Preference p = table[i].preference; p.on(sm) == 0 && (p.gpu || p.cpu)) continue;
        settings.variants.push_back(table[i].name);
    }
    const auto& automatic = choose(table, problem, choice, sm);
    if (settings.variants.empty()) return {automatic.name, 0};
    bench::Stopwatch watch(device);
    Tuning::Entry best{automatic.name, 0};
    int timed = 0;
    for (const bench::Row& row : bench::compare(job, watch, settings).rows) {
        if (row.state != bench::Row::State::timed) continue;
        ++timed;
        if (best.ms == 0 || row.timing.median_ms < best.ms) best = {row.variant, row.timing.median_ms};
    }
    std::printf("tuned   %-28s %-14s %.4f ms, fastest of %d\n", layer_pass.c_str(), best.variant.c_str(), best.ms, timed);
    std::fflush(stdout);
    return best;
}

#define WT_TUNED(Problem, Args)                                                                                            \
    template Tuning::Entry measure_variants(const std::string&, Table<Problem, Args>, const Problem&, KernelChoice, const Tuning&);
WT_TUNED(ConvProblem, ConvFpropArgs)
WT_TUNED(ConvProblem, ConvDgradArgs)
WT_TUNED(ConvProblem, ConvWgradArgs)
WT_TUNED(GemmProblem, GemmArgs)
WT_TUNED(LrnProblem, LrnForwardArgs)
WT_TUNED(LrnProblem, LrnBackwardArgs)
WT_TUNED(PoolProblem, PoolForwardArgs)
WT_TUNED(PoolProblem, PoolBackwardArgs)
WT_TUNED(LrnPoolProblem, LrnPoolForwardArgs)
WT_TUNED(LrnPoolProblem, LrnPoolBackwardArgs)
WT_TUNED(ActivationProblem, ActivationForwardArgs)
WT_TUNED(ActivationProblem, ActivationBackwardArgs)
WT_TUNED(DropoutProblem, DropoutArgs)
WT_TUNED(SoftmaxProblem, SoftmaxArgs)
WT_TUNED(AugmentProblem, AugmentArgs)
WT_TUNED(SgdProblem, SgdArgs)
#undef WT_TUNED

}  // namespace wt
