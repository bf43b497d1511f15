// Softmax cross-entropy: the table of variants.
#include "kernels/softmax/problem.h"

namespace wt {

namespace softmax_naive {
extern const Softmax variant;
}
namespace softmax_row {
extern const Softmax variant;
}
namespace softmax_block {
extern const Softmax variant;
}
namespace softmax_vec {
extern const Softmax variant;
}

Table<SoftmaxProblem, SoftmaxArgs> softmax_variants() {
    static const Softmax table[] = {
        softmax_naive::variant,
        // On a GPU the more threads share a row, the better, up to a warp that keeps it in
        // registers; on a CPU a row is one thread's.
        preferred(softmax_row::variant, {.gpu = 1, .cpu = 3}),
        preferred(softmax_block::variant, {.gpu = 2, .cpu = 2}),
        preferred(softmax_vec::variant, {.gpu = 3, .cpu = 1}),
    };
    return table;
}

}  // namespace wt
