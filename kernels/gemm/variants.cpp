// The variants of the matrix product: plainest first, fastest last.
#include "kernels/gemm/problem.h"

namespace wt {

namespace gemm_naive {
extern const Gemm gemm;
}

Table<GemmProblem, GemmArgs> gemm_variants() {
    static const Gemm table[] = {gemm_naive::gemm};  // made at the first call, when the others are initialised
    return table;
}

}  // namespace wt
