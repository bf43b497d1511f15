// Measuring the variants of a problem, for the trainer's choice (host/net/tuning.h).
#pragma once

#include <string>

#include "host/net/tuning.h"

namespace wt::bench {

struct TuneSettings {
    int device = 0;
    double seconds = 0.3;  // of timing, each variant
};

// Measures every variant of `operation` that `choice` allows at the problem (as text_of has it),
// and prints a line. Returns the fastest right one; where none could be timed the one that is taken
// without measuring, with 0 ms.
Tuning::Entry fastest_variant(const std::string& layer_op, const std::string& operation,
                              const std::string& problem, KernelChoice choice,
                              const TuneSettings& settings);

}  // namespace wt::bench
