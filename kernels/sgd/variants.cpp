// SGD: the table of variants, plainest first, fastest last.
#include "kernels/sgd/problem.h"

namespace wt {

namespace sgd_naive { extern const Sgd variant; }
namespace sgd_multi { extern const Sgd variant; }

Table<SgdProblem, SgdArgs> sgd_variants() {
    static const Sgd table[] = {
        sgd_naive::variant,
        sgd_multi::variant,
    };
    return table;
}

}  // namespace wt
