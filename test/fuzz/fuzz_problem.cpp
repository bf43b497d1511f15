// bin/compare's --problem: text to an operation's problem, and which variants would compute it.
#include "host/bench/registry.h"
#include "test/fuzz/input.h"

using namespace wt;

// Input: which operation, which precision, the text.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    fuzz::Input in(data, size);
    const auto& names = bench::operation_names();
    const auto& precisions = bench::precision_names();
    const std::string& op = names[in.byte() % names.size()];
    const std::string& precision = precisions[in.byte() % precisions.size()];
    const std::string text = in.text();
    fuzz::answers([&] { bench::problem_case(op, text, bench::precision_of(precision), 0); });
    return 0;
}
