// The fields of a pooling's problem (kernels/fields.h).
#include "kernels/fields.h"
#include "kernels/pool/problem.h"

namespace wt {

namespace {

std::string complete(void* problem) {
    auto& p = *static_cast<PoolProblem*>(problem);
    if (!p.w) p.w = p.h;
    if (p.pad >= p.window) return "pad must be less than the window";
    if (p.window > p.h + 2 * p.pad || p.window > p.w + 2 * p.pad)
        return "the window must fit the padded image";
    return "";
}

}  // namespace

const ProblemFields& fields_of(const PoolProblem&) {
    using P = PoolProblem;
    static const ProblemFields all = problem_fields(
        P{.n = 4, .h = 27, .c = 256}, complete,
        {
            field("n", &P::n, 1, kMostExtent, "images"),
            field("h", &P::h, 1, 4096, "height of an image"),
            field("w", &P::w, 0, 4096, "width of an image; 0: as h").if_not_given().always_shown(),
            field("c", &P::c, 1, kMostExtent, "channels"),
            field("window", &P::window, 1, 15, "height and width of a window"),
            field("stride", &P::stride, 1, 256, "pixels from one window to the next"),
            field("pad", &P::pad, 0, 14, "pixels on each side that no window's maximum counts"),
            field("aligned", &P::aligned, "every row begins at a multiple of 16 bytes"),
            dtype_field("dtype", &P::dtype, "of x, y and their gradients").by_precision(),
        });
    return all;
}

}  // namespace wt
