// Every variant of the matrix product against fp64 loops, in all layouts, with and without gaps
// between rows.
#include <doctest/doctest.h>

#include "host/cuda/stream.h"
#include "test/operands.h"
#include "test/reference/gemm.h"
#include "test/seeds.h"
#include "test/shapes.h"

using namespace wt;
using namespace wt::test;

namespace {

const StepState kState{0x123456789ABCDEF0ull, 0x500000007ull, 0.01f, 0.9f};
constexpr uint32_t kLayer = 5;

template <class T>
std::vector<T> dense(const GemmProblem& p, const std::vector<T>& c, int ld) {
    std::vector<T> d;
    for (int m = 0; m < p.m; ++m)
        d.insert(d.end(), c.begin() + size_t(m) * ld, c.begin() + size_t(m) * ld + p.n);
    return d;
}

// Of some variants, each in two runs; in the second asynchronous copies complete as late as they
// may.
template <class T, class Out>
void check(const std::vector<const Gemm*>& variants, const GemmProblem& p, uint32_t seed) {
    Operand<T> a(reference::a_count(p), seed), b(reference::b_count(p), seed + 1);
    Operand<float> bias(p.n, seed + 2);
    DeviceBuffer<Out> c(0, reference::c_count(p), "c");
    DeviceBuffer<float> bias_grad(0, p.m, "bias gradient");
    Stream stream(0);
    const bool adds = p.bias && p.layout == GemmLayout::nt,
               sums = p.bias && p.layout == GemmLayout::tn;

    // What the epilogues take.
    DeviceBuffer<StepState> state(0, 1, "state");
    state.upload(&kState, 1);
    const int ld_mask = p.ldc + (seed % 2 ? 8 : 0);
    Operand<Out> mask(p.drelu ? size_t(p.m) * ld_mask : 0, seed + 3);
    // as ReLU and dropout leave it
    for (size_t i = 0; i < mask.exact.size(); i += 3) mask.exact[i] = 0;
    mask.upload();
    Operand<float> weights(p.sgd ? reference::c_count(p) : 0, seed + 4),
        velocity(weights.exact.size(), seed + 5);
    DeviceBuffer<float> momentum(0, weights.exact.size(), "momentum");
    DeviceBuffer<bf16> w_bf16(0, seed % 3 ? weights.exact.size() : 0, "bf16 weights");
    GemmArgs args{.a = a.data(),
                  .b = b.data(),
                  .bias = adds ? bias.data() : nullptr,
                  .c = c.data(),
                  .bias_grad = sums ? bias_grad.data() : nullptr,
                  .workspace = nullptr,
                  .stream = stream.get()};
    if (p.dropout > 0)
        args.state = state.data(), args.layer = kLayer, args.row0 = 100 + seed,
        args.col0 = seed % 4 ? 8 * seed : seed;
    if (p.drelu) args.mask = mask.data(), args.ld_mask = ld_mask, args.mask_scale = 1.75f;
    if (p.sgd) {
        args.state = state.data(), args.momentum = momentum.data(),
        args.w_bf16 = w_bf16.size() ? w_bf16.data() : nullptr;
        args.weight_decay = 0.05f, args.lr_scale = 2;
    }

    // The results in fp64.
    reference::Sums want = reference::gemm(p, a.exact, b.exact, bias.exact),
                    want_momentum(p.sgd ? want.value.size() : 0);
    if (p.dropout > 0) reference::gemm_dropout(p, kState, kLayer, args.row0, args.col0, want);
    if (p.drelu) reference::gemm_drelu(dense(p, mask.exact, ld_mask), args.mask_scale, want);
    if (p.sgd) {
        const reference::Sums gradient = want;
        want.value = dense(p, weights.exact, p.ldc),
        want_momentum.value = dense(p, velocity.exact, p.ldc);
        reference::gemm_sgd(gradient, kState.lr * args.lr_scale, kState.momentum, args.weight_decay,
                            want_momentum, want);
    }

    for (const Gemm* variant : variants) {
        INFO(std::string(variant->name));
        DeviceBuffer<std::byte> workspace(0, variant->workspace_bytes(p), "workspace");
        args.workspace = workspace.data();
        std::vector<Out> got, before;
        std::vector<float> grad, got_momentum;
        for (int run = 0; run < 2; ++run) {
            const SeedGuard chance(run);
            poison(c), poison(bias_grad), poison(workspace), poison(w_bf16);
            if constexpr (std::is_same_v<Out, float>)
                if (p.sgd) c.upload(floats(weights.exact)), momentum.upload(floats(velocity.exact));
            before = c.download();
            variant->launch(p, args);
            stream.synchronize();
            const std::vector<Out> c_now = c.download();
            const std::vector<float> grad_now = bias_grad.download(),
                                     momentum_now = momentum.download();
            if (run) {
                CHECK_MESSAGE(std::memcmp(c_now.data(), got.data(), c.bytes()) == 0,
                              "two runs differ");
                CHECK_MESSAGE(std::memcmp(grad_now.data(), grad.data(), bias_grad.bytes()) == 0,
                              "two runs differ in bias_grad");
                CHECK_MESSAGE(
                    (!momentum.bytes() ||
                     std::memcmp(momentum_now.data(), got_momentum.data(), momentum.bytes()) == 0),
                    "two runs differ in momentum");
            }
            got = c_now, grad = grad_now, got_momentum = momentum_now;
        }

        bool untouched = true;
        for (int m = 0; m < p.m; ++m) {
            const size_t gap = size_t(m) * p.ldc + p.n, size = sizeof(Out) * (p.ldc - p.n);
            untouched &= !size || std::memcmp(&got[gap], &before[gap], size) == 0;
        }
        CHECK_MESSAGE(untouched, "wrote between the rows of C");
        const auto close = close_sums(dense(p, got, p.ldc), want, p.k + 1, p.tf32);
        CHECK_MESSAGE(close.ok(), close.text());
        if (p.sgd) {
            const auto v = close_sums(dense(p, got_momentum, p.ldc), want_momentum, p.k, p.tf32);
            CHECK_MESSAGE(v.ok(), "momentum: " << v.text());
            const std::vector<bf16> low = w_bf16.download();
            bool same = true;
            for (size_t i = 0; i < low.size(); ++i)
                same &= int(i % p.ldc) >= p.n ||
                        to_float(low[i]) == to_float(from_float<bf16>(to_float(got[i])));
            CHECK_MESSAGE(same, "the bf16 copy is not the weights'");
        }
        if (sums) {
            const auto g = close_sums(grad, reference::gemm_bias_grad(p, a.exact), p.k, p.tf32);
            CHECK_MESSAGE(g.ok(), "bias_grad: " << g.text());
        }
    }
}

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("gemm: every variant, layout, precision and epilogue") {
    const Table<GemmProblem, GemmArgs> table = gemm_variants();
    struct Taken {
        size_t problems = 0;
        std::string why;  // one of the reasons for a refusal
    };
    std::vector<Taken> taken(table.size());
    const int sm = device_sm(0);
    uint32_t i = 0;
    for (const GemmProblem& p : gemm_problems()) {
        ++i;
        std::vector<const Gemm*> fit;
        for (size_t v = 0; v < table.size(); ++v) {
            if ((table[v].sm && sm && table[v].sm != sm) || same_without_tf32(table[v], p, i) ||
                out_of_turn(table[v], v, i))
                continue;
            if (const std::string no = table[v].refuses(p); !no.empty()) {
                taken[v].why = no;
                continue;
            }
            ++taken[v].problems;
            fit.push_back(&table[v]);
        }
        INFO(text_of(p));
        by_dtype(p.dtype, [&]<class T>() {
            by_dtype(p.out, [&]<class Out>() { check<T, Out>(fit, p, i); });
        });
    }
    if (const std::string short_of = left_out(i, gemm_problems(true).size()); !short_of.empty())
        MESSAGE(short_of);
    for (size_t v = 0; v < table.size(); ++v)
        MESSAGE(std::string(table[v].name)
                << ": " << taken[v].problems << " of " << i << " problems"
                << (taken[v].why.empty() ? "" : "; " + taken[v].why));
}

TEST_CASE("gemm: operands that start off a 16-byte boundary") {
    // A shard's columns in a gathered buffer: the leading dimension is even, the first element is
    // not.
    for (const OperandType t : kOperandTypes)
        by_dtype(t.dtype, [&]<class T>() {
            const GemmProblem p{.layout = GemmLayout::nt,
                                .m = 70,
                                .n = 72,
                                .k = 64,
                                .lda = 80,
                                .ldb = 80,
                                .ldc = 76,
                                .dtype = t.dtype,
                                .tf32 = t.tf32,
                                .aligned = false};
            Operand<T> a(reference::a_count(p) + 1, 1), b(reference::b_count(p) + 1, 2);
            const std::vector<double> a1(a.exact.begin() + 1, a.exact.end()),
                b1(b.exact.begin() + 1, b.exact.end());
            const auto want = reference::gemm(p, a1, b1, {});
            for (const Gemm& variant : gemm_variants()) {
                if ((variant.sm && variant.sm != device_sm(0) && device_sm(0)) ||
                    !variant.refuses(p).empty())
                    continue;
                INFO(std::string(variant.name));
                DeviceBuffer<float> c(0, reference::c_count(p) + 1, "c");
                DeviceBuffer<std::byte> workspace(0, variant.workspace_bytes(p), "workspace");
                poison(c);
                Stream stream(0);
                variant.launch(p, {a.data() + 1, b.data() + 1, nullptr, c.data() + 1, nullptr,
                                   workspace.data(), stream.get()});
                stream.synchronize();
                const auto got = c.download();
                const auto close =
                    close_sums(dense(p, std::vector<float>(got.begin() + 1, got.end()), p.ldc),
                               want, p.k, p.tf32);
                CHECK_MESSAGE(close.ok(), close.text());
            }
        });
}

TEST_SUITE_END();
