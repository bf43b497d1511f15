// All variants of all cases, verified and timed: what bin/compare prints, as data. report.h writes
// it.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "host/bench/bench_case.h"
#include "host/bench/network_cases.h"
#include "host/bench/measure.h"

namespace wt::bench {

// What the device can do at most, measured on it: the fastest right variant of the tables, on
// problems large enough.
struct Ceiling {
    double rate = 0;  // FLOP/s or bytes/s; 0: not measured
    std::string how;  // "gemm cublas, 8192 x 8192 x 8192"
};
struct Ceilings {
    Ceiling matrix, copy;
    // Milliseconds that the case takes at the very least, by the one that binds it; 0: not known.
    double least_ms(const BenchCase& bench_case) const;
    bool by_matrix(const BenchCase& bench_case) const;
};
Ceilings measure_ceilings(Stopwatch&, int device, Precision);

struct Row {
    enum class State { timed, right, wrong, skipped } state;
    std::string variant;
    bool baseline = false;
    Timing timing;
    double error = 0, error_ratio = 0;
    std::string why;  // wrong, skipped; right: why it was not timed
};

struct Compared {
    BenchCase bench_case;
    std::vector<Row> rows;
    std::string lost;  // "", or what made the device useless: nothing more can be run on it
    double best(bool baselines) const;  // milliseconds of the fastest, 0: none was timed
};

struct Comparison {
    std::string device, precision, net;
    int batch = 0;
    int sms = 0;  // kernels were planned for so many; 0: for all
    bool checked_only = false;
    bool complete = false;  // no case is left to be compared
    std::string driver;     // "" when not known
    std::optional<Clocks::Mhz> most;
    Ceilings ceilings;
    std::vector<Compared> cases;

    int wrong() const;
    // The variants that were asked for by name and that nothing was done with, and why ("" where
    // all were run).
    std::string skipped(const std::vector<std::string>& names) const;
    // Milliseconds of the fastest variants of a fused case's parts; 0: some part was not timed.
    double parts_ms(const BenchCase& bench_case) const;
    // Whether training does the parts of a fused case in one, where nothing was measured:
    // KernelSettings::fuses.
    bool automatic_fuses(const BenchCase& bench_case) const;
};

struct Settings {
    int device = 0;
    bool check_only = false;
    std::vector<std::string> variants;  // only these; empty: all but those with a fixed plan
    bool fixed_plans = false;           // where no names are given: those too
    Patience patience = default_patience();
};

// What is heard from a comparison while it is under way. Either may be empty.
struct Progress {
    // "checking", "timing"; before it runs
    std::function<void(const std::string& doing, const std::string& variant)> begins;
    // each row in the table's order, as soon as it is known
    std::function<void(const Compared&, const Row&)> row;
};

// Verifies every variant of the case, and times the right ones. An exception from one of them is
// its own failure: it counts as wrong, and the others go on, unless the device was lost with it.
Compared compare(const BenchCase& bench_case, Stopwatch& watch, const Settings& settings,
                 const Progress& progress = {});

}  // namespace wt::bench
