// Which operations there are, and at which problems bin/compare looks at them: those of a network's training step, or
// one given as text.
#pragma once

#include <string>
#include <vector>

#include "host/bench/job.h"

namespace wt::bench {

const std::vector<std::string>& operation_names();

enum class Precision { fp32, tf32, bf16 };
const std::vector<std::string>& precision_names();
Precision precision_of(const std::string& name);

// Every operation of a training step of the network, in the order of the step, and the fused ones after their parts.
std::vector<Job> network_jobs(const std::string& net, int batch, Precision, int device);

// "n=4,h=27,c=96" for one operation (host/net/problem_text.h); what is left out has a default. Throws UsageError.
Job problem_job(const std::string& op, const std::string& text, Precision, int device);
// The precision too as the text has it.
Job problem_job(const std::string& op, const std::string& text, int device);
// Its fields, with their defaults and meanings, a line each.
std::string problem_help(const std::string& op);

// Those whose operation is `op` (all when empty) and whose layer or LAYER.PASS is `layer` (all when empty). Throws
// UsageError naming the nearest when there is none.
std::vector<Job> select(std::vector<Job> jobs, const std::string& op, const std::string& layer);

}  // namespace wt::bench
