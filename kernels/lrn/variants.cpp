// LRN: the tables of variants, plainest first, fastest last.
#include "kernels/lrn/problem.h"

namespace wt {

namespace lrn_forward_naive { extern const LrnForward variant; }
namespace lrn_backward_naive { extern const LrnBackward variant; }

Table<LrnProblem, LrnForwardArgs> lrn_forward_variants() {
    static const LrnForward table[] = {
        lrn_forward_naive::variant,
    };
    return table;
}

Table<LrnProblem, LrnBackwardArgs> lrn_backward_variants() {
    static const LrnBackward table[] = {
        lrn_backward_naive::variant,
    };
    return table;
}

}  // namespace wt
