// The fields of a softmax's problem (kernels/fields.h). The gradient's scale is none: no variant's
// time depends on it.
#include "kernels/fields.h"
#include "kernels/softmax/problem.h"

namespace wt {

namespace {

std::string complete(void* problem) {
    auto& p = *static_cast<SoftmaxProblem*>(problem);
    if (!p.ld_logits) p.ld_logits = p.classes;
    if (!p.ld_dlogits) p.ld_dlogits = p.classes;
    p.scale = 1.f / static_cast<float>(p.rows);
    return p.ld_logits < p.classes || p.ld_dlogits < p.classes
               ? "ld_logits and ld_dlogits must be at least classes"
               : "";
}

}  // namespace

const ProblemFields& fields_of(const SoftmaxProblem&) {
    using P = SoftmaxProblem;
    static const ProblemFields all = problem_fields(
        P{.rows = 128, .classes = 1000}, complete,
        {
            field("rows", &P::rows, 1, kMostExtent, "samples"),
            field("classes", &P::classes, 2, kMostExtent, "of a sample"),
            field("ld_logits", &P::ld_logits, 0, kMostExtent,
                  "elements from a row of logits to the next; 0: no gap")
                .if_not_given(),
            field("ld_dlogits", &P::ld_dlogits, 0, kMostExtent, "of their gradient").if_not_given(),
            field("smoothing", &P::smoothing, 0, 0.99, "of labels"),
            dtype_field("dtype", &P::dtype, "of the gradient").by_precision(),
        });
    return all;
}

}  // namespace wt
