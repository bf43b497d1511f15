// The fields of a matrix product's problem (kernels/fields.h).
#include "kernels/fields.h"
#include "kernels/gemm/problem.h"

namespace wt {

namespace {

std::string complete(void* problem) {
    auto& p = *static_cast<GemmProblem*>(problem);
    const int row_a = p.layout == GemmLayout::tn ? p.m : p.k,
              row_b = p.layout == GemmLayout::nt ? p.k : p.n;
    if (!p.lda) p.lda = row_a;
    if (!p.ldb) p.ldb = row_b;
    if (!p.ldc) p.ldc = p.n;
    if (p.lda < row_a || p.ldb < row_b || p.ldc < p.n)
        return "lda, ldb and ldc must be at least the length of a row";
    if ((p.relu || p.dropout > 0) && p.layout != GemmLayout::nt)
        return "relu and dropout need layout=nt";
    if (p.drelu && p.layout != GemmLayout::nn) return "drelu needs layout=nn";
    if (p.sgd && p.layout != GemmLayout::tn) return "sgd needs layout=tn";
    return "";
}

}  // namespace

const ProblemFields& fields_of(const GemmProblem&) {
    using P = GemmProblem;
    static const ProblemFields all = problem_fields(
        P{.m = 512, .n = 512, .k = 512}, complete,
        {
            field("layout", &P::layout, {"nt", "nn", "tn"},
                  "which of A and B are transposed: fprop nt, dgrad nn, wgrad tn"),
            field("m", &P::m, 1, kMostExtent, "rows of C"),
            field("n", &P::n, 1, kMostExtent, "columns of C"),
            field("k", &P::k, 1, kMostExtent, "terms of each sum"),
            field("lda", &P::lda, 0, kMostExtent, "elements from a row of A to the next; 0: no gap")
                .if_not_given(),
            field("ldb", &P::ldb, 0, kMostExtent, "of B").if_not_given(),
            field("ldc", &P::ldc, 0, kMostExtent, "of C").if_not_given(),
            field("bias", &P::bias, "nt: adds one; tn: sums its gradient"),
            field("relu", &P::relu, "nt: C = max(0, .)"),
            field("dropout", &P::dropout, 0, 0.99, "nt: probability of zeroing"),
            field("drelu", &P::drelu, "nn: 0 where the input is not above 0"),
            field("sgd", &P::sgd, "tn: C are the weights, which the gradient updates"),
            field("aligned", &P::aligned, "every row begins at a multiple of 16 bytes"),
            dtype_field("out", &P::out, "of C"),
            dtype_field("dtype", &P::dtype, "of A and B").by_precision(),
            field("tf32", &P::tf32, "fp32 operands may be rounded to tf32").by_precision(),
        });
    return all;
}

}  // namespace wt
