// Softmax cross-entropy: the table of variants, plainest first, fastest last.
#include "kernels/softmax/problem.h"

namespace wt {

namespace softmax_naive { extern const Softmax variant; }
namespace softmax_row { extern const Softmax variant; }
namespace softmax_block { extern const Softmax variant; }
namespace softmax_vec { extern const Softmax variant; }

Table<SoftmaxProblem, SoftmaxArgs> softmax_variants() {
    static const Softmax table[] = {
        softmax_naive::variant,
#ifdef VGPU
        softmax_vec::variant,
        softmax_block::variant,
        softmax_row::variant,
#else
        softmax_row::variant,
        softmax_block::variant,
        softmax_vec::variant,
#endif
    };
    return table;
}

}  // namespace wt
