// Augmentation: the table of variants, plainest first, fastest last.
#include "kernels/augment/problem.h"

namespace wt {

namespace augment_naive { extern const Augment variant; }
namespace augment_rows { extern const Augment variant; }
namespace augment_pixels8 { extern const Augment variant; }
namespace augment_fold { extern const Augment variant; }

Table<AugmentProblem, AugmentArgs> augment_variants() {
    static const Augment table[] = {
        augment_naive::variant,
#ifdef VGPU
        augment_rows::variant,
        augment_pixels8::variant,
#else
        augment_pixels8::variant,
        augment_rows::variant,
#endif
        augment_fold::variant,  // the only fast one that writes folded images
    };
    return table;
}

}  // namespace wt
