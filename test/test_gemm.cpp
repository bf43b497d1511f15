// Every variant of the matrix product against fp64 loops, in all layouts, with and without gaps between rows.
#include <doctest/doctest.h>

#include "host/cuda/stream.h"
#include "test/operands.h"
#include "test/reference/gemm.h"
#include "test/shapes.h"

using namespace wt;
using namespace wt::test;

namespace {

template <class T, class Out>
void check(const Gemm& variant, const GemmProblem& p, uint32_t seed) {
    Operand<T> a(reference::a_count(p), seed), b(reference::b_count(p), seed + 1);
    Operand<float> bias(p.n, seed + 2);
    DeviceBuffer<Out> c(0, reference::c_count(p), "c");
    DeviceBuffer<float> bias_grad(0, p.m, "bias gradient");
    const size_t workspace_bytes = variant.workspace_bytes(p);
    DeviceBuffer<std::byte> workspace(0, workspace_bytes, "workspace");
    Stream stream(0);
    const bool adds = p.bias && p.layout == GemmLayout::nt, sums = p.bias && p.layout == GemmLayout::tn;

    std::vector<Out> got, before;
    std::vector<float> grad;
    for (int run = 0; run < 2; ++run) {
        poison(c), poison(bias_grad), poison(workspace);
        before = c.download();
        variant.launch(p, {a.data(), b.data(), adds ? bias.data() : nullptr, c.data(), sums ? bias_grad.data() : nullptr,
                           workspace.data(), stream.get()});
        stream.synchronize();
        const std::vector<Out> c_now = c.download();
        const std::vector<float> grad_now = bias_grad.download();
        if (run) {
            CHECK_MESSAGE(std::memcmp(c_now.data(), got.data(), c.bytes()) == 0, "two runs differ");
            CHECK_MESSAGE(std::memcmp(grad_now.data(), grad.data(), bias_grad.bytes()) == 0, "two runs differ in bias_grad");
        }
        got = c_now, grad = grad_now;
    }

    std::vector<Out> dense;
    bool untouched = true;
    for (int m = 0; m < p.m; ++m)
        for (int n = 0; n < p.ldc; ++n) {
            const size_t i = size_t(m) * p.ldc + n;
            if (n < p.n)
                dense.push_back(got[i]);
            else
                untouched &= std::memcmp(&got[i], &before[i], sizeof(Out)) == 0;
        }
    CHECK_MESSAGE(untouched, "wrote between the rows of C");
    const auto close = close_sums(dense, reference::gemm(p, a.exact, b.exact, bias.exact), p.k + 1);
    CHECK_MESSAGE(close.ok(), close.text());
    if (sums) {
        const auto g = close_sums(grad, reference::gemm_bias_grad(p, a.exact), p.k);
        CHECK_MESSAGE(g.ok(), "bias_grad: " << g.text());
    }
}

}  // namespace

TEST_CASE("gemm: every variant, layout and storage type") {
    const int sm = device_sm(0);
    for (const Gemm& variant : gemm_variants()) {
        size_t i = 0, ran = 0;
        std::string why;  // one of the reasons for a refusal
        for (const GemmShape& shape : gemm_shapes())
            for (GemmLayout layout : {GemmLayout::nt, GemmLayout::nn, GemmLayout::tn})
                for (DType dtype : {DType::f32, DType::bf16})
                    for (DType out : {DType::f32, DType::bf16}) {
                        const GemmProblem p = gemm_problem(layout, shape, dtype, out, i++ / 3);
                        if (variant.sm && sm && variant.sm != sm) continue;
                        if (const std::string no = variant.refuses(p); !no.empty()) {
                            why = no;
                            continue;
                        }
                        ++ran;
                        INFO(std::string(variant.name) << ": " << text(p));
                        by_dtype(dtype, [&]<class T>() {
                            by_dtype(out, [&]<class Out>() { check<T, Out>(variant, p, uint32_t(i)); });
                        });
                    }
        MESSAGE(std::string(variant.name) << ": " << ran << " of " << i << " problems" << (why.empty() ? "" : "; " + why));
    }
}

TEST_CASE("gemm: operands that start off a 16-byte boundary") {
    // A shard's columns in a gathered buffer: the leading dimension is even, the first element is not.
    const GemmProblem p{.layout = GemmLayout::nt, .m = 70, .n = 72, .k = 64, .lda = 80, .ldb = 80, .ldc = 76};
    Operand<float> a(reference::a_count(p) + 1, 1), b(reference::b_count(p) + 1, 2);
    const std::vector<double> a1(a.exact.begin() + 1, a.exact.end()), b1(b.exact.begin() + 1, b.exact.end());
    const auto want = reference::gemm(p, a1, b1, {});
    for (const Gemm& variant : gemm_variants()) {
        if ((variant.sm && variant.sm != device_sm(0)) || !variant.refuses(p).empty()) continue;
        INFO(std::string(variant.name));
        DeviceBuffer<float> c(0, reference::c_count(p) + 1, "c");
        DeviceBuffer<std::byte> workspace(0, variant.workspace_bytes(p), "workspace");
        poison(c);
        Stream stream(0);
        variant.launch(p, {a.data() + 1, b.data() + 1, nullptr, c.data() + 1, nullptr, workspace.data(), stream.get()});
        stream.synchronize();
        const auto got = c.download();
        std::vector<float> dense;
        for (int m = 0; m < p.m; ++m) dense.insert(dense.end(), got.begin() + 1 + m * p.ldc, got.begin() + 1 + m * p.ldc + p.n);
        const auto close = close_sums(dense, want, p.k);
        CHECK_MESSAGE(close.ok(), close.text());
    }
}
