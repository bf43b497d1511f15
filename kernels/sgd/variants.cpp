// SGD: the table of variants, plainest first, fastest last.
#include "kernels/sgd/problem.h"

namespace wt {

namespace sgd_naive { extern const Sgd variant; }
namespace sgd_multi { extern const Sgd multi, multi4; }

Table<SgdProblem, SgdArgs> sgd_variants() {
    static const Sgd table[] = {
        sgd_naive::variant,
#ifdef VGPU
        sgd_multi::multi4,
        sgd_multi::multi,
#else
        sgd_multi::multi,
        sgd_multi::multi4,
#endif
    };
    return table;
}

}  // namespace wt
