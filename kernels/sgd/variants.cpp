// SGD: the table of variants.
#include "kernels/sgd/problem.h"

namespace wt {

namespace sgd_naive {
extern const Sgd variant;
}
namespace sgd_multi {
extern const Sgd multi, multi4;
}

Table<SgdProblem, SgdArgs> sgd_variants() {
    static const Sgd table[] = {
        sgd_naive::variant,
        // Eight elements a thread are a CPU's SIMD register; with four every access of a GPU's warp
        // is 512 bytes without gaps.
        preferred(sgd_multi::multi, {.gpu = 1, .cpu = 2}),
        preferred(sgd_multi::multi4, {.gpu = 2, .cpu = 1}),
    };
    return table;
}

}  // namespace wt
