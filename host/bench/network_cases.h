// The cases that a network's training step has: what bin/compare lists, verifies and times.
#pragma once

#include <string>
#include <vector>

#include "host/bench/bench_case.h"
#include "host/bench/registry.h"

namespace wt::bench {

// Every operation of a training step of the network, in the order of the step, and the fused ones
// after their parts.
std::vector<BenchCase> network_cases(const std::string& net, int batch, Precision, int device);
std::vector<BenchCase> network_cases(const std::string& net, int batch, Precision, Architecture);

// The cases whose operation is `op` (all when empty) and whose layer or LAYER.OP is `layer` (all
// when empty). Throws UsageError naming the nearest when there is none.
std::vector<BenchCase> select(std::vector<BenchCase> cases, const std::string& op,
                              const std::string& layer);

}  // namespace wt::bench
