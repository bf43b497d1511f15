// The variants of the matrix product: plainest first, fastest last.
#include "kernels/gemm/problem.h"

namespace wt {

namespace gemm_naive {
extern const Gemm gemm;
}
namespace gemm_tiled {
extern const Gemm gemm;
}
namespace gemm_mma {
extern const Gemm gemm;
}
namespace gemm_wgmma {
extern const Gemm gemm;
}
#ifdef WT_ONEDNN
namespace gemm_onednn {
extern const Gemm gemm;
}
#endif
#ifdef WT_CUBLAS
namespace gemm_cublas {
extern const Gemm gemm;
}
#endif

Table<GemmProblem, GemmArgs> gemm_variants() {
    // Made at the first call, when the variants' own files are initialised.
    static const Gemm table[] = {
        gemm_naive::gemm,
#ifdef WT_CUBLAS
        gemm_cublas::gemm,
#endif
        gemm_tiled::gemm,
        gemm_mma::gemm,
        gemm_wgmma::gemm,
#ifdef WT_ONEDNN
        gemm_onednn::gemm,
#endif
    };
    return table;
}

}  // namespace wt
