// Operands of convolution.
#include "host/bench/ops/set_pointers.h"
#include "host/bench/reference.h"
#include "kernels/conv/problem.h"

namespace wt::bench {

// Folded input has its padding in memory, and that is zero.
Input conv_x(const ConvProblem& p, Operands& o) {
    const Input x = o.matrix(p.x_count(), p.dtype);
    if (p.fold > 1)
        o.then([p](void* data, cudaStream_t s) {
            probe::clear_fold_padding(data, p.dtype,
                                      {.n = p.n,
                                       .fold_h = p.fold_h(),
                                       .fold_w = p.fold_w(),
                                       .fold = p.fold,
                                       .c = p.c,
                                       .h = p.h,
                                       .w = p.w,
                                       .pad_h = p.pad_h,
                                       .pad_w = p.pad_w,
                                       .planes = p.planes},
                                      s);
        });
    return x;
}

void set_pointers(const ConvProblem& p, ConvFpropArgs& a, Operands& o) {
    const Input x = conv_x(p, o), w = o.matrix(p.w_count(), p.dtype),
                bias = o.random(p.k, DType::f32);
    a.x = x, a.w = w, a.bias = bias.as<float>();
    a.y = o.output(p.y_count(), p.dtype, double(p.r) * p.s * p.cg(),
                   [=](int64_t i, double) { return exact::conv_fprop(p, x, w, bias, i); });
}

void set_pointers(const ConvProblem& p, ConvDgradArgs& a, Operands& o) {
    const Input dy = o.matrix(p.y_count(), p.dtype), w = o.matrix(p.w_count(), p.dtype);
    const Input x = p.drelu ? o.random(p.x_count(), p.dtype) : Input();
    a.dy = dy, a.w = w, a.x = x;
    a.dx = o.output(p.x_count(), p.dtype, double(p.r) * p.s * p.kg() / p.stride_h / p.stride_w,
                    [=](int64_t i, double) { return exact::conv_dgrad(p, dy, w, x, i); });
}

void set_pointers(const ConvProblem& p, ConvWgradArgs& a, Operands& o) {
    const Input x = conv_x(p, o), dy = o.matrix(p.y_count(), p.dtype);
    const int64_t pixels = int64_t(p.n) * p.p() * p.q();
    a.x = x, a.dy = dy;
    a.dw = static_cast<float*>(o.output(p.w_count(), DType::f32, pixels, [=](int64_t i, double) {
        return exact::conv_wgrad(p, x, dy, i);
    }));
    if (p.bias)
        a.db = static_cast<float*>(o.output(p.k, DType::f32, pixels, [=](int64_t i, double) {
            return exact::column_sum(dy, pixels, p.k, i);
        }));
}

template void fill(const ConvProblem&, ConvFpropArgs&, Operands&);
template void fill(const ConvProblem&, ConvDgradArgs&, Operands&);
template void fill(const ConvProblem&, ConvWgradArgs&, Operands&);

}  // namespace wt::bench
