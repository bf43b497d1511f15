// The fields of an activation's problem (kernels/fields.h).
#include "kernels/activation/problem.h"
#include "kernels/fields.h"

namespace wt {

namespace {

std::string complete(void* problem) {
    auto& p = *static_cast<ActivationProblem*>(problem);
    if (!p.ld_y) p.ld_y = p.cols;
    if (!p.ld_dy) p.ld_dy = p.cols;
    return p.ld_y < p.cols || p.ld_dy < p.cols ? "ld_y and ld_dy must be at least cols" : "";
}

}  // namespace

const ProblemFields& fields_of(const ActivationProblem&) {
    using P = ActivationProblem;
    static const ProblemFields all = problem_fields(
        P{.rows = 128, .cols = 4096}, complete,
        {
            field("rows", &P::rows, 1, 1e9, "samples"),
            field("cols", &P::cols, 1, 1e9, "units"),
            field("kind", &P::kind, {"relu", "tanh"}, "of activation"),
            field("ld_y", &P::ld_y, 0, 1e9, "elements from a row of x and y to the next; 0: no gap")
                .if_not_given(),
            field("ld_dy", &P::ld_dy, 0, 1e9, "of dx and dy").if_not_given(),
            dtype_field("dtype", &P::dtype, "of all tensors").by_precision(),
        });
    return all;
}

}  // namespace wt
