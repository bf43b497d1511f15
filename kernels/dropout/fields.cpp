// The fields of a dropout's problem (kernels/fields.h).
#include "kernels/dropout/problem.h"
#include "kernels/fields.h"

namespace wt {

namespace {

std::string complete(void* problem) {
    auto& p = *static_cast<DropoutProblem*>(problem);
    if (!p.ld_x) p.ld_x = p.cols;
    if (!p.ld_y) p.ld_y = p.cols;
    return p.ld_x < p.cols || p.ld_y < p.cols ? "ld_x and ld_y must be at least cols" : "";
}

}  // namespace

const ProblemFields& fields_of(const DropoutProblem&) {
    using P = DropoutProblem;
    static const ProblemFields all = problem_fields(
        P{.rows = 128, .cols = 4096}, complete,
        {
            field("rows", &P::rows, 1, 1e9, "samples"),
            field("cols", &P::cols, 1, 1e9, "units"),
            field("ld_x", &P::ld_x, 0, 1e9, "elements from a row of x to the next; 0: no gap")
                .if_not_given(),
            field("ld_y", &P::ld_y, 0, 1e9, "of y").if_not_given(),
            field("p", &P::p, 0, 0.99, "probability of zeroing"),
            dtype_field("dtype", &P::dtype, "of x and y").by_precision(),
        });
    return all;
}

}  // namespace wt
