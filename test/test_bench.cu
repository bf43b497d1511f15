// What bin/compare judges and measures by: single elements in fp64, verdicts on right and wrong
// variants, timing, and the program itself.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "host/bench/comparison.h"
#include "host/bench/reference.h"
#include "host/bench/report.h"
#include "host/bench/verify.h"
#include "kernels/launch.h"
#include "kernels/operations.h"
#include "test/device_data.h"
#include "test/program.h"
#include "test/reference/conv.h"
#include "test/reference/gemm.h"
#include "test/reference/lrn.h"
#include "test/reference/pool.h"
#include "test/shapes.h"

using namespace wt;
using namespace wt::bench;
using namespace wt::test;

namespace {

bool near(double a, double b) { return std::abs(a - b) <= 1e-11 * (1 + std::abs(b)); }

// ---- an operation with variants that are wrong in known ways: y = a x, summed in pairs ----------

struct PairProblem {
    int64_t count = 1 << 16;
    DType dtype = DType::f32;
    double bytes() const { return 6.0 * static_cast<double>(count); }
};
struct PairArgs {
    static constexpr const char* operation = "pairs";

    const float* x;
    float* y;  // y[i] = x[2 i] + x[2 i + 1]
    cudaStream_t stream;
};

const ProblemFields& fields_of(const PairProblem&) {
    static const ProblemFields all =
        problem_fields(PairProblem{}, [](void*) { return std::string(); },
                       {field("count", &PairProblem::count, 1, 1e9, "sums")});
    return all;
}

void fill(const PairProblem& p, PairArgs& a, Operands& o) {
    const Input x = o.random(2 * p.count, DType::f32);
    a.x = x.as<float>();
    a.y = static_cast<float*>(o.output(p.count, DType::f32, 2,
                                       [=](int64_t i, double) { return x[2 * i] + x[2 * i + 1]; }));
}

enum class Fault { none, one_missing, one_wrong, slightly_off, nan };

__global__ void pairs_kernel(int64_t count, const float* x, float* y, Fault fault) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float v = x[2 * i] + x[2 * i + 1];
    const bool there = i == count / 3 + 7;  // hardly in any sample
    if (there && fault == Fault::one_missing) return;
    if (there && fault == Fault::one_wrong) v += 1e-3f;
    if (fault == Fault::slightly_off) v *= 1.00001f;
    if (fault == Fault::nan && i == 0) v = NAN;
    y[i] = v;
}

template <Fault fault>
void pairs(const PairProblem& p, const PairArgs& a) {
    launch("pairs", {dim3(static_cast<unsigned>(ceil_div(p.count, 256))), dim3(256), a.stream},
           pairs_kernel, p.count, a.x, a.y, fault);
}

std::string refuses_all(const PairProblem&) { return "never fits"; }

BenchCase pairs_case() {
    using V = Variant<PairProblem, PairArgs>;
    static const V table[] = {
        V{"plain", fits_all<PairProblem>, nullptr, pairs<Fault::none>},
        V{"right", fits_all<PairProblem>, nullptr, pairs<Fault::none>},
        V{"missing", fits_all<PairProblem>, nullptr, pairs<Fault::one_missing>},
        V{"wrong", fits_all<PairProblem>, nullptr, pairs<Fault::one_wrong>},
        V{"off", fits_all<PairProblem>, nullptr, pairs<Fault::slightly_off>},
        V{"nan", fits_all<PairProblem>, nullptr, pairs<Fault::nan>},
        V{"refuses", refuses_all, nullptr, pairs<Fault::none>},
    };
    return make_case<PairProblem, PairArgs>("pairs.forward", {}, table, device_sm(0));
}

BenchCase wrong_plain_case() {
    using V = Variant<PairProblem, PairArgs>;
    static const V table[] = {
        V{"plain", fits_all<PairProblem>, nullptr, pairs<Fault::slightly_off>},
        V{"right", fits_all<PairProblem>, nullptr, pairs<Fault::none>}};
    return make_case<PairProblem, PairArgs>("pairs.forward", {}, table, device_sm(0));
}

}  // namespace

TEST_CASE(
    "bench: every operation's problems are the same after going through text, and every field can be told apart") {
    for_each_operation([]<class P, class A>(Table<P, A> (*)()) {
        INFO(A::operation);
        const ProblemFields& fields = fields_of(P{});
        const P defaults = problem_of<P>("");
        CHECK(text_of(problem_of<P>(text_of(defaults))) == text_of(defaults));
        std::set<std::string> texts = {text_of(defaults)}, keys;
        for (const Field& f : fields.fields) {
            INFO(f.key);
            CHECK(keys.insert(f.key).second);
            CHECK(f.get(&defaults) >= f.least);
            CHECK(f.get(&defaults) <= f.most);
            P other = defaults;
            f.set(&other, f.get(&defaults) == f.most || f.get(&defaults) == 0.5 ? f.least
                          : f.type == Field::Type::f32                          ? f.most
                                                       : f.get(&defaults) + 1);
            CHECK(f.get(&other) != f.get(&defaults));
            CHECK_MESSAGE(texts.insert(text_of(other)).second, text_of(other));
        }
    });
    for (const char* net : {"alexnet", "alexnet2012", "owt", "cifar", "mini"})
        for (const Precision precision : {Precision::fp32, Precision::bf16})
            for (const BenchCase& j : network_cases(net, 3, precision, 0))
                CHECK_MESSAGE(problem_case(j.op, j.problem, precision, 0).problem == j.problem,
                              j.name);
    const GemmProblem gap{.layout = GemmLayout::tn,
                          .m = 8,
                          .n = 16,
                          .k = 3,
                          .lda = 24,
                          .ldb = 16,
                          .ldc = 16,
                          .dtype = DType::bf16};
    CHECK(text_of(gap) == "layout=tn m=8 n=16 k=3 lda=24 dtype=bf16");
    CHECK(problem_of<GemmProblem>(text_of(gap)) == gap);
    const ConvProblem wide{.n = 2,
                           .h = 9,
                           .w = 12,
                           .c = 4,
                           .k = 8,
                           .r = 3,
                           .s = 5,
                           .stride_h = 2,
                           .stride_w = 1,
                           .pad_h = 1,
                           .pad_w = 0,
                           .bias = false};
    CHECK(problem_of<ConvProblem>(text_of(wide)) == wide);
}

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("bench: single elements in fp64 agree with the references") {
    bool same = true;
    size_t shape = 0;
    for (ConvProblem p : conv_shapes()) {
        if (p.flops() > 3e7) continue;
        p.bias = shape % 2 == 0, p.relu = shape++ % 4 >= 2;
        const auto x = random_values(p.x_count(), 1), w = random_values(p.w_count(), 2),
                   dy = random_values(p.y_count(), 3), bias = random_values(p.k, 4);
        const auto y = reference::conv_fprop(p, x, w, bias), dx = reference::conv_dgrad(p, dy, w),
                   dw = reference::conv_wgrad(p, x, dy);
        const auto db = reference::conv_bias_grad(p, dy);
        ConvProblem masked = p;
        masked.drelu = true;
        for (int64_t i = 0; i < p.y_count(); i += 7)
            same &= near(exact::conv_fprop(p, x, w, bias, i), y.value[i]);
        for (int64_t i = 0; i < p.x_count(); i += 5)
            same &= near(exact::conv_dgrad(p, dy, w, x, i), dx.value[i]);
        for (int64_t i = 0; i < p.x_count(); i += 5)
            same &= near(exact::conv_dgrad(masked, dy, w, x, i), x[i] > 0 ? dx.value[i] : 0);
        for (int64_t i = 0; i < p.w_count(); i += 7)
            same &= near(exact::conv_wgrad(p, x, dy, i), dw.value[i]);
        for (int64_t i = 0; i < p.k; ++i)
            same &= near(exact::column_sum(dy, p.y_count() / p.k, p.k, i), db.value[i]);
        CHECK_MESSAGE(same, text_of(p));
    }
    for (const GemmLayout layout : {GemmLayout::nt, GemmLayout::nn, GemmLayout::tn}) {
        GemmProblem p = gemm_problem(layout, {13, 21, 34, 3}, kOperandTypes[0], DType::f32, 0);
        p.bias = p.relu = false;
        const auto a = random_values(reference::a_count(p), 5),
                   b = random_values(reference::b_count(p), 6);
        const auto c = reference::gemm(p, a, b, {});
        for (int i = 0; i < p.m * p.n; ++i)
            same &= near(exact::gemm(p, a, b, i / p.n, i % p.n), c.value[i]);
    }
    CHECK(same);
    const LrnProblem norm{.pixels = 40, .c = 19};
    const auto x = random_values(norm.count(), 7, 0, 40), dy = random_values(norm.count(), 8);
    const auto y = reference::lrn_forward(norm, x), dx = reference::lrn_backward(norm, x, dy);
    for (int64_t i = 0; i < norm.count(); ++i)
        same &= near(exact::lrn_forward(norm, x, i), y[i]) &&
                near(exact::lrn_backward(norm, x, dy, i), dx[i]);
    CHECK(same);
    for (const int pad : {0, 1}) {
        const PoolProblem pool{
            .n = 2, .h = 7, .w = 9, .c = 5, .window = 3, .stride = 2, .pad = pad};
        const auto in = random_values(pool.x_count(), 9), d = random_values(pool.y_count(), 10);
        const auto out = reference::pool_forward(pool, in);
        const auto back = reference::pool_backward(pool, d, out.argmax);
        for (int64_t i = 0; i < pool.y_count(); ++i) {
            const exact::Maximum m = exact::pool_forward(pool, in, i);
            same &= m.value == out.y[i] && m.at == out.argmax[i];
        }
        for (int64_t i = 0; i < pool.x_count(); ++i)
            same &= near(exact::pool_backward(pool, d, out.argmax, i), back[i]);
    }
    CHECK(same);
}

TEST_CASE("bench: folded input is read where it is stored, and its padding is zero") {
    ConvProblem p{.n = 2,
                  .h = 22,
                  .w = 19,
                  .c = 3,
                  .k = 4,
                  .r = 6,
                  .s = 5,
                  .stride_h = 4,
                  .stride_w = 4,
                  .pad_h = 2,
                  .pad_w = 1};
    const std::vector<double> x = random_values(p.x_count(), 1);
    for (const bool planes : {false, true}) {
        INFO("planes " << planes);
        ConvProblem folded = p;
        folded.fold = 4, folded.planes = planes;
        std::vector<double> stored(folded.x_count(), 0);
        const int f = 4, H = folded.fold_h(), W = folded.fold_w(), C = f * f * p.c;
        for (int n = 0; n < p.n; ++n)
            for (int i = 0; i < H * f; ++i)
                for (int j = 0; j < W * f; ++j)
                    for (int c = 0; c < p.c; ++c) {
                        const int h = i - p.pad_h, w = j - p.pad_w;
                        if (h < 0 || w < 0 || h >= p.h || w >= p.w) continue;
                        const int channel = (i % f * f + j % f) * p.c + c;
                        const size_t rows = folded.x_count() / C;  // of a plane, with those behind
                        const size_t to =
                            planes ? (channel / 8 * rows + (n * H + i / f) * W + j / f) * 8 +
                                         channel % 8
                                   : exact::at(n, i / f, j / f, channel, H, W, C);
                        stored[to] = x[exact::at(n, h, w, c, p.h, p.w, p.c)];
                    }
        const auto w = random_values(p.w_count(), 2), bias = random_values(p.k, 3),
                   dy = random_values(p.y_count(), 4);
        bool same = true;
        for (int64_t i = 0; i < p.y_count(); ++i)
            same &= near(exact::conv_fprop(p, x, w, bias, i),
                         exact::conv_fprop(folded, stored, w, bias, i));
        for (int64_t i = 0; i < p.w_count(); ++i)
            same &= near(exact::conv_wgrad(p, x, dy, i), exact::conv_wgrad(folded, stored, dy, i));
        CHECK(same);

        Operands o(0);
        ConvFpropArgs a{};
        fill(folded, a, o);
        o.stream().synchronize();
        std::vector<float> made(folded.x_count());
        WT_CUDA(cudaMemcpy(made.data(), a.x, made.size() * 4, cudaMemcpyDeviceToHost));
        // no number made is 0
        for (size_t i = 0; i < made.size(); ++i) same &= (made[i] == 0) == (stored[i] == 0);
        CHECK(same);
    }
}

TEST_CASE("bench: operands are the same each time, never zero, and cut to tf32 where asked") {
    for (const DType type : {DType::f32, DType::bf16}) {
        Operands a(0), b(0);
        const Input x = a.matrix(10007, type), y = b.matrix(10007, type);
        a.fetch(), b.fetch();
        bool same = true, zero = false;
        double low = 9, high = -9, sum = 0;
        for (int i = 0; i < 10007; ++i) {
            same &= x[i] == y[i], zero |= x[i] == 0;
            low = std::min(low, x[i]), high = std::max(high, x[i]), sum += x[i];
        }
        CHECK(same);
        CHECK(!zero);
        CHECK(
            (low >= -1 && low < -0.99 && high <= 1 && high > 0.99 && std::abs(sum / 10007) < 0.03));
        b.reset(true);
        b.fetch();
        bool cut = true;
        for (int i = 0; i < 10007; ++i) {
            const float v = static_cast<float>(y[i]);
            uint32_t bits;
            std::memcpy(&bits, &v, 4);
            cut &= (bits & 0x1FFF) == 0 && std::abs(y[i] - x[i]) <= 0x1p-10 * std::abs(x[i]);
        }
        CHECK(cut);
    }
}

TEST_CASE("bench: right variants pass, wrong ones do not") {
    Stopwatch watch(0);
    Settings settings;
    settings.check_only = true;
    const Compared c = compare(pairs_case(), watch, settings);
    REQUIRE(c.rows.size() == 7);
    const auto state = [&](int i) { return c.rows[i].state; };
    CHECK((state(0) == Row::State::right && c.rows[0].error_ratio <= 1));
    CHECK(state(1) == Row::State::right);
    CHECK((state(2) == Row::State::wrong &&
           c.rows[2].why == "not finite, or not written everywhere"));
    CHECK((state(3) == Row::State::wrong && c.rows[3].why.find("an element is off by") == 0));
    CHECK((state(4) == Row::State::wrong &&
           c.rows[4].why.find("times the plain variant's") != std::string::npos));
    CHECK((state(5) == Row::State::wrong && !(c.rows[5].error_ratio <= 1e300)));
    CHECK((state(6) == Row::State::skipped && c.rows[6].why == "never fits"));
    // With a wrong plain variant there is nothing to judge by: all are refused.
    const Compared w = compare(wrong_plain_case(), watch, settings);
    CHECK((w.rows[0].state == Row::State::wrong && w.rows[1].state == Row::State::wrong));
    // The report counts them, and says so.
    Comparison all;
    all.device = "a device", all.precision = "fp32", all.checked_only = true;
    all.cases = {c, w};
    CHECK(all.wrong() == 6);
    CHECK(table(all, c, Sort::table).find("WRONG, not timed") != std::string::npos);
    const auto j = to_json(all);
    CHECK(j["wrong"] == 6);
    // not finite
    CHECK(nlohmann::json::parse(j.dump())["problems"][0]["variants"][5]["error"].is_null());
    CHECK(to_html(all, Sort::name).find("nan is wrong, not timed") != std::string::npos);
}

TEST_CASE("bench: what is wrong is not timed, what is right is") {
    Stopwatch watch(0);
    Settings settings;
    settings.patience = {.seconds = 0.02, .noise = 0.5, .least = 3, .most = 5};
    const Compared c = compare(pairs_case(), watch, settings);
    for (const Row& r : c.rows) {
        CHECK((r.state == Row::State::timed) == (r.variant == "plain" || r.variant == "right"));
        CHECK((r.timing.samples >= 3) == (r.state == Row::State::timed));
        CHECK((r.timing.median_ms > 0) == (r.state == Row::State::timed));
        CHECK(r.timing.fastest_ms <= r.timing.median_ms);
    }
    CHECK(c.best(false) > 0);
    CHECK(c.best(true) == 0);
    CHECK(quantile({1, 2, 3, 4}, 0.5) == 2.5);
    CHECK(quantile({1}, 0.75) == 1);
    CHECK(quantile({}, 0.5) == 0);
}

TEST_CASE("bench: one variant that throws is one failure, and its row comes in its turn") {
    using V = Variant<PairProblem, PairArgs>;
    static const V table[] = {
        V{"plain", fits_all<PairProblem>, nullptr, pairs<Fault::none>},
        V{"throws", fits_all<PairProblem>, nullptr,
          [](const PairProblem&, const PairArgs&) { throw Error("not today"); }},
        V{"vendor", fits_all<PairProblem>, nullptr, pairs<Fault::none>, true},
        V{"right", fits_all<PairProblem>, nullptr, pairs<Fault::none>},
    };
    const BenchCase bench_case =
        make_case<PairProblem, PairArgs>("pairs.forward", {}, table, device_sm(0));
    Stopwatch watch(0);
    Settings settings;
    settings.patience = {.seconds = 0.02, .noise = 0.5, .least = 3, .most = 5};
    std::vector<std::string> begun, told;
    Progress progress;
    progress.begins = [&](const std::string& doing, const std::string& variant) {
        begun.push_back(doing + " " + variant);
    };
    progress.row = [&](const Compared& c, const Row& row) {
        told.push_back(row.variant);
        if (row.variant == "right" && !settings.check_only)
            CHECK(c.best(true) > 0);  // against what the vendor's took
    };
    for (const bool check_only : {false, true}) {
        settings.check_only = check_only;
        begun.clear(), told.clear();
        const Compared c = compare(bench_case, watch, settings, progress);
        REQUIRE(c.rows.size() == 4);
        CHECK((c.rows[1].state == Row::State::wrong && c.rows[1].why == "not today"));
        for (const int i : {0, 2, 3})
            CHECK(c.rows[i].state == (check_only ? Row::State::right : Row::State::timed));
        CHECK(c.lost.empty());
        CHECK(told == std::vector<std::string>{"plain", "throws", "vendor", "right"});
        std::vector<std::string> want = {"checking plain", "checking throws", "checking vendor",
                                         "checking right"};
        if (!check_only) want.insert(want.end(), {"timing vendor", "timing plain", "timing right"});
        CHECK(begun == want);
    }
    Comparison all;
    all.cases.push_back(compare(bench_case, watch, settings));
    CHECK(all.skipped({"plain", "throws"}).empty());
    all.cases.push_back(compare(pairs_case(), watch, settings));
    CHECK(all.skipped({"right", "refuses"}) == "refuses was skipped (pairs.forward: never fits)");
}

TEST_CASE(
    "bench: of tensors that 32-bit offsets do not reach the end of, a part of the sample lies "
    "beyond") {
    const int64_t count = kFarElement + 500'000;
    for (const double cost : {1.0, 1e9}) {
        const std::vector<int64_t> sample = choose_sample(count, cost);
        const auto far =
            std::count_if(sample.begin(), sample.end(), [](int64_t i) { return i >= kFarElement; });
        CHECK(far >= static_cast<int64_t>(sample.size()) / 4);
        CHECK((sample.front() == 0 && sample.back() == count - 1));
        for (const int64_t i : sample) CHECK((i >= 0 && i < count));
    }
    for (const int64_t i : choose_sample(kFarElement, 1)) CHECK(i < kFarElement);
    // Such a problem is checked as it is on virtual GPUs too, unless its plain variant would take
    // for ever; then that is said.
    const BenchCase small =
        problem_case("conv_wgrad", "n=64,h=13,c=256,k=384,r=3,pad=1", Precision::bf16, 0);
    const BenchCase far =
        problem_case("conv_wgrad", "n=1100,h=200,c=56,k=1,r=1", Precision::bf16, 0);
    const BenchCase work =
        problem_case("conv_wgrad", "n=1100,h=200,c=56,k=512,r=3,pad=1", Precision::bf16, 0);
    CHECK(far.check_flops == far.flops);
    CHECK(far.largest == 1100.0 * 200 * 200 * 56);
    CHECK((far.note.empty() && small.note.empty()));
    if (kAutomaticUsesBaselines) {
        CHECK(small.check_flops < small.flops);
        CHECK(work.check_flops < work.flops);
        CHECK(work.note.find("beyond 2^31 are not exercised") != std::string::npos);
        CHECK(patience_line(far, 2).find("large: ") != std::string::npos);
    }
    CHECK(patience_line(small, 2).empty());
}

TEST_CASE("bench: operands that do not start on 16 bytes are problems of their own") {
    Stopwatch watch(0);
    Settings settings;
    settings.check_only = true;
    for (const auto& [op, problem, refuses] :
         {std::array{"gemm", "m=16,n=24,k=32,aligned=0", "mma_sm80"},
          {"lrn_forward", "pixels=9,c=16,aligned=0", "shuffle"},
          {"lrn_backward", "pixels=9,c=16,aligned=0", "shuffle"},
          {"pool_forward", "n=1,h=7,c=16,aligned=0", "once"},
          {"pool_backward", "n=1,h=7,c=16,aligned=0", "once"},
          {"lrn_pool_forward", "n=1,h=7,c=16,aligned=0", "fused"},
          {"lrn_pool_backward", "n=1,h=7,c=16,aligned=0", "fused"}}) {
        const Compared c = compare(problem_case(op, problem, Precision::bf16, 0), watch, settings);
        CHECK(c.bench_case.problem.find("aligned=0") != std::string::npos);
        for (const Row& r : c.rows) {
            INFO(std::string(op) << " " << r.variant << ": " << r.why);
            CHECK(r.state != Row::State::wrong);
            if (r.variant == refuses)
                CHECK(r.why.find("must start on 16 bytes") != std::string::npos);
        }
    }
}

TEST_CASE("bench: every operation is verified as bin/compare does it") {
    Stopwatch watch(0);
    Settings settings;
    settings.check_only = true;
    const std::map<std::string, std::string> problems = {
        {"augment", "n=2 src_h=24 out_h=19"},
        {"conv_fprop", "n=2 h=9 c=8 k=16 r=3 pad=1 relu=1"},
        {"conv_dgrad", "n=2 h=9 c=8 k=16 r=3 pad=1"},
        {"conv_wgrad", "n=2 h=9 c=8 k=16 r=3 pad=1"},
        {"conv_pool_forward", "n=2 h=13 c=8 k=16 r=3 stride=1 pad=1"},
        {"activation_forward", "rows=3 cols=100 kind=tanh"},
        {"activation_backward", "rows=3 cols=100"},
        {"lrn_forward", "pixels=50 c=24"},
        {"lrn_backward", "pixels=50 c=24"},
        {"pool_forward", "n=2 h=9 c=16"},
        {"pool_backward", "n=2 h=9 c=16 pad=1"},
        {"lrn_pool_forward", "n=2 h=9 c=16"},
        {"lrn_pool_backward", "n=2 h=9 c=16"},
        {"dropout", "rows=7 cols=72"},
        {"gemm", "m=17 n=40 k=33 bias=1"},
        {"softmax", "rows=9 classes=11"},
        {"sgd", "tensors=5 total=3000"},
        {"exchange_copy", "rows=3 cols=100"},
        {"exchange_reduce", "sources=3 rows=3 cols=100"}};
    for (const std::string& op : operation_names()) {
        REQUIRE_MESSAGE(problems.contains(op),
                        "give the new operation " << op << " a problem here");
        for (const Precision precision : {Precision::fp32, Precision::tf32, Precision::bf16}) {
            const Compared c =
                compare(problem_case(op, problems.at(op), precision, 0), watch, settings);
            int right = 0;
            for (const Row& r : c.rows) {
                INFO(op << " " << r.variant << " " << precision_names()[static_cast<int>(precision)]
                        << ": " << r.why);
                CHECK(r.state != Row::State::wrong);
                right += r.state == Row::State::right;
            }
            CHECK(right >= 1);
        }
    }
}

TEST_CASE("bench: smoothed labels are verified as such") {
    Stopwatch watch(0);
    Settings settings;
    settings.check_only = true;
    for (const char* problem :
         {"rows=9 classes=11 smoothing=0.1", "rows=5 classes=1100 smoothing=0.5"}) {
        const Compared c =
            compare(problem_case("softmax", problem, Precision::fp32, 0), watch, settings);
        CHECK(c.bench_case.problem.find("smoothing=") != std::string::npos);
        CHECK(c.rows.size() == softmax_variants().size());
        for (const Row& r : c.rows) {
            INFO(r.variant << ": " << r.why);
            CHECK(r.state == Row::State::right);
        }
    }
}

TEST_CASE("bench: a network's jobs have names, and fused ones name their parts") {
    const std::vector<BenchCase> cases = network_cases("alexnet", 1, Precision::tf32, 0);
    std::set<std::string> names;
    for (const BenchCase& j : cases)
        CHECK_MESSAGE(names.insert(j.name).second, j.name << " is there twice");
    for (const char* n : {"conv1.fprop", "conv2.wgrad", "norm1.forward", "pool5.backward",
                          "fc6.wgrad", "fc6.wgrad+sgd", "fc6.fprop+dropout", "fc7.dgrad+drelu",
                          "conv4.dgrad+drelu", "conv1.fprop+folded", "norm1.forward+pool1",
                          "pool1.backward+norm1+relu1", "pool5.backward+relu5", "update.sgd"})
        CHECK_MESSAGE(names.contains(n), n);
    CHECK(!names.contains("conv1.dgrad"));
    for (const BenchCase& j : cases) {
        for (const std::string& part : j.parts)
            CHECK_MESSAGE(names.contains(part), j.name << " is said to do " << part);
        // --problem takes what the table shows
        const BenchCase again = problem_case(j.op, j.problem, Precision::tf32, 0);
        CHECK(again.problem == j.problem);
        CHECK((again.flops == j.flops && again.bytes == j.bytes));
        CHECK(again.dtype == j.dtype);
        CHECK(j.tf32 == (j.flops > 0));
    }
}

TEST_CASE("bench: what training would take can be checked and timed, Winograd's convolutions too") {
    for (const BenchCase& j : network_cases("alexnet", 8, Precision::fp32, 0))
        CHECK_MESSAGE(j.variants[j.automatic].refuses.empty(), j.name);
}

TEST_SUITE_END();

TEST_CASE("compare: --variants auto times what training would run, and nothing else") {
    const TempDir s;
    const Result r =
        run(s, program("compare") +
                   " --net mini --batch 2 --layer fc7 --seconds 0 --variants auto --json c.json");
    INFO(r.err);
    REQUIRE(r.status == 0);
    std::set<std::string> names;
    const auto j = nlohmann::json::parse(slurp(s / "c.json"));
    for (const auto& p : j["problems"]) {
        names.insert(p["name"]);
        REQUIRE(p["variants"].size() == 1);
        CHECK(p["variants"][0]["variant"] == p["automatic"]);
        CHECK(p["variants"][0]["ms"] > 0);
        if (p.contains("parts")) CHECK(p["automatic_fuses"] == true);
    }
    for (const char* name : {"fc7.fprop", "fc7.dgrad", "fc7.wgrad"})
        CHECK_MESSAGE(names.contains(name), std::string(name));
#ifdef WT_ONEDNN
    // oneDNN's product stays apart
    if (kAutomaticUsesBaselines) CHECK(!names.contains("fc7.wgrad+sgd"));
#endif
}

TEST_CASE("compare: the program writes what it was asked for") {
    const TempDir s;
    const Result r = run(
        s, program("compare") +
               " softmax --net mini --batch 4 --seconds 0 --sort time --json c.json --html c.html");
    INFO(r.err);
    REQUIRE(r.status == 0);
    CHECK(r.out.find("softmax loss.softmax, fp32, batch 4") != std::string::npos);
    CHECK(r.out.find("ceilings") != std::string::npos);
    const auto j = nlohmann::json::parse(slurp(s / "c.json"));
    CHECK(j["net"] == "mini");
    CHECK(j["wrong"] == 0);
    CHECK(j["copy_ceiling"]["gb_per_s"] > 0);
    REQUIRE(j["problems"].size() == 1);
    for (const auto& v : j["problems"][0]["variants"])
        CHECK((v["state"] == "timed" && v["ms"] > 0 && v["of_ceiling"] > 0));
    const std::string page = slurp(s / "c.html");
    CHECK(page.find("<svg") != std::string::npos);
    CHECK(page.rfind("</html>") != std::string::npos);
    CHECK(page.find("http") == std::string::npos);  // nothing from elsewhere
    const Result list = run(s, program("compare") + " --net mini --layer conv2 --list");
    CHECK(list.status == 0);
    CHECK(list.out.find("conv2.wgrad conv_wgrad: naive") != std::string::npos);
    CHECK(run(s, program("compare") + " lrn_backward --net mini --batch 2 --check-only").status ==
          0);
    CHECK(run(s, program("compare") +
                     " gemm --problem m=8,n=8,k=8 --check-only --variants naive,tiled")
              .status == 0);
    CHECK(run(s, program("compare") + " --net mini --batch 1 --layer fc7.wgrad --profile")
              .out.find("fc7.wgrad=") != std::string::npos);
}

TEST_CASE("compare: what is there is in the file when it is killed, and said to be a part") {
    const TempDir s;
    const Result r = run(s, program("compare") +
                                " --net mini --batch 2 --check-only --json c.json & pid=$!; while "
                                "[ ! -s c.json ]; do sleep 0.01; done; kill -9 $pid");
    INFO(r.err);
    const auto j = nlohmann::json::parse(slurp(s / "c.json"));
    CHECK(j["complete"] == false);
    CHECK(j["problems"].size() >= 1);
    // through a file, and before it ended
    CHECK(r.out.find("augment input.augment, fp32, batch 2, ") != std::string::npos);
    CHECK(r.err.find("compare: checking input.augment=naive\n") != std::string::npos);
    // Whole, and through a pipe that somebody reads.
    CHECK(run(s, program("compare") + " softmax --net mini --batch 2 --check-only --json "
                                      "/dev/stdout | grep -c '\"complete\": true'")
              .out == "1\n");
}

TEST_CASE("compare: bad input is answered in one line") {
    const TempDir s;
    const auto answers = [&](const char* flags, int status, const char* part) {
        check_one_line(run(s, program("compare") + " " + flags), status, part);
    };
    answers("conv_fpropp", 2, "nearest is conv_fprop");
    answers("--net alexnett", 2, "nearest is alexnet");
    answers("--layer conv9", 2, "unknown layer 'conv9'");
    answers("--layer conv2.wgradd", 2, "nearest is conv2.wgrad");
    answers("gemm --layer conv2", 2, "must be one of fc6, fc7, fc8");
    answers("--variants tild", 2, "nearest is tiled");
    answers("--precision fp8", 2, "must be one of fp32, tf32, bf16");
    answers("--sort speed", 2, "unknown order 'speed'");
    answers("--device 63", 2, "--device 63: there ");
    answers("--problem m=3", 2, "--problem needs OP");
    answers("gemm --problem mm=3", 2, "unknown field 'mm'");
    answers("gemm --problem m", 2, "must be FIELD=VALUE");
    answers("gemm --problem m=1.5", 2, "must be a whole number");
    answers("gemm --problem m=2,m=3", 2, "m is given twice");
    answers("gemm --problem lda=3", 2, "at least the length of a row");
    answers("gemm --problem dtype=fp8", 2, "must be one of fp32, bf16");
    answers("gemm --problem m=0", 2, "must be a whole number from 1");
    answers("gemm --problem layout=nx", 2, "must be one of nt, nn, tn");
    answers("gemm --problem relu=1,layout=nn", 2, "need layout=nt");
    answers("conv_fprop --problem groups=5", 2, "groups must divide");
    answers("conv_fprop --problem h=3,r=7", 2, "must fit");
    answers("softmax --check-only --json /nonexistent/c.json", 1,
            "cannot write /nonexistent/c.json");
    answers("--html .", 1, "cannot write .: not a regular file (a folder)");
    answers("--html -", 2, "--html -: must be a file");
    answers("--variants ''", 2, "--variants: must not be empty");
    answers("--variants naive,", 2, "a name is missing");
    answers("gemm --problem ''", 2, "--problem: must not be empty");
    answers("gemm --problem n=2,n=3", 2, "n is given twice, n=3 the second time");
    answers("gemm --problem m=8 --layer fc6", 2, "give one of them");
    // Found before any work: the tables would follow.
    CHECK(run(s, program("compare") + " softmax --json /nonexistent/c.json").out.empty());
    const Result skipped =
        run(s, program("compare") + " gemm --problem m=8,n=8,k=8 --check-only --variants mma_sm80");
    CHECK(skipped.status == 1);
    CHECK(skipped.err.find("compare: --variants: nothing was checked: mma_sm80 was skipped "
                           "(layout=nt m=8 n=8 k=8: fp32 operands must not be rounded to tf32)") !=
          std::string::npos);
}
