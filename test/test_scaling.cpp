// The model of a step on K workers: the simulation's rules, bytes against the formula, Table 1 of the paper.
#include <doctest/doctest.h>

#include "host/model/step_model.h"

using namespace wt;
using namespace wt::model;

TEST_CASE("scaling: tasks wait for what they need and have resources to themselves") {
    Simulation s;
    const auto gpu = s.resource("gpu"), link = s.resource("link");
    const auto a = s.add("a", {gpu}, 2, {});
    const auto b = s.add("b", {link}, 3, {a}, 0.5);  // under way while c computes
    const auto c = s.add("c", {gpu}, 1, {a});
    const auto d = s.add("d", {gpu, link}, 1, {});   // free gpu at 0 goes to a, which was added first
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
            for (const Scheme scheme : {Scheme::a, Scheme::b, Scheme::c}) {
                INFO(name_of(scheme) << ", " << K << " workers of " << b);
                const Outcome o = simulate(net, m, {}, {K, b, scheme});
                // pool5, fc6, fc7 gathered and their gradients summed, fc8's logits gathered; the convolutions' gradients.
                const double each = (9216 + 4096 + 4096) * 2 + 1000;
                CHECK(o.activations == doctest::Approx((K - 1.0) * b * each * m.bytes));
                CHECK(o.gradients == doctest::Approx(2 * (K - 1.0) / K * 3747200 * 4));
            }
    const Outcome o = simulate(net, m, {}, {4, 128, Scheme::dp});
    CHECK(o.activations == 0);
    CHECK(o.gradients == doctest::Approx(2 * 3.0 / 4 * 62378344.0 * 4));
}

TEST_CASE("scaling: Table 1 of the paper within 8 percent") {
    const NetSpec net = make_net("owt", {});
    const Machine k20 = machine_of("k20");
    const double one = simulate(net, k20, {}, {1, 128, Scheme::b}).seconds;
    CHECK(1281167.0 * 90 / 128 * one / 3600 == doctest::Approx(98.05).epsilon(0.01));  // fitted
    struct {
        int workers;
        bool per_pass;
        double speedup;
    } const table[] = {{2, false, 1.95}, {2, true, 1.93}, {4, false, 3.74}, {4, true, 3.66}, {8, false, 6.25}, {8, true, 6.16}};
    for (const auto& t : table) {
        const double s = one * t.workers / simulate(net, k20, {}, {t.workers, 128, Scheme::b, t.per_pass}).seconds;
        CHECK_MESSAGE(s == doctest::Approx(t.speedup).epsilon(0.08), t.workers << " workers: " << s << " times, " << t.speedup << " in the paper");
    }
}

TEST_CASE("scaling: without links' cost every scheme is as fast as its kernels") {
    const NetSpec net = make_net("mini", {});
    Machine m = machine_of("h200");
    m.link = m.network = 1e30, m.latency = 0;
    for (const Scheme scheme : {Scheme::a, Scheme::b, Scheme::c, Scheme::dp}) {
        const Outcome o = simulate(net, m, {}, {4, 128, scheme});
        CHECK(o.exposed() == doctest::Approx(0).epsilon(1e-9));
        CHECK(o.seconds == doctest::Approx(o.compute));
    }
    CHECK_THROWS(simulate(net, m, {}, {2000, 128, Scheme::a}));
}
