// The fields of the problem of a convolution with pooling (kernels/fields.h).
#include "kernels/conv/fields.h"
#include "kernels/conv_pool/problem.h"
#include "kernels/fields.h"

namespace wt {

namespace {

std::string complete(void* problem) {
    auto& p = *static_cast<ConvPoolProblem*>(problem);
    if (!p.w) p.w = p.h;
    if (!p.s) p.s = p.r;
    if (std::string why = no_such_convolution(p.conv()); !why.empty()) return why;
    return conv_pool_refuses(p);
}

}  // namespace

const ProblemFields& fields_of(const ConvPoolProblem&) {
    using P = ConvPoolProblem;
    static const ProblemFields all = problem_fields(
        P{.n = 4, .h = 224, .c = 3, .k = 64, .r = 11, .stride = 4, .pad = 2}, complete,
        {
            field("n", &P::n, 1, kMostExtent, "images"),
            field("h", &P::h, 1, 4096, "height of an image"),
            field("w", &P::w, 0, 4096, "width of an image; 0: as h").if_not_given().always_shown(),
            field("c", &P::c, 1, kMostExtent, "channels of an image"),
            field("k", &P::k, 1, kMostExtent, "filters: channels of the output"),
            field("r", &P::r, 1, 256, "height of a filter"),
            field("s", &P::s, 0, 256, "width of a filter; 0: as r").if_not_given().always_shown(),
            field("stride", &P::stride, 1, 256, "pixels from one place of a filter to the next"),
            field("pad", &P::pad, 0, 256, "zeros on each side of the image"),
            field("window", &P::window, 1, 15, "height and width of a pooling window"),
            field("window_stride", &P::window_stride, 1, 256,
                  "the convolution's outputs from one window to the next"),
            field("fold", &P::fold, 1, 16, "how x is stored: the stride, or 1 for plain"),
            field("planes", &P::planes, "with fold: x is stored as planes of 8 channels"),
            dtype_field("dtype", &P::dtype, "of x, w and y").by_precision(),
            field("tf32", &P::tf32, "fp32 operands may be rounded to tf32").by_precision(),
        });
    return all;
}

}  // namespace wt
