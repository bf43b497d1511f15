// The fields of an update's problem (kernels/fields.h).
#include "kernels/fields.h"
#include "kernels/sgd/problem.h"

namespace wt {

namespace {

std::string complete(void* problem) {
    const auto& p = *static_cast<SgdProblem*>(problem);
    return p.total < p.tensors ? "total must be at least tensors" : "";
}

}  // namespace

const ProblemFields& fields_of(const SgdProblem&) {
    using P = SgdProblem;
    static const ProblemFields all = problem_fields(
        P{.tensors = 16, .total = 1 << 22}, complete,
        {
            field("tensors", &P::tensors, 1, kSgdMaxTensors, "of weights and biases"),
            field("total", &P::total, 1, 1e10, "elements of all of them"),
        });
    return all;
}

}  // namespace wt
