// Networks: shapes, exact counts, shards, file order, first values.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "host/net/kernel_settings.h"
#include "host/net/params.h"
#include "host/net/spec.h"
#include "host/parallel/layout.h"
#include "host/train/schedule.h"

using namespace wt;

TEST_CASE("net: parameters and multiply-adds are those of the papers' networks") {
    const NetSpec alexnet = make_net("alexnet", {});
    CHECK(alexnet.parameters() == 62378344);
    CHECK(alexnet.macs() == 1135256096);
    const NetSpec two_towers = make_net("alexnet2012", {});
    CHECK(two_towers.parameters() == 60965224);
    CHECK(two_towers.macs() == 724406816);
    const NetSpec owt = make_net("owt", {});
    CHECK(owt.parameters() == 61100840);
    CHECK(owt.macs() == 714188480);
    CHECK(make_net("mini", {.classes = 10}).layers.back().y.c == 10);
    CHECK_THROWS_WITH_AS(make_net("alexnett", {}), doctest::Contains("nearest is alexnet"),
                         UsageError);
}

TEST_CASE("net: options change what they name") {
    const auto has = [](const NetSpec& n, LayerKind k) {
        for (const Layer& l : n.layers)
            if (l.kind == k) return true;
        return false;
    };
    CHECK(has(make_net("mini", {}), LayerKind::lrn));
    CHECK_FALSE(has(make_net("mini", {.lrn = false}), LayerKind::lrn));
    CHECK_FALSE(has(make_net("mini", {.dropout = 0}), LayerKind::dropout));
    CHECK(make_net("alexnet", {.plain_pool = true}).layers[3].y.h == 27);
    CHECK(make_net("alexnet", {.plain_pool = true}).layers[3].size == 2);
    CHECK(make_net("alexnet", {.tanh = true}).layers[1].name == "tanh1");
}

TEST_CASE("net: shards cover the units once, as evenly as can be") {
    for (int64_t rows : {10, 1000, 4096, 7})
        for (int workers = 1; workers <= 7; ++workers) {
            int64_t next = 0;
            for (int r = 0; r < workers; ++r) {
                const Shard s = shard_of(rows, r, workers);
                CHECK(s.first == next);
                CHECK(s.count > rows / workers - 8);
                CHECK(s.count < rows / workers + 1 + 8);
                next += s.count;
            }
            CHECK(next == rows);
        }
}

TEST_CASE("net: file order is OIHW and the (C, H, W) flatten, and comes back") {
    const NetSpec net = make_net("owt", {});
    for (const Param& p : params_of(net)) {
        if (p.name == "fc7.weight") continue;  // as fc8's, larger
        std::vector<float> memory(p.count());
        for (size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<float>(i);
        const auto file = to_file_order(net, p, memory);
        CHECK(from_file_order(net, p, file) == memory);
        if (p.name == "conv2.weight") {  // 192 x 64 x 5 x 5 in files; element (k, c, r, s)
            const int k = 3, c = 7, r = 2, s = 4;
            CHECK(file[((k * 64 + c) * 5 + r) * 5 + s] == memory[((k * 5 + r) * 5 + s) * 64 + c]);
        }
        if (p.name == "fc6.weight") {
            const int u = 5, c = 7, h = 2, w = 4;
            CHECK(file[u * 9216 + (c * 6 + h) * 6 + w] == memory[u * 9216 + (h * 6 + w) * 256 + c]);
        }
    }
}

TEST_CASE("net: first values do not depend on the shards, and have their spread") {
    const NetSpec net = make_net("mini", {.classes = 10});
    for (const Param& p : params_of(net)) {
        const auto whole = initial_values(net, p, {0, p.rows}, Init::paper, 5);
        std::vector<float> joined;
        for (int r = 0; r < 3; ++r) {
            const auto part = initial_values(net, p, shard_of(p.rows, r, 3), Init::paper, 5);
            joined.insert(joined.end(), part.begin(), part.end());
        }
        CHECK(joined == whole);
        if (p.bias || whole.size() < 5000) continue;
        double sum = 0, squares = 0;
        for (float v : whole) sum += v, squares += double(v) * v;
        // Mean and standard deviation of n draws of N(0, 0.01), five standard errors wide.
        const double n = whole.size();
        CHECK(std::abs(sum / n) < 5 * 0.01 / std::sqrt(n));
        CHECK(std::sqrt(squares / n) == doctest::Approx(0.01).epsilon(5 / std::sqrt(2 * n)));
        CHECK(initial_values(net, p, {0, p.rows}, Init::paper, 6) != whole);
    }
    // conv2's biases
    CHECK(initial_values(net, params_of(net)[3], {0, 128}, Init::paper, 1)[0] == 1.f);
    CHECK(initial_values(net, params_of(net)[3], {0, 128}, Init::he, 1)[0] == 0.f);
}

TEST_CASE(
    "net: the most preferred variant that fits and is allowed is chosen, wherever it stands in the "
    "table") {
    struct Problem {
        bool fits_plain_loops = true, fits_matrix_units = true;
    };
    struct Args {};
    using V = Variant<Problem, Args>;
    const auto loops = [](const Problem& p) { return std::string(p.fits_plain_loops ? "" : "no"); };
    const auto units = [](const Problem& p) {
        return std::string(p.fits_matrix_units ? "" : "no");
    };
    std::vector<V> all = {
        {.name = "naive", .refuses = fits_all<Problem>, .workspace = nullptr, .launch = nullptr},
        preferred(V{.name = "tiled", .refuses = loops, .workspace = nullptr, .launch = nullptr},
                  {.gpu = 1, .cpu = 2}),
        preferred(V{.name = "mma", .refuses = units, .workspace = nullptr, .launch = nullptr},
                  {.gpu = 2}),
        preferred(
            V{.name = "wgmma", .refuses = units, .workspace = nullptr, .launch = nullptr, .sm = 90},
            {.gpu = 3, .cpu = 1}),
        preferred(V{.name = "vendor",
                    .refuses = loops,
                    .workspace = nullptr,
                    .launch = nullptr,
                    .baseline = true},
                  {.gpu = 1, .cpu = 3}),
        {.name = "mine", .refuses = fits_all<Problem>, .workspace = nullptr, .launch = nullptr}};
    std::sort(all.begin() + 1, all.end(),
              [](const V& a, const V& b) { return std::string(a.name) < b.name; });
    do {
        const Table<Problem, Args> table = all;
        const auto own = [&](Problem p, int sm) {
            return std::string(choose(table, p, KernelChoice::own, sm).name);
        };
        CHECK(own({}, 90) == "wgmma");
        CHECK(own({}, 80) == "mma");
        CHECK(own({true, false}, 90) == "tiled");
        CHECK(own({}, 0) == "tiled");
        CHECK(own({false, true}, 0) == "wgmma");
        // A row that says nothing is never taken by itself, also where only the plain one is left.
        CHECK(own({false, false}, 0) == "naive");
        for (int sm : {0, 80, 90})
            CHECK(choose(table, Problem{}, KernelChoice::baseline, sm).name ==
                  std::string("vendor"));
        CHECK(choose(table, Problem{false, true}, KernelChoice::baseline, 90).name ==
              std::string("wgmma"));
        CHECK(choose(table, Problem{}, KernelChoice::automatic, 0).name ==
              std::string(kAutomaticUsesBaselines ? "vendor" : "tiled"));
    } while (std::next_permutation(all.begin() + 1, all.end(), [](const V& a, const V& b) {
        return std::string(a.name) < b.name;
    }));
}

namespace {

// What a table must be for its order to decide nothing.
template <class Problem, class Args>
void check_table(Table<Problem, Args> table) {
    std::set<std::string> names;
    REQUIRE(!table.empty());
    CHECK((table[0].preference.gpu == 0 && table[0].preference.cpu == 0 && table[0].sm == 0 &&
           !table[0].baseline));
    for (const int sm : {0, 90}) {
        std::set<int> ranks;
        for (const auto& v : table)
            if (const int rank = v.preference.on(sm); rank > 0)
                CHECK_MESSAGE(ranks.insert(rank).second, std::string(v.name)
                                                             << " shares its preference " << rank);
    }
    for (const auto& v : table)
        CHECK_MESSAGE(names.insert(v.name).second, std::string(v.name) << " is there twice");
}

}  // namespace

TEST_CASE("net: no two variants of a table have the same name or the same preference") {
    check_table(conv_fprop_variants());
    check_table(conv_dgrad_variants());
    check_table(conv_wgrad_variants());
    check_table(conv_pool_forward_variants());
    check_table(gemm_variants());
    check_table(lrn_forward_variants());
    check_table(lrn_backward_variants());
    check_table(pool_forward_variants());
    check_table(pool_backward_variants());
    check_table(lrn_pool_forward_variants());
    check_table(lrn_pool_backward_variants());
    check_table(activation_forward_variants());
    check_table(activation_backward_variants());
    check_table(dropout_variants());
    check_table(softmax_variants());
    check_table(augment_variants());
    check_table(sgd_variants());
    check_table(exchange_copy_variants());
    check_table(exchange_reduce_variants());
}

TEST_CASE("net: a product whose operands do not start on 16 bytes is planned as one") {
    // Shards are planned to begin on 16 bytes; the problems say whether they do.
    for (const DType dtype : {DType::f32, DType::bf16})
        for (const FcSplit split : {FcSplit::columns, FcSplit::alternate})
            for (int r = 0; r < 3; ++r) {
                WorkerConfig c;
                c.net = make_net("mini", {.classes = 1001});
                c.batch = 2, c.workers = 3, c.rank = r, c.dtype = dtype, c.split = split;
                const Layout l(c);
                const auto on_16 = [](BufferRef place) { return place.offset % 16 == 0; };
                for (const HeadOp& op : l.head) {
                    INFO("rank " << r << ", x at " << op.x.offset << ", dy at " << op.dy.offset);
                    const bool weights = on_16(l.storage[op.weight].value);
                    CHECK(op.fprop.problem.aligned == (on_16(op.x) && weights));
                    CHECK(op.dgrad.problem.aligned == (on_16(op.dy) && weights));
                    CHECK(op.wgrad.problem.aligned == (on_16(op.dy) && on_16(op.x)));
                    for (const auto* bound : {&op.fprop, &op.dgrad, &op.wgrad})
                        CHECK(bound->variant->refuses(bound->problem).empty());
                }
            }
    GemmProblem p{.layout = GemmLayout::nt,
                  .m = 64,
                  .n = 64,
                  .k = 64,
                  .lda = 64,
                  .ldb = 64,
                  .ldc = 64,
                  .dtype = DType::bf16};
    const Gemm* mma = find(gemm_variants(), "mma_sm80");
    REQUIRE(mma);
    CHECK(mma->refuses(p).empty());
    p.aligned = false;
    CHECK(mma->refuses(p) == "rows of A and B must start on 16 bytes");
    p.aligned = true;
    const GemmArgs off{
        reinterpret_cast<const void*>(2), nullptr, nullptr, nullptr, nullptr, nullptr, nullptr};
    CHECK_THROWS_WITH_AS(
        mma->launch(p, off),
        "gemm mma_sm80: a pointer is not on 16 bytes, and the problem says that all are", Error);
}

TEST_CASE("net: kernel settings are parsed, and refused in words") {
    const KernelSettings s = KernelSettings::parse("own,conv2.wgrad=tiled");
    CHECK(s.choice == KernelChoice::own);
    CHECK(s.by_layer_op.at("conv2.wgrad") == "tiled");
    CHECK_THROWS_AS(KernelSettings::parse("fast"), UsageError);
    CHECK_THROWS_AS(KernelSettings::parse("conv2=tiled"), UsageError);
    for (const char* text : {"", ",", "own,", "own,,conv2.wgrad=tiled"})
        CHECK_THROWS_AS(KernelSettings::parse(text), UsageError);
    CHECK_THROWS_WITH_AS(KernelSettings::parse("conv2.wgrad=tiled,conv2.wgrad=naive"),
                         "--kernels conv2.wgrad is given twice: tiled and naive", UsageError);
}

// Every step's rate against the formulas of host/train/schedule.h, written down again in fp64.
TEST_CASE("schedule: every step of every policy, with and without warm-up") {
    const int per_epoch = 7, epochs = 6, steps = per_epoch * epochs;
    const double lr = 0.03, pi = 3.14159265358979323846;
    const auto formula = [&](const std::string& policy, int i) {
        const double t = i / static_cast<double>(steps);
        const int epoch = i / per_epoch;
        if (policy == "linear") return lr - lr * t;
        if (policy == "cosine") return 0.5 * lr * (1 + std::cos(pi * t));
        if (policy == "exponential:0.7") return lr * std::exp(epoch * std::log(0.7));
        if (policy == "step:2,5") return lr / (epoch < 2 ? 1 : epoch < 5 ? 10 : 100);
        return lr;
    };
    for (const char* policy :
         {"constant", "linear", "cosine", "exponential:0.7", "step:2,5", "plateau"})
        for (const double warmup : {0.0, 0.5, 2.0}) {
            const Schedule s(policy, lr, per_epoch, steps, warmup);
            const int rising = static_cast<int>(std::lround(warmup * per_epoch));
            for (int i = 0; i < steps; ++i) {
                INFO(policy << ", warm-up of " << rising << " steps, step " << i);
                const double factor = i < rising ? (i + 1.0) / rising : 1;
                CHECK(s.rate(i) == doctest::Approx(factor * formula(policy, i)).epsilon(1e-12));
            }
        }
}

TEST_CASE("schedule: policies") {
    for (const char* bad : {"cosin", "exponential:", "exponential:1", "exponential:0.5x"})
        CHECK_THROWS_AS(Schedule(bad, 1, 1, 1), UsageError);
    CHECK_THROWS_AS(Schedule("step:", 1, 1, 1), UsageError);
    CHECK_THROWS_AS(Schedule("step:5,3", 1, 1, 1), UsageError);
    CHECK(Schedule("constant", 0.5, 10, 100).rate(99) == 0.5);
    CHECK(Schedule("linear", 1.0, 10, 100).rate(25) == doctest::Approx(0.75));
    // Of 100 steps: (1 + cos(0)) / 2, a quarter of the way (2 + sqrt(2)) / 4, the middle.
    const Schedule cosine("cosine", 2.0, 10, 100);
    CHECK(cosine.rate(0) == 2);
    CHECK(cosine.rate(25) == doctest::Approx(2 * 0.8535533905932737).epsilon(1e-12));
    CHECK(cosine.rate(50) == doctest::Approx(1.0).epsilon(1e-12));
    CHECK(cosine.rate(100) == doctest::Approx(0).epsilon(1e-12));
    CHECK(cosine.falls_to_the_end());
    const Schedule exponential("exponential:0.9", 2.0, 10, 100);
    CHECK(exponential.rate(9) == 2);
    CHECK(exponential.rate(39) == doctest::Approx(2 * 0.9 * 0.9 * 0.9).epsilon(1e-12));
    // Half an epoch of warm-up: 5 steps.
    const Schedule warm("linear", 1.0, 10, 100, 0.5);
    for (int i = 0; i < 5; ++i)
        CHECK(warm.rate(i) == doctest::Approx((1 - i / 100.0) * (i + 1) / 5).epsilon(1e-12));
    CHECK(warm.rate(5) == doctest::Approx(0.95));
    const Schedule steps("step:2,4", 1.0, 10, 100);
    CHECK(steps.rate(19) == doctest::Approx(1.0));
    CHECK(steps.rate(20) == doctest::Approx(0.1));
    CHECK(steps.rate(40) == doctest::Approx(0.01));
    Schedule plateau("plateau", 1.0, 10, 100);
    CHECK_FALSE(plateau.evaluated(50));
    for (int i = 0; i < 2; ++i) CHECK_FALSE(plateau.evaluated(50));
    Schedule resumed("plateau", 1.0, 10, 100);
    resumed.restore(plateau.state());
    CHECK(resumed.evaluated(51));
    CHECK(resumed.rate(7) == doctest::Approx(0.1));
    CHECK_THROWS_AS(resumed.restore("x"), Error);
}
