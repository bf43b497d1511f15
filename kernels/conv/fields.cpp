// The fields of a convolution's problem (kernels/fields.h).
#include "kernels/conv/fields.h"
#include "kernels/fields.h"

namespace wt {

namespace {

std::string complete(void* problem) {
    auto& p = *static_cast<ConvProblem*>(problem);
    if (!p.w) p.w = p.h;
    if (!p.s) p.s = p.r;
    if (!p.stride_w) p.stride_w = p.stride_h;
    if (p.pad_w < 0) p.pad_w = p.pad_h;
    return no_such_convolution(p);
}

}  // namespace

std::string no_such_convolution(const ConvProblem& p) {
    if (p.c % p.groups || p.k % p.groups) return "groups must divide c and k";
    if (p.r > p.h + 2 * p.pad_h || p.s > p.w + 2 * p.pad_w)
        return "the filter must fit the padded image";
    if (p.fold > 1 && (p.fold != p.stride_h || p.fold != p.stride_w))
        return "fold must be 1 or the stride";
    if (p.planes && (p.fold == 1 || p.fold * p.fold * p.c % kPlaneChannels))
        return "planes need fold, and fold * fold * c to be a multiple of 8";
    return "";
}

const ProblemFields& fields_of(const ConvProblem&) {
    using P = ConvProblem;
    static const ProblemFields all = problem_fields(
        P{.n = 4, .h = 27, .c = 96, .k = 256, .r = 5}, complete,
        {
            field("n", &P::n, 1, kMostExtent, "images"),
            field("h", &P::h, 1, 4096, "height of an image"),
            field("w", &P::w, 0, 4096, "width of an image; 0: as h").if_not_given().always_shown(),
            field("c", &P::c, 1, kMostExtent, "channels of an image"),
            field("k", &P::k, 1, kMostExtent, "filters: channels of the output"),
            field("r", &P::r, 1, 256, "height of a filter"),
            field("s", &P::s, 0, 256, "width of a filter; 0: as r").if_not_given().always_shown(),
            field("stride", &P::stride_h, 1, 256, "pixels from one output to the next, down"),
            field("stride_w", &P::stride_w, 0, 256, "and across; 0: as stride").if_not_given(),
            field("pad", &P::pad_h, 0, 256, "zeros above and below the image"),
            field("pad_w", &P::pad_w, -1, 256, "and left and right of it; -1: as pad")
                .if_not_given(-1),
            field("groups", &P::groups, 1, kMostExtent,
                  "groups of channels that do not see each other"),
            field("bias", &P::bias, "fprop adds one, wgrad computes its gradient"),
            field("relu", &P::relu, "fprop: y = max(0, .)"),
            field("drelu", &P::drelu, "dgrad: 0 where x is not above 0"),
            field("fold", &P::fold, 1, 16, "how x is stored: the stride, or 1 for plain"),
            field("planes", &P::planes, "with fold: x is stored as planes of 8 channels"),
            dtype_field("dtype", &P::dtype, "of x, w, y and their gradients").by_precision(),
            field("tf32", &P::tf32, "fp32 operands may be rounded to tf32").by_precision(),
        });
    return all;
}

}  // namespace wt
