// The fields of a normalization's problem (kernels/fields.h).
#include "kernels/fields.h"
#include "kernels/lrn/problem.h"

namespace wt {

namespace {

std::string complete(void* problem) {
    return static_cast<LrnProblem*>(problem)->size % 2 ? "" : "size must be odd";
}

}  // namespace

const ProblemFields& fields_of(const LrnProblem&) {
    using P = LrnProblem;
    static const ProblemFields all = problem_fields(
        P{.pixels = 4 * 27 * 27, .c = 256}, complete,
        {
            field("pixels", &P::pixels, 1, 1e9, "of all images"),
            field("c", &P::c, 1, kMostExtent, "channels"),
            field("size", &P::size, 1, 255, "channels that a sum is over"),
            field("alpha", &P::alpha, 0, 1e3, "times the plain sum of squares"),
            field("beta", &P::beta, 0, 16, "exponent"),
            field("k", &P::k, 1e-6, 1e3, "added to the sum"),
            field("aligned", &P::aligned, "every row begins at a multiple of 16 bytes"),
            dtype_field("dtype", &P::dtype, "of all tensors").by_precision(),
        });
    return all;
}

}  // namespace wt
