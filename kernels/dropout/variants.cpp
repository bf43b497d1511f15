// Dropout: the table of variants, plainest first, fastest last.
#include "kernels/dropout/problem.h"

namespace wt {

namespace dropout_naive { extern const Dropout variant; }
namespace dropout_vec { extern const Dropout vec8, vec128; }

Table<DropoutProblem, DropoutArgs> dropout_variants() {
    static const Dropout table[] = {
        dropout_naive::variant,
#ifdef VGPU
        dropout_vec::vec8,
        dropout_vec::vec128,
#else
        dropout_vec::vec128,
        dropout_vec::vec8,
#endif
    };
    return table;
}

}  // namespace wt
