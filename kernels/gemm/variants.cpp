// The variants of the matrix product: plainest first, fastest last.
#include "kernels/gemm/problem.h"

namespace wt {

namespace gemm_naive {
extern const Gemm gemm;
}
#ifdef WT_ONEDNN
namespace gemm_onednn {
extern const Gemm gemm;
}
#endif

Table<GemmProblem, GemmArgs> gemm_variants() {
    static const Gemm table[] = {  // made at the first call, when the others are initialised
        gemm_naive::gemm,
#ifdef WT_ONEDNN
        gemm_onednn::gemm,
#endif
    };
    return table;
}

}  // namespace wt
