// The variants of the matrix product, and how gladly each is taken.
//
// On virtual GPUs, bf16, ms on two cores of a Xeon (`bin/compare gemm --precision bf16 --variants
// tiled,wgmma_sm90,...`), AlexNet's fc7 at batch 8 and products of 1024 x 4096 weights at batch
// 128:
//
//                  tiled                wgmma_sm90
//                  fprop dgrad wgrad    fprop dgrad wgrad
//     fc7, 8       151   151   128      109   112   369
//     128          102   69    101      43    68    152
//
// A step has all three: tiled comes first there. mma_sm80 (616, 727, 1440) is never taken unless it
// is named. sgd_bf16_cpu, which is wgrad and the update in one, comes before oneDNN's wgrad and the
// update apart: README.md, "The rest of a step on a CPU".
#include <array>
#include <vector>

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
extern const std::array<Gemm, 6> gemm_fixed;
}  // namespace gemm_wgmma
#ifdef VGPU
namespace gemm_sgd_bf16_cpu {
extern const Gemm gemm;
}
#endif
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
    static const auto table = [] {
        std::vector<Gemm> rows = {
            gemm_naive::gemm,
#ifdef WT_CUBLAS
            preferred(gemm_cublas::gemm, {.gpu = 1}),
#endif
            preferred(gemm_tiled::gemm, {.gpu = 2, .cpu = 2}),
            preferred(gemm_mma::gemm, {.gpu = 3}),
            preferred(gemm_wgmma::gemm, {.gpu = 4, .cpu = 1}),
#ifdef WT_ONEDNN
            preferred(gemm_onednn::gemm, {.cpu = 3}),
#endif
#ifdef VGPU
            preferred(gemm_sgd_bf16_cpu::gemm, {.cpu = 4}),
#endif
        };
        // With a fixed tile: what --kernels tune and bin/compare try beside the model's choice.
        for (const Gemm& v : gemm_wgmma::gemm_fixed) rows.push_back(preferred(v, kFixedPlan));
        return rows;
    }();
    return table;
}

}  // namespace wt
