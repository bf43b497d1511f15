// Dropout: the table of variants, plainest first, fastest last.
#include "kernels/dropout/problem.h"

namespace wt {

namespace dropout_naive { extern const Dropout variant; }

Table<DropoutProblem, DropoutArgs> dropout_variants() {
    static const Dropout table[] = {
        dropout_naive::variant,
    };
    return table;
}

}  // namespace wt
