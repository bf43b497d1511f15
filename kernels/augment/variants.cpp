// Augmentation: the table of variants, plainest first, fastest last.
#include "kernels/augment/problem.h"

namespace wt {

namespace augment_naive { extern const Augment variant; }

Table<AugmentProblem, AugmentArgs> augment_variants() {
    static const Augment table[] = {
        augment_naive::variant,
    };
    return table;
}

}  // namespace wt
