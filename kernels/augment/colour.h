// What the variants of augmentation share.
#pragma once

#include "kernels/augment/problem.h"

namespace wt {

// The channels' constants, which kernels take by value in their parameters.
struct AugmentColour {
    float mean[3], inv_std[3];
};

inline AugmentColour augment_colour(const AugmentArgs& a) {
    return {{a.mean[0], a.mean[1], a.mean[2]}, {a.inv_std[0], a.inv_std[1], a.inv_std[2]}};
}

inline std::string augment_refuses(const AugmentProblem& p) {
    if (p.src_c != 1 && p.src_c != 3) return "images must have 1 or 3 channels";
    if (p.out_h > p.src_h || p.out_w > p.src_w) return "the crop is larger than the image";
    if (p.fold < 1 || (p.fold > 1 && (p.pad < 0 || p.fold_h < 1 || p.fold_w < 1)))
        return "no such folding";
    if (p.planes && (p.fold == 1 || p.fold * p.fold * 3 % kPlaneChannels)) return "no such planes";
    return {};
}

// Why variants that write plain NHWC only cannot do a problem; "" when they can.
inline std::string augment_refuses_fold(const AugmentProblem& p) {
    if (p.fold > 1) return "does not write folded images";
    return augment_refuses(p);
}

}  // namespace wt
