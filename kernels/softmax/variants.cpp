// Softmax cross-entropy: the table of variants, plainest first, fastest last.
#include "kernels/softmax/problem.h"

namespace wt {

namespace softmax_naive { extern const Softmax variant; }

Table<SoftmaxProblem, SoftmaxArgs> softmax_variants() {
    static const Softmax table[] = {
        softmax_naive::variant,
    };
    return table;
}

}  // namespace wt
