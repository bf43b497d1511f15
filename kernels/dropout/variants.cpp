// Dropout: the table of variants.
#include "kernels/dropout/problem.h"

namespace wt {

namespace dropout_naive {
extern const Dropout variant;
}
namespace dropout_vec {
extern const Dropout vec8, vec128;
}

Table<DropoutProblem, DropoutArgs> dropout_variants() {
    static const Dropout table[] = {
        dropout_naive::variant,
        // The 16 Philox calls of a thread of vec128 are SIMD on a CPU; on a GPU they only leave it
        // with a sixteenth of the threads.
        preferred(dropout_vec::vec8, {.gpu = 2, .cpu = 1}),
        preferred(dropout_vec::vec128, {.gpu = 1, .cpu = 2}),
    };
    return table;
}

}  // namespace wt
