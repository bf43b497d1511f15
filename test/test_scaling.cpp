// The model of a step on K workers: the simulation's rules, bytes against the formula, Table 1 of
// the paper.
#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "host/cuda/check.h"
#include "host/model/step_model.h"
#include "test/program.h"

using namespace wt;
using namespace wt::model;

namespace {

// As bin/compare writes it: a problem with one timed variant.
nlohmann::json timed(const std::string& name, double ms, std::vector<std::string> parts = {},
                     bool fuses = false) {
    nlohmann::json p{
        {"name", name}, {"automatic", "ours"}, {"variants", {{{"variant", "ours"}, {"ms", ms}}}}};
    if (!parts.empty()) p["parts"] = parts, p["automatic_fuses"] = fuses;
    return p;
}

// Every pass of `mini`, a millisecond each.
nlohmann::json mini_times() {
    nlohmann::json j{{"net", "mini"},
                     {"batch", 8},
                     {"device", "a device"},
                     {"precision", "fp32"},
                     {"matrix_ceiling", {{"tflop_per_s", 0.1}}},
                     {"copy_ceiling", {{"gb_per_s", 8}}},
                     {"problems", nlohmann::json::array()}};
    for (const Layer& l : make_net("mini", {}).layers) {
        std::vector<std::string> passes;
        switch (l.kind) {
            case LayerKind::conv:
                passes = {".fprop", ".wgrad", l.name == "conv1" ? "" : ".dgrad"};
                break;
            case LayerKind::fc: {
                const std::string hidden = l.name == "fc8" ? "" : ".act_backward",
                                  dropped = l.name == "fc8" ? "" : ".drop_backward";
                passes = {".fprop", ".dgrad", ".wgrad", ".update", hidden, dropped};
                break;
            }
            case LayerKind::dropout: passes = {".forward"}; break;
            case LayerKind::activation:
                if (l.name < "relu6") passes = {".forward", ".backward"};
                break;
            default: passes = {".forward", ".backward"};
        }
        for (const std::string& pass : passes)
            if (!pass.empty()) j["problems"].push_back(timed(l.name + pass, 1));
    }
    for (const char* name : {"input.augment", "loss.softmax", "update.sgd"})
        j["problems"].push_back(timed(name, 1));
    return j;
}

MeasuredTimes times_of(const nlohmann::json& j) {
    const test::TempDir s;
    std::ofstream(s / "times.json") << j.dump();
    return read_times(s / "times.json");
}

}  // namespace

TEST_CASE("scaling: tasks wait for what they need and have resources to themselves") {
    Simulation s;
    const auto gpu = s.resource("gpu"), link = s.resource("link");
    const auto a = s.add("a", {gpu}, 2, {});
    const auto b = s.add("b", {link}, 3, {a}, 0.5);  // under way while c computes
    const auto c = s.add("c", {gpu}, 1, {a});
    // free gpu at 0 goes to a, which was added first
    const auto d = s.add("d", {gpu, link}, 1, {});
    const auto e = s.add("e", {gpu}, 1, {b, c});
    CHECK(s.run() == doctest::Approx(7));
    const auto& t = s.tasks();
    CHECK(t[b].start == doctest::Approx(2));
    CHECK(t[b].end == doctest::Approx(5.5));
    CHECK(t[c].start == doctest::Approx(2));
    CHECK(t[d].start == doctest::Approx(5));  // the link is free before b's latency is over
    CHECK(t[e].start == doctest::Approx(6));
    CHECK(s.busy(gpu) == doctest::Approx(5));
}

TEST_CASE("scaling: bytes out of a worker are those of the formula") {
    const NetSpec net = make_net("alexnet", {});
    Machine m = machine_of("h200");
    for (const int K : {2, 3, 4, 8})
        for (const int b : {128, 256})
            for (const FcScheme scheme : {FcScheme::a, FcScheme::b, FcScheme::c}) {
                INFO(name_of(scheme) << ", " << K << " workers of " << b);
                const Outcome o = simulate(net, m, {}, {K, b, scheme});
                // pool5, fc6, fc7 gathered and their gradients summed, fc8's logits gathered; the
                // convolutions' gradients.
                const double each = (9216 + 4096 + 4096) * 2 + 1000;
                CHECK(o.activations == doctest::Approx((K - 1.0) * b * each * m.bytes));
                CHECK(o.gradients == doctest::Approx(2 * (K - 1.0) / K * 3747200 * 4));
                // Split alternately fc6 is not gathered, nor its gradient summed, and everybody's
                // share of all logits goes to all.
                const Outcome split = simulate(net, m, {}, {K, b, scheme, false, true});
                CHECK(split.activations ==
                      doctest::Approx((K - 1.0) * b * ((9216 + 4096) * 2 + 1000 * K) * m.bytes));
                CHECK(split.gradients == o.gradients);
            }
    const Outcome o = simulate(net, m, {}, {4, 128, FcScheme::dp});
    CHECK(o.activations == 0);
    CHECK(o.gradients == doctest::Approx(2 * 3.0 / 4 * 62378344.0 * 4));
}

TEST_CASE("scaling: Table 1 of the paper within 8 percent") {
    const NetSpec net = make_net("owt", {});
    const Machine k20 = machine_of("k20");
    const double one = simulate(net, k20, {}, {1, 128, FcScheme::b}).seconds;
    CHECK(1281167.0 * 90 / 128 * one / 3600 == doctest::Approx(98.05).epsilon(0.01));  // fitted
    struct {
        int workers;
        bool per_microbatch;
        double speedup;
    } const table[] = {{2, false, 1.95}, {2, true, 1.93},  {4, false, 3.74},
                       {4, true, 3.66},  {8, false, 6.25}, {8, true, 6.16}};
    for (const auto& t : table) {
        const double s =
            one * t.workers /
            simulate(net, k20, {}, {t.workers, 128, FcScheme::b, t.per_microbatch}).seconds;
        CHECK_MESSAGE(s == doctest::Approx(t.speedup).epsilon(0.08),
                      t.workers << " workers: " << s << " times, " << t.speedup << " in the paper");
    }
}

TEST_CASE("scaling: without links' cost every scheme is as fast as its kernels") {
    const NetSpec net = make_net("mini", {});
    Machine m = machine_of("h200");
    m.link = m.network = 1e30, m.latency = 0;
    for (const FcScheme scheme : {FcScheme::a, FcScheme::b, FcScheme::c, FcScheme::dp}) {
        const Outcome o = simulate(net, m, {}, {4, 128, scheme});
        CHECK(o.exposed() == doctest::Approx(0).epsilon(1e-9));
        CHECK(o.seconds == doctest::Approx(o.compute));
        if (scheme == FcScheme::dp) continue;
        const Outcome split = simulate(net, m, {}, {4, 128, scheme, false, true});
        CHECK(split.exposed() == doctest::Approx(0).epsilon(1e-9));
    }
    CHECK_THROWS(simulate(net, m, {}, {2000, 128, FcScheme::a}));
}

TEST_CASE(
    "scaling: a step of one worker is the sum of the passes that were measured, each where it runs") {
    const NetSpec net = make_net("mini", {});
    nlohmann::json j = mini_times();
    const auto ms = [&] {
        const MeasuredTimes t = times_of(j);
        return simulate(net, virtual_machine(t), t, {1, 8, FcScheme::a}).seconds * 1e3;
    };
    // augment; 5 convolutions forward, 5 + 4 backward; 5 ReLUs backward; 2 norms and 3 pools both
    // ways; 3 fc layers with 3 products; 2 dropouts both ways and the ReLUs' gradients; softmax;
    // the update. The fc layers' own updates are in that.
    CHECK(ms() == doctest::Approx(1 + 5 + 9 + 5 + 2 * 5 + 9 + 2 * 2 + 2 + 1 + 1));
    // Twice the batch: twice all but the products' weights and the update. Here everything is bound
    // by FLOPs or images.
    {
        MeasuredTimes t = times_of(j);
        t.seconds["update.sgd"] = 0;
        Machine m = virtual_machine(t);
        m.flops = 1;  // nothing is as slow as the products
        CHECK(simulate(net, m, t, {1, 16, FcScheme::a}).seconds * 1e3 == doctest::Approx(2 * 46));
    }
    // Fused ones take the place of their parts, where training fuses them.
    j["problems"].push_back(
        timed("conv4.dgrad+drelu", 1.5, {"conv4.dgrad", "relu3.backward"}, true));
    CHECK(ms() == doctest::Approx(46.5));
    j["problems"].push_back(
        timed("conv5.dgrad+drelu", 9, {"conv5.dgrad", "relu4.backward"}, false));
    CHECK(ms() == doctest::Approx(46.5));
    j["problems"].push_back(
        timed("fc7.dgrad+drelu", 1, {"fc7.dgrad", "fc6.drop_backward", "fc6.act_backward"}, true));
    CHECK(ms() == doctest::Approx(44.5));
    j["problems"].push_back(
        timed("norm1.forward+pool1", 1.25, {"norm1.forward", "pool1.forward"}, true));
    CHECK(ms() == doctest::Approx(43.75));
    double updated = 0;
    for (const Layer& l : net.layers) {
        if (l.kind != LayerKind::fc) continue;
        updated += l.parameters();
        j["problems"].push_back(
            timed(l.name + ".wgrad+sgd", 1.125, {l.name + ".wgrad", l.name + ".update"}, true));
    }
    CHECK(ms() == doctest::Approx(43.75 + 3 * 0.125 - updated / net.parameters()));

    // The variant that training takes counts, not the fastest; where a file does not say which that
    // is, the fastest does.
    j = mini_times();
    j["problems"].push_back(
        {{"name", "trunk.gather"},
         {"automatic", "b"},
         {"variants",
          {{{"variant", "a"}, {"ms", 1}}, {{"variant", "b"}, {"ms", 3}}, {{"variant", "c"}}}}});
    CHECK(times_of(j).seconds.at("trunk.gather") == doctest::Approx(3e-3));
    j["problems"].back().erase("automatic");
    CHECK(times_of(j).seconds.at("trunk.gather") == doctest::Approx(1e-3));
    CHECK(simulate(net, virtual_machine(times_of(j)), times_of(j), {1, 8, FcScheme::a})
              .unmeasured.empty());
    for (auto& p : j["problems"])
        if (p["name"] == "conv3.dgrad") p["variants"] = nlohmann::json::array();
    CHECK(
        simulate(net, virtual_machine(times_of(j)), times_of(j), {1, 8, FcScheme::a}).unmeasured ==
        std::vector<std::string>{"conv3.dgrad"});
    j.erase("copy_ceiling");
    CHECK_THROWS_AS(virtual_machine(times_of(j)), Error);
}

TEST_CASE("scaling: on virtual GPUs sums keep the cores, and gathers hold up what needs them") {
    const NetSpec net = make_net("mini", {});
    const MeasuredTimes t = times_of(mini_times());
    const Machine m = virtual_machine(t);
    CHECK(m.link == doctest::Approx(4e9));
    const Outcome o = simulate(net, m, t, {2, 8, FcScheme::a});
    const Layer *fc6 = nullptr, *fc7 = nullptr, *fc8 = nullptr;
    double conv = 0, last = 0;
    for (const Layer& l : net.layers) {
        if (l.kind == LayerKind::conv) conv += l.parameters();
        if (l.name == "conv1") last = l.parameters();
        if (l.name == "fc6") fc6 = &l;
        if (l.name == "fc7") fc7 = &l;
        if (l.name == "fc8") fc8 = &l;
    }
    const double flat = 8.0 * fc6->x.count() * 4;  // bytes of a worker's rows
    const double sent = flat + 16.0 * (fc6->out + fc7->out + fc8->out) / 2 * 4;
    // Of a convolution each worker sums half; what it has updated is sent behind other kernels, but
    // for the last one's.
    const double summed = flat + 16.0 * (fc7->x.count() + fc8->x.count()) / 2 * 4 + conv / 2 * 4;
    CHECK(o.exposed() == doctest::Approx((sent + last / 2 * 4) / m.link + 3 * summed / m.memory));
}

TEST_CASE("scaling: the program says how far off the model is") {
    const test::TempDir s;
    std::ofstream(s / "times.json") << mini_times().dump();
    const std::string scaling =
        test::program("scaling") + " --net mini --batch 8 --machine virtual ";
    const test::Result r =
        test::run(s, scaling + "--times times.json --workers 1 --scheme a --measured 0.04");
    CHECK(r.status == 0);
    CHECK(
        r.out.find(
            "1 workers, scheme a: predicted 47.000 ms (0.000 not hidden), measured 40.000 ms, off by +17.5%") !=
        std::string::npos);
    test::check_one_line(test::run(s, scaling), 2, "--machine virtual is what --times measured");
    test::check_one_line(
        test::run(s, scaling + "--times times.json --measured 0.1 --workers 1,2 --scheme a"), 2,
        "give one number of --workers");
    test::check_one_line(
        test::run(s, test::program("scaling") + " --net alexnet --times times.json"), 2,
        "times.json is of net mini, not of alexnet");
}

TEST_CASE("scaling: what is given and cannot be used is refused in one line") {
    const test::TempDir s;
    const auto answers = [&](const std::string& flags, int status, const char* part) {
        INFO(flags);
        test::check_one_line(test::run(s, test::program("scaling") + " " + flags), status, part);
    };
    std::filesystem::create_directory(s / "folder");
    std::ofstream(s / "empty.json") << "{}";
    std::ofstream(s / "torn.json") << "{\"net\": \"mi";
    nlohmann::json j = mini_times();
    j["net"] = nullptr, j["batch"] = nullptr;
    std::ofstream(s / "problem.json") << j.dump();
    j = mini_times();
    j["complete"] = false;
    std::ofstream(s / "part.json") << j.dump();
    j = mini_times();
    j["problems"][0]["name"] = 7;
    std::ofstream(s / "wrong.json") << j.dump();
    answers("--times folder", 1, "cannot read folder: not a regular file (a folder)");
    answers("--times empty.json", 1,
            "empty.json is no result of bin/compare --json: it has no problems and batch");
    answers("--times torn.json", 1, "torn.json is no result of bin/compare --json: ");
    answers("--times problem.json", 1,
            "problem.json is of a single problem: run bin/compare --net NET");
    answers("--net mini --times part.json", 1, "part.json is of a bin/compare that was stopped");
    answers("--net mini --times wrong.json", 1,
            "wrong.json is no result of bin/compare --json: type must be string");
    answers("--scheme a", 2, "it needs --measured");
    for (const char* flag :
         {"--net owt", "--workers 1", "--machine h200", "--batch 128", "--link 3", "--json x"})
        answers(std::string("--paper ") + flag, 2, "--paper is of the paper's own network");
    answers("--workers ''", 2, "--workers: must not be empty");
    answers("--workers 1,2,", 2, "must be numbers from 1 to 4096");
    answers("--times ''", 2, "--times: must not be empty");
    answers("--svg -", 2, "--svg -: must be a file");
    answers("--svg none/x.svg", 1, "cannot write none/x.svg: No such file or directory");
    answers("--workers 2 --scheme a --measured 1 --json x", 2, "--measured prints one line");
    CHECK(test::run(s, test::program("scaling") + " --paper").status == 0);
}
