// The fields of an augmentation's problem (kernels/fields.h).
#include "kernels/augment/problem.h"
#include "kernels/fields.h"

namespace wt {

namespace {

std::string complete(void* problem) {
    auto& p = *static_cast<AugmentProblem*>(problem);
    if (!p.src_w) p.src_w = p.src_h;
    if (!p.out_w) p.out_w = p.out_h;
    const auto blocks = [&](int extent) {
        return p.fold > 1 ? (extent + 2 * p.pad + p.fold - 1) / p.fold : 1;
    };
    if (!p.fold_h) p.fold_h = blocks(p.out_h);
    if (!p.fold_w) p.fold_w = blocks(p.out_w);
    if (p.planes && (p.fold == 1 || p.fold * p.fold * 3 % kPlaneChannels))
        return "planes need fold, and fold * fold * 3 to be a multiple of 8";
    return p.out_h > p.src_h || p.out_w > p.src_w ? "the crop must fit the image" : "";
}

}  // namespace

const ProblemFields& fields_of(const AugmentProblem&) {
    using P = AugmentProblem;
    static const ProblemFields all = problem_fields(
        P{.n = 16, .src_h = 256, .out_h = 227}, complete,
        {
            field("n", &P::n, 1, kMostExtent, "images"),
            field("src_h", &P::src_h, 1, 4096, "height of a stored image"),
            field("src_w", &P::src_w, 0, 4096, "and its width; 0: as src_h")
                .if_not_given()
                .always_shown(),
            field("src_c", &P::src_c, 1, 3, "and its channels"),
            field("out_h", &P::out_h, 1, 4096, "height of a crop"),
            field("out_w", &P::out_w, 0, 4096, "and its width; 0: as out_h")
                .if_not_given()
                .always_shown(),
            field("fold", &P::fold, 1, 16,
                  "how the crop is stored: as blocks of so many pixels down and across"),
            field("pad", &P::pad, 0, 256, "with fold: zeros above and to the left of the crop"),
            field("fold_h", &P::fold_h, 0, 4096,
                  "with fold: blocks down; 0: as many as hold the crop and its padding")
                .if_not_given(),
            field("fold_w", &P::fold_w, 0, 4096, "and across").if_not_given(),
            field("planes", &P::planes, "with fold: the blocks are stored as planes of 8 channels"),
            dtype_field("dtype", &P::dtype, "of the crop").by_precision(),
        });
    return all;
}

}  // namespace wt
