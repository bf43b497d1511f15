// The fields of the problems of an exchange: of a copy and of a sum (kernels/fields.h).
#include "kernels/exchange/problem.h"
#include "kernels/fields.h"

namespace wt {

namespace {

template <class P>
std::string complete(void* problem) {
    auto& p = *static_cast<P*>(problem);
    if (!p.ld_src) p.ld_src = p.cols;
    if (!p.ld_dst) p.ld_dst = p.cols;
    return p.ld_src < p.cols || p.ld_dst < p.cols ? "ld_src and ld_dst must be at least cols" : "";
}

}  // namespace

const ProblemFields& fields_of(const CopyProblem&) {
    using P = CopyProblem;
    static const ProblemFields all =
        problem_fields(P{.rows = 128, .cols = 4096}, complete<P>,
                       {
                           field("rows", &P::rows, 1, 1e9, "of the matrix"),
                           field("cols", &P::cols, 1, 1e9, "of the matrix"),
                           field("ld_src", &P::ld_src, 0, 1e9,
                                 "elements from a row of the source to the next; 0: no gap")
                               .if_not_given(),
                           field("ld_dst", &P::ld_dst, 0, 1e9, "of the destination").if_not_given(),
                           dtype_field("dtype", &P::dtype, "of both").by_precision(),
                       });
    return all;
}

const ProblemFields& fields_of(const ReduceProblem&) {
    using P = ReduceProblem;
    static const ProblemFields all = problem_fields(
        P{.sources = 2, .rows = 128, .cols = 4096}, complete<P>,
        {
            field("sources", &P::sources, 1, kMaxRanks, "matrices that are added up"),
            field("rows", &P::rows, 1, 1e9, "of a matrix"),
            field("cols", &P::cols, 1, 1e9, "of a matrix"),
            field("ld_src", &P::ld_src, 0, 1e9,
                  "elements from a row of a source to the next; 0: no gap")
                .if_not_given(),
            field("ld_dst", &P::ld_dst, 0, 1e9, "of the sum").if_not_given(),
            dtype_field("dtype", &P::dtype, "of all of them").by_precision(),
        });
    return all;
}

}  // namespace wt
