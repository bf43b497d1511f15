// The fields of the problem of a fused normalization and pooling (kernels/fields.h).
#include "kernels/fields.h"
#include "kernels/lrn_pool/problem.h"

namespace wt {

namespace {

std::string complete(void* problem) {
    auto& p = *static_cast<LrnPoolProblem*>(problem);
    if (!p.w) p.w = p.h;
    if (p.window > p.h + 2 * p.pad || p.window > p.w + 2 * p.pad)
        return "the window must fit the padded image";
    return lrn_pool_refuses(p);
}

}  // namespace

const ProblemFields& fields_of(const LrnPoolProblem&) {
    using P = LrnPoolProblem;
    static const ProblemFields all = problem_fields(
        P{.n = 4, .h = 27, .c = 256}, complete,
        {
            field("n", &P::n, 1, kMostExtent, "images"),
            field("h", &P::h, 1, 4096, "height of an image"),
            field("w", &P::w, 0, 4096, "width of an image; 0: as h").if_not_given().always_shown(),
            field("c", &P::c, 1, kMostExtent, "channels"),
            field("window", &P::window, 1, 15, "height and width of a pooling window"),
            field("stride", &P::stride, 1, 256, "pixels from one window to the next"),
            field("pad", &P::pad, 0, 14, "pixels on each side that no window's maximum counts"),
            field("size", &P::size, 1, 255, "channels that a normalization's sum is over"),
            field("alpha", &P::alpha, 0, 1e3, "times the plain sum of squares"),
            field("beta", &P::beta, 0, 16, "exponent"),
            field("k", &P::k, 1e-6, 1e3, "added to the sum"),
            field("lrn", &P::lrn, "there is a normalization before the pooling"),
            field("relu", &P::relu,
                  "backward: x is the output of a ReLU, whose gradient is taken along"),
            field("bias", &P::bias, "backward: the sum of dx over all pixels is wanted"),
            field("aligned", &P::aligned, "every row begins at a multiple of 16 bytes"),
            dtype_field("dtype", &P::dtype, "of x, y and their gradients").by_precision(),
        });
    return all;
}

}  // namespace wt
