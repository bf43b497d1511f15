// Operands of a matrix product.
#include <algorithm>

#include "host/bench/ops/set_pointers.h"
#include "host/bench/reference.h"
#include "kernels/gemm/problem.h"

namespace wt::bench {

namespace {

double bias_or_zero(bool has, const Input& bias, int64_t i) { return has ? bias[i] : 0; }

}  // namespace

void set_pointers(const GemmProblem& p, GemmArgs& a, Operands& o) {
    const int64_t before = off(p);
    const Input A =
        o.matrix(int64_t(p.layout == GemmLayout::tn ? p.k : p.m) * p.lda, p.dtype, before);
    const Input B =
        o.matrix(int64_t(p.layout == GemmLayout::nt ? p.n : p.k) * p.ldb, p.dtype, before);
    const bool add_bias = p.bias && p.layout == GemmLayout::nt;
    const Input bias = add_bias ? o.random(p.n, DType::f32) : Input();
    const Input mask = p.drelu ? o.random(int64_t(p.m) * p.ldc, p.out) : Input();
    a.a = A, a.b = B, a.bias = bias.as<float>();
    a.mask = mask, a.ld_mask = p.ldc, a.mask_scale = p.drelu ? 2.f : 1.f;
    a.layer = 3;
    if (p.dropout > 0 || p.sgd) a.state = o.values(std::vector<StepState>{kState});
    const Operands::Extent c{p.m, p.n, p.ldc};
    if (p.sgd) {
        a.weight_decay = 5e-4f;
        const Input w = o.random(int64_t(p.m) * p.ldc, DType::f32),
                    v = o.random(int64_t(p.m) * p.ldc, DType::f32);
        const auto momentum = [=](int64_t i) {
            const int64_t at = i / p.n * p.ldc + i % p.n;
            return kState.momentum * v[at] - double(5e-4f) * kState.lr * w[at] -
                   kState.lr * exact::gemm(p, A, B, i / p.n, i % p.n);
        };
        a.c = o.changed(w, c, p.k, [=](int64_t i, double) {
            return w[i / p.n * p.ldc + i % p.n] + momentum(i);
        });
        a.momentum = static_cast<float*>(
            o.changed(v, c, p.k, [=](int64_t i, double) { return momentum(i); }));
        if (p.dtype == DType::bf16)
            a.w_bf16 = static_cast<bf16*>(o.output(c, DType::bf16, p.k, [=](int64_t i, double) {
                return w[i / p.n * p.ldc + i % p.n] + momentum(i);
            }));
    } else {
        a.c = o.output(c, p.out, p.k, [=](int64_t i, double) {
            const int64_t m = i / p.n, n = i % p.n;
            double v = exact::gemm(p, A, B, m, n) + bias_or_zero(add_bias, bias, n);
            if (p.relu) v = std::max(v, 0.0);
            if (p.dropout > 0)
                v = exact::kept(kState, 3, m, n, p.dropout) ? v / (1 - double(p.dropout)) : 0;
            if (p.drelu) v = mask[m * p.ldc + n] > 0 ? 2 * v : 0;
            return v;
        });
    }
    if (p.layout == GemmLayout::tn && p.bias)
        a.bias_grad = static_cast<float*>(o.output(p.m, DType::f32, p.k, [=](int64_t i, double) {
            return exact::column_sum(A, p.k, p.lda, i);
        }));
}

template void fill(const GemmProblem&, GemmArgs&, Operands&);

}  // namespace wt::bench
