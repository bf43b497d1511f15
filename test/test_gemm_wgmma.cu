// The wgmma matrix product beyond what test_gemm.cpp asks of every variant: every kind of cluster
// and schedule, on machines of several sizes (virtual GPUs would plan for as few SMs as there are
// cores), all fusions, operands off a boundary; and the same result whenever asynchronous
// operations complete.
#include <doctest/doctest.h>

#include <set>
#include <string>

#include "host/cuda/stream.h"
#include "kernels/common/machine.h"
#include "kernels/gemm/wgmma_plan.h"
#include "test/operands.h"
#include "test/reference/dropout.h"
#include "test/reference/gemm.h"
#include "test/reference/sgd.h"
#include "test/seeds.h"
#include "test/shapes.h"

using namespace wt;
using namespace wt::test;

namespace {

struct Case {
    GemmProblem p;
    int sms = 132;
    int offset = 0;  // elements from a 16-byte boundary to the first of A, B and C
    int64_t col0 = 0;
};

struct SmsGuard {
    explicit SmsGuard(int sms) { plan_overrides.sms = sms; }
    ~SmsGuard() { plan_overrides.sms = 0; }
};

const StepState kState{0x123456789ABCDEF0ull, 0x500000007ull, 0.01f, 0.9f};
constexpr float kDecay = 0.0005f, kLrScale = 2, kMaskScale = 1.25f;
constexpr uint32_t kLayer = 5;
constexpr int64_t kRow0 = 3;

template <class T>
std::vector<double> doubles(const std::vector<T>& v) {
    const std::vector<float> f = floats(v);
    return {f.begin(), f.end()};
}

template <class Out>
struct Results {
    std::vector<Out> c;
    std::vector<float> bias_grad, momentum;
    std::vector<bf16> w_bf16;

    bool operator==(const Results& o) const {
        const auto same = [](const auto& a, const auto& b) {
            return a.size() == b.size() &&
                   std::memcmp(a.data(), b.data(), a.size() * sizeof a[0]) == 0;
        };
        return same(c, o.c) && same(bias_grad, o.bias_grad) && same(momentum, o.momentum) &&
               same(w_bf16, o.w_bf16);
    }
};

template <class Out>
void check(const Gemm& variant, const Case& test) {
    const GemmProblem& p = test.p;
    const SmsGuard machine(test.sms);
    const size_t at = test.offset, c_count = reference::c_count(p);
    const Operand<bf16> a(reference::a_count(p) + at, 1), b(reference::b_count(p) + at, 2);
    const Operand<float> bias(p.n, 3);
    const Operand<Out> c_before(c_count + at, 4), mask(c_count, 5);
    const Operand<float> v_before(c_count + at, 6);
    DeviceBuffer<StepState> state(0, 1, "state");
    state.upload(&kState, 1);
    const bool sums = p.bias && p.layout == GemmLayout::tn;

    Results<Out> got;
    for (uint64_t seed : seeds(2)) {
        const SeedGuard chance(seed);
        DeviceBuffer<Out> c(0, c_count + at, "c");
        DeviceBuffer<float> bias_grad(0, p.m, "bias gradient"),
            momentum(0, c_count + at, "momentum");
        DeviceBuffer<bf16> w_bf16(0, c_count + at, "w_bf16");
        poison(bias_grad), poison(w_bf16);
        WT_CUDA(cudaMemcpy(c.data(), c_before.data(), c.bytes(), cudaMemcpyDefault));
        WT_CUDA(cudaMemcpy(momentum.data(), v_before.data(), momentum.bytes(), cudaMemcpyDefault));
        // copies between device memories return before they are done
        WT_CUDA(cudaStreamSynchronize(nullptr));
        Stream stream(0);
        GemmArgs g{a.data() + at,
                   b.data() + at,
                   p.bias ? bias.data() : nullptr,
                   c.data() + at,
                   sums ? bias_grad.data() : nullptr,
                   nullptr,
                   stream.get()};
        g.state = state.data(), g.layer = kLayer, g.row0 = kRow0, g.col0 = test.col0;
        g.mask = mask.data(), g.ld_mask = p.ldc, g.mask_scale = kMaskScale;
        g.momentum = momentum.data() + at, g.w_bf16 = w_bf16.data() + at, g.weight_decay = kDecay,
        g.lr_scale = kLrScale;
        variant.launch(p, g);
        stream.synchronize();
        const Results<Out> now{c.download(), bias_grad.download(), momentum.download(),
                               w_bf16.download()};
        if (seed)
            CHECK_MESSAGE(now == got, "seed " << seed << " gives another result");
        else
            got = now;
    }

    // Between the rows nothing has changed.
    const std::vector<Out> before = c_before.device.download();
    std::vector<Out> dense;
    std::vector<double> w, v;  // sgd: before
    std::vector<float> v_got;
    std::vector<bf16> low_got;
    bool untouched = std::memcmp(got.c.data(), before.data(), at * sizeof(Out)) == 0;
    for (int m = 0; m < p.m; ++m)
        for (int n = 0; n < p.ldc; ++n) {
            const size_t i = at + size_t(m) * p.ldc + n;
            if (n >= p.n) {
                untouched &= std::memcmp(&got.c[i], &before[i], sizeof(Out)) == 0;
                continue;
            }
            dense.push_back(got.c[i]);
            w.push_back(c_before.exact[i]), v.push_back(v_before.exact[i]);
            v_got.push_back(got.momentum[i]), low_got.push_back(got.w_bf16[i]);
        }
    CHECK_MESSAGE(untouched, "wrote between the rows of C");

    const std::vector<double> a_at(a.exact.begin() + at, a.exact.end()),
        b_at(b.exact.begin() + at, b.exact.end());
    reference::Sums want = reference::gemm(p, a_at, b_at, bias.exact);
    for (size_t i = 0; i < want.value.size(); ++i) {
        const int64_t row = i / p.n, col = i % p.n;
        if (p.dropout > 0) {
            const double scale =
                reference::dropout_keep(kState, kLayer, kRow0 + row, test.col0 + col, p.dropout)
                    ? 1 / (1 - double(p.dropout))
                    : 0;
            want.value[i] *= scale, want.magnitude[i] *= scale;
        }
        if (p.drelu) {
            const double scale = mask.exact[row * p.ldc + col] > 0 ? kMaskScale : 0;
            want.value[i] *= scale, want.magnitude[i] *= scale;
        }
    }
    if (p.sgd) {
        const double lr = double(kState.lr) * kLrScale;
        reference::Sums v_want = want;
        for (size_t i = 0; i < w.size(); ++i) {
            v_want.magnitude[i] = std::abs(kState.momentum * v[i]) + std::abs(kDecay * lr * w[i]) +
                                  lr * want.magnitude[i];
            want.magnitude[i] = v_want.magnitude[i] + std::abs(w[i]);
        }
        const std::vector<double> grad = want.value;
        reference::sgd(w, v, grad, lr, kState.momentum, kDecay);
        want.value = w, v_want.value = v;
        const auto close = close_sums(v_got, v_want, p.k + 3);
        CHECK_MESSAGE(close.ok(), "momentum: " << close.text());
        bool rounded = true;
        for (size_t i = 0; i < dense.size(); ++i)
            rounded &= to_float(low_got[i]) == to_float(from_float<bf16>(to_float(dense[i])));
        CHECK_MESSAGE(rounded, "the bf16 copy is not the weights rounded");
    }
    const auto close = close_sums(dense, want, p.k + 3);
    CHECK_MESSAGE(close.ok(), close.text());
    if (sums) {
        const auto grad = close_sums(got.bias_grad, reference::gemm_bias_grad(p, a_at), p.k);
        CHECK_MESSAGE(grad.ok(), "bias_grad: " << grad.text());
    }
}

GemmProblem problem(GemmLayout layout, int m, int n, int k, int pad, DType out) {
    GemmProblem p = gemm_problem(layout, {m, n, k, pad}, {DType::bf16, false}, out, 0);
    p.bias = p.relu = p.drelu = p.sgd = false, p.dropout = 0;
    return p;
}

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("gemm wgmma: clusters, schedules and fusions") {
    const Gemm* variant = find(gemm_variants(), "wgmma_sm90");
    REQUIRE(variant);
    if (device_sm(0) != 0 && device_sm(0) != variant->sm) return;
    constexpr GemmLayout nt = GemmLayout::nt, nn = GemmLayout::nn, tn = GemmLayout::tn;
    constexpr DType f32 = DType::f32, low = DType::bf16;

    std::vector<Case> cases;
    const auto add = [&](GemmProblem p, int sms, auto set) -> Case& {
        set(p);
        cases.push_back({p, sms});
        return cases.back();
    };
    const auto plain = [](GemmProblem&) {};
    const auto bias_relu = [](GemmProblem& p) { p.bias = p.relu = true; };
    const auto dropout = [](GemmProblem& p) { p.bias = p.relu = true, p.dropout = 0.4f; };
    const auto drelu = [](GemmProblem& p) { p.drelu = true; };
    const auto bias = [](GemmProblem& p) { p.bias = true; };
    const auto sgd = [](GemmProblem& p) { p.sgd = p.bias = true; };

    add(problem(nt, 136, 264, 72, 0, low), 132,
        bias_relu);  // partial tiles, pairs with a tile too many
    add(problem(nt, 136, 264, 72, 8, f32), 2, bias_relu);     // blocks with several tiles
    add(problem(nt, 72, 136, 1040, 0, low), 132, bias_relu);  // k over a cluster
    add(problem(nt, 200, 136, 552, 8, low), 132, dropout);    // both at once
    add(problem(nt, 136, 264, 72, 0, low), 1, dropout);
    add(problem(nt, 40, 72, 64, 8, low), 132, dropout).col0 = 3;
    add(problem(nn, 136, 264, 72, 0, low), 3, drelu);
    add(problem(nn, 72, 136, 1040, 8, f32), 132, drelu);
    add(problem(nn, 264, 200, 136, 0, low), 132, plain);
    add(problem(tn, 136, 264, 72, 0, f32), 132, bias);
    add(problem(tn, 264, 136, 200, 8, f32), 2, bias);
    add(problem(tn, 72, 136, 1040, 0, low), 132, bias);
    add(problem(tn, 136, 264, 72, 0, f32), 132, sgd);
    add(problem(tn, 264, 392, 200, 8, f32), 2, sgd);
    // a shard's columns, in the middle of 16 bytes
    add(problem(nt, 24, 40, 64, 16, low), 132, bias_relu).offset = 4;
    add(problem(tn, 136, 72, 72, 16, f32), 132, sgd).offset = 4;
    // Columns that come to no 16 bytes, and results that TMA cannot store.
    GemmProblem odd = problem(nt, 45, 37, 61, 0, low);
    odd.lda = odd.ldb = 64, odd.ldc = 41, odd.bias = true;
    add(odd, 132, plain);

    bool shared = false, split = false, both = false, loops = false;
    for (const Case& test : cases) {
        const GemmProblem& p = test.p;
        REQUIRE(variant->refuses(p) == "");
        const gemm_wgmma::Plan plan = [&] {
            const SmsGuard machine(test.sms);
            return gemm_wgmma::plan_of(p);
        }();
        const TileSchedule& s = plan.schedule;
        INFO(text_of(p) << (p.dropout > 0 ? " dropout"
                            : p.drelu     ? " drelu"
                            : p.sgd       ? " sgd"
                                          : "")
                        << ": " << s.tiles_m << "x" << s.tiles_n << " tiles of 128x" << plan.bn
                        << ", " << s.multicast << " multicast, " << s.cluster_splits << " splits, "
                        << plan.blocks << " blocks");
        shared |= s.multicast > 1, split |= s.cluster_splits > 1,
            both |= s.multicast > 1 && s.cluster_splits > 1;
        loops |= plan.blocks < s.units() * s.cluster_size();
        p.out == low ? check<bf16>(*variant, test) : check<float>(*variant, test);
    }
    CHECK(shared);
    CHECK(split);
    CHECK(both);
    CHECK(loops);
}

TEST_CASE("gemm wgmma: every row with a fixed tile") {
    if (device_sm(0) != 0 && device_sm(0) != 90) return;
    constexpr DType f32 = DType::f32, low = DType::bf16;
    std::vector<GemmProblem> problems = {problem(GemmLayout::nt, 136, 264, 72, 8, low),
                                         problem(GemmLayout::nn, 264, 328, 136, 0, low),
                                         problem(GemmLayout::nn, 136, 168, 520, 8, low),
                                         problem(GemmLayout::tn, 136, 264, 72, 0, f32)};
    problems[0].bias = true, problems[0].dropout = 0.4f;
    problems[2].drelu = true;
    problems[3].bias = true;
    std::set<std::string> idle;
    for (const Gemm& v : gemm_variants())
        if (v.preference.gpu < 0) idle.insert(v.name);
    CHECK(idle.size() == 6);
    for (const GemmProblem& p : problems)
        for (const Gemm& v : gemm_variants()) {
            if (v.preference.gpu >= 0) continue;
            if (const std::string why = v.refuses(p); !why.empty()) {
                CHECK_MESSAGE(why.find('\n') == std::string::npos, why);
                continue;
            }
            idle.erase(v.name);
            const int sms = idle.size() % 2 ? 132 : 2;
            INFO(text_of(p) << ", " << sms << " SMs, " << std::string(v.name));
            p.out == low ? check<bf16>(v, {p, sms}) : check<float>(v, {p, sms});
        }
    CHECK(idle.empty());

    const auto why = [](const char* name, const GemmProblem& p) {
        return find(gemm_variants(), name)->refuses(p);
    };
    GemmProblem p = problem(GemmLayout::nt, 128, 128, 64, 0, low);
    CHECK(why("wgmma_128x192_sm90", p) == "");
    CHECK(why("wgmma_128x160_sm90", p) == "no kernel of this width for such a product");
    CHECK(why("wgmma_128x256_sm90", p) == "128 columns fill half of its tile or less");
    CHECK(why("wgmma_single_sm90", p) == "one tile of rows: no blocks would share");
    p.out = f32;
    p.layout = GemmLayout::nn;
    CHECK(why("wgmma_128x128_sm90", p) == "the only width for such a product: as wgmma_sm90");
}

TEST_SUITE_END();
