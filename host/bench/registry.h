// The operations that can be verified and timed (kernels/operations.h), and one of them at a
// problem that is given as text.
#pragma once

#include <string>
#include <vector>

#include "host/bench/bench_case.h"

namespace wt::bench {

const std::vector<std::string>& operation_names();

enum class Precision { fp32, tf32, bf16 };
const std::vector<std::string>& precision_names();
Precision precision_of(const std::string& name);
DType storage_of(Precision);  // fp32 for tf32

// What to plan for where no device is asked: compute capability 90 for 9.0, 0 for a virtual GPU.
struct Architecture {
    int sm;
};

// "n=4,h=27,c=96" for one operation (host/net/problem_text.h); a field that is left out has its
// default. Throws UsageError.
BenchCase problem_case(const std::string& op, const std::string& text, Precision, int device);
BenchCase problem_case(const std::string& op, const std::string& text, Precision, Architecture);
// The text says the precision too.
BenchCase problem_case(const std::string& op, const std::string& text, int device);
// The operation's fields, with their defaults and meanings, a line each.
std::string problem_help(const std::string& op);

}  // namespace wt::bench
