// Networks: shapes, exact counts, shards, file order, first values.
#include <doctest/doctest.h>

#include <cmath>

#include "host/net/kernel_settings.h"
#include "host/net/params.h"
#include "host/net/spec.h"
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
    CHECK_THROWS_WITH_AS(make_net("alexnett", {}), doctest::Contains("nearest is alexnet"), UsageError);
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
    CHECK(initial_values(net, params_of(net)[3], {0, 128}, Init::paper, 1)[0] == 1.f);  // conv2's biases
    CHECK(initial_values(net, params_of(net)[3], {0, 128}, Init::he, 1)[0] == 0.f);
}

TEST_CASE("net: the last variant that fits and is allowed is chosen; on virtual GPUs not one that is slow there") {
    struct Problem {
        bool fits_plain_loops = true, fits_matrix_units = true;
    };
    struct Args {};
    using V = Variant<Problem, Args>;
    const auto loops = [](const Problem& p) { return std::string(p.fits_plain_loops ? "" : "no"); };
    const auto units = [](const Problem& p) { return std::string(p.fits_matrix_units ? "" : "no"); };
    const V all[] = {{"naive", fits_all<Problem>, nullptr, nullptr},
                     {"tiled", loops, nullptr, nullptr},
                     {.name = "mma", .refuses = units, .workspace = nullptr, .launch = nullptr, .cpu_slow = true},
                     {.name = "wgmma", .refuses = units, .workspace = nullptr, .launch = nullptr, .sm = 90},
                     {.name = "vendor", .refuses = loops, .workspace = nullptr, .launch = nullptr, .baseline = true}};
    const Table<Problem, Args> table = all;
    const auto own = [&](Problem p, int sm) { return std::string(choose(table, p, KernelChoice::own, sm).name); };
    CHECK(own({}, 90) == "wgmma");
    CHECK(own({}, 80) == "mma");
    CHECK(own({true, false}, 90) == "tiled");
    CHECK(own({}, 0) == "tiled");
    CHECK(own({false, true}, 0) == "wgmma");
    CHECK(own({false, false}, 0) == "naive");
    for (int sm : {0, 80, 90}) CHECK(choose(table, Problem{}, KernelChoice::baseline, sm).name == std::string("vendor"));
    CHECK(choose(table, Problem{}, KernelChoice::automatic, 0).name == std::string(kAutomaticUsesBaselines ? "vendor" : "tiled"));
}

TEST_CASE("net: kernel settings are parsed, and refused in words") {
    const KernelSettings s = KernelSettings::parse("own,conv2.wgrad=tiled");
    CHECK(s.choice == KernelChoice::own);
    CHECK(s.by_pass.at("conv2.wgrad") == "tiled");
    CHECK_THROWS_AS(KernelSettings::parse("fast"), UsageError);
    CHECK_THROWS_AS(KernelSettings::parse("conv2=tiled"), UsageError);
}

TEST_CASE("schedule: policies") {
    CHECK_THROWS_AS(Schedule("cosine", 1, 1, 1), UsageError);
    CHECK_THROWS_AS(Schedule("step:", 1, 1, 1), UsageError);
    CHECK_THROWS_AS(Schedule("step:5,3", 1, 1, 1), UsageError);
    CHECK(Schedule("constant", 0.5, 10, 100).rate(99) == 0.5);
    CHECK(Schedule("linear", 1.0, 10, 100).rate(25) == doctest::Approx(0.75));
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
