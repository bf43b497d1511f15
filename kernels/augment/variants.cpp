// Augmentation: the table of variants.
#include "kernels/augment/problem.h"

namespace wt {

namespace augment_naive {
extern const Augment variant;
}
namespace augment_rows {
extern const Augment variant;
}
namespace augment_pixels8 {
extern const Augment variant;
}
namespace augment_fold {
extern const Augment variant;
}
#ifdef VGPU
namespace augment_fold_cpu {
extern const Augment variant;
}
#endif

Table<AugmentProblem, AugmentArgs> augment_variants() {
    static const Augment table[] = {
        augment_naive::variant,
        // A warp's stores of `rows` are whole lines; a CPU's thread does better with the 8 pixels
        // of `pixels8`, whose loads and stores the compiler makes vectors of.
        preferred(augment_pixels8::variant, {.gpu = 1, .cpu = 2}),
        preferred(augment_rows::variant, {.gpu = 2, .cpu = 1}),
        // Write folded images, and nothing else.
        preferred(augment_fold::variant, {.gpu = 3, .cpu = 3}),
#ifdef VGPU
        preferred(augment_fold_cpu::variant, {.cpu = 4}),
#endif
    };
    return table;
}

}  // namespace wt
