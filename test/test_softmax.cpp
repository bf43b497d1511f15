#include "kernels/softmax/problem.h"
#include "test/close.h"
#include "test/device_data.h"
#include "test/reference/softmax.h"

using namespace wt;
using namespace wt::test;

namespace {

struct Result {
    std::vector<double> dlogits;  // empty when not asked for
    SoftmaxStats stats;
};

Result run(const Softmax& v, const SoftmaxProblem& p, const std::vector<double>& logits,
           const std::vector<int>& labels, bool gradient = true) {
    const Stream stream(0);
    const DeviceArray z(DType::f32, with_gaps(logits, p.rows, p.classes, p.ld_logits, 1e9));
    DeviceBuffer<int> label(0, p.rows);
    label.upload(labels);
    const DeviceArray dz(p.dtype, size_t(p.rows) * p.ld_dlogits);
    DeviceBuffer<SoftmaxStats> stats(0, 1);
    stats.upload(std::vector<SoftmaxStats>{{-1, -1, -1, -1}});
    DeviceBuffer<char> workspace(0, v.workspace_bytes(p));
    v.launch(p, {static_cast<const float*>(z.data()), label.data(), gradient ? dz.data() : nullptr,
                 stats.data(), workspace.data(), stream.get()});
    stream.synchronize();
    Result r;
    if (gradient) r.dlogits = dz.read_rows(p.rows, p.classes, p.ld_dlogits);
    r.stats = stats.download()[0];
    return r;
}

void check(const SoftmaxProblem& p, const std::vector<double>& logits,
           const std::vector<int>& labels) {
    INFO(p.rows, " rows, ", p.classes, " classes");
    const auto want = reference::softmax(p, logits, labels);
    each_variant("softmax", softmax_variants(), p, [&](const Softmax& v) {
        const Result got = run(v, p, logits, labels);
        CHECK(got.stats.rows == want.stats.rows);
        CHECK(got.stats.top1 == want.stats.top1);
        CHECK(got.stats.top5 == want.stats.top5);
        // The sum of n exponentials by lanes: about sqrt(n) roundings, under 1e-6 for these n; each
        // loss is the difference of two fp32 numbers, rounded at their size.
        CHECK(std::abs(got.stats.loss_sum - want.stats.loss_sum) <=
              2e-6 * (p.rows + want.loss_magnitude));
        // exp of a difference d carries |d| * 2^-24 of relative error where the result is not
        // negligible (|d| < 20).
        const Closeness c =
            close<double>(got.dlogits, want.dlogits,
                          4e-6 + (p.dtype == DType::bf16 ? 1.0 / 256 : 0), 1e-6 * p.scale);
        CHECK_MESSAGE(c.ok(), c.text());
        // Without a gradient the rest is the same, bit for bit.
        const Result evaluation = run(v, p, logits, labels, false);
        CHECK(evaluation.stats.loss_sum == got.stats.loss_sum);
        CHECK(evaluation.stats.top1 == got.stats.top1);
        CHECK(evaluation.stats.top5 == got.stats.top5);
    });
}

SoftmaxProblem problem(int rows, int classes, DType t = DType::f32, int more_z = 0,
                       int more_dz = 0) {
    SoftmaxProblem p;
    p.rows = rows, p.classes = classes, p.ld_logits = classes + more_z,
    p.ld_dlogits = classes + more_dz, p.dtype = t;
    p.scale = 1.f / 256;
    return p;
}

std::vector<int> random_labels(int rows, int classes) {
    std::vector<int> labels;
    for (double v : random_values(rows, 33, 0, classes))
        labels.push_back(std::min(classes - 1, static_cast<int>(v)));
    return labels;
}

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("softmax: every variant against fp64") {
    for (DType t : {DType::f32, DType::bf16}) {
        const int shapes[][2] = {{128, 10}, {20, 1000}, {3, 1},    {5, 3},
                                 {9, 16},   {7, 131},   {300, 33}, {2, 7001}};
        for (const auto& s : shapes) {
            const auto p = problem(s[0], s[1], t, s[1] % 5, s[1] % 3);
            auto z = random_values(size_t(s[0]) * s[1], 31, -6, 6);
            check(p, rounded(z, DType::f32), random_labels(s[0], s[1]));
        }
        // Rows without gaps, of whole vectors and whole warps or not: one piece, a little more,
        // three.
        for (int classes : {64, 1024, 1028, 3072})
            check(problem(5, classes, t),
                  rounded(random_values(size_t(5) * classes, 32, -6, 6), DType::f32),
                  random_labels(5, classes));
    }
}

TEST_CASE("softmax: smoothed labels against fp64") {
    for (DType t : {DType::f32, DType::bf16})
        for (const float smoothing : {0.1f, 0.5f, 0.99f})
            for (const auto& [rows, classes] : {std::pair(40, 10), std::pair(5, 1), std::pair(7, 2),
                                                std::pair(9, 1000), std::pair(3, 2500)}) {
                auto p = problem(rows, classes, t, classes % 5, classes % 3);
                p.smoothing = smoothing;
                INFO("smoothing ", smoothing);
                auto labels = random_labels(rows, classes);
                if (rows > 5) labels[4] = -1;
                check(p, rounded(random_values(size_t(rows) * classes, 38, -6, 6), DType::f32),
                      labels);
            }
}

// Of two classes, by hand: logits (ln 3, 0), so 3/4 and 1/4; label 0 smoothed by 0.2 is (0.9, 0.1).
TEST_CASE("softmax: the loss of smoothed labels is what the definition says") {
    auto p = problem(1, 2);
    p.smoothing = 0.2f, p.scale = 1;
    each_variant("softmax", softmax_variants(), p, [&](const Softmax& v) {
        const Result r = run(v, p, {std::log(3.0), 0}, {0});
        CHECK(r.stats.loss_sum ==
              doctest::Approx(-0.9 * std::log(0.75) - 0.1 * std::log(0.25)).epsilon(1e-6));
        CHECK(r.dlogits[0] == doctest::Approx(0.75 - 0.9).epsilon(1e-5));
        CHECK(r.dlogits[1] == doctest::Approx(0.25 - 0.1).epsilon(1e-5));
        CHECK(r.stats.top1 == 1);
        const SoftmaxStats bad = run(v, p, {1, 2}, {2}).stats;  // no class
        CHECK(std::isnan(bad.loss_sum));
    });
}

TEST_CASE("softmax: extreme logits") {
    for (const float smoothing : {0.f, 0.1f}) {
        const int classes = 50;
        auto p = problem(4, classes);
        p.smoothing = smoothing;
        std::vector<double> z(4 * classes);
        for (int j = 0; j < classes; ++j) {
            z[j] = j == 7 ? 1e4 : -1e4;            // certain and right
            z[classes + j] = j == 8 ? 1e4 : -1e4;  // certain and wrong: loss 2e4
            z[2 * classes + j] = -1e4;             // all equal
            z[3 * classes + j] = 1e4 + (j % 2 ? 1 : 0);
        }
        check(p, z, {7, 7, 3, 1});
    }
}

TEST_CASE("softmax: a running maximum that rises late, and from -inf") {
    const int classes = 4000;
    const auto p = problem(3, classes);
    auto z = rounded(random_values(3 * classes, 34, -3, 3), DType::f32);
    for (int j = 0; j < classes; ++j) {
        z[j] = static_cast<float>(j * 0.01);  // rises by 40: what came first is e^-40 of the sum
        if (j < 2500) z[classes + j] = -INFINITY;
        if (j != 3999) z[2 * classes + j] = -INFINITY;  // certain
    }
    check(p, z, {3000, 2501, 3999});
}

TEST_CASE("softmax: of equal logits the lower class ranks first") {
    const int classes = 40;
    const auto p = problem(8, classes);
    const std::vector<double> z(8 * classes, 0.25);
    each_variant("softmax", softmax_variants(), p, [&](const Softmax& v) {
        const Result r = run(v, p, z, {0, 1, 4, 5, 6, 39, 3, 2});
        CHECK(r.stats.rows == 8);
        CHECK(r.stats.top1 == 1);  // class 0
        CHECK(r.stats.top5 == 5);  // 0, 1, 4, 3, 2
    });
    check(p, z, {0, 1, 4, 5, 6, 39, 3, 2});
}

TEST_CASE("softmax: a row with label -1 counts nowhere and has gradient 0") {
    for (int classes : {10, 200}) {
        const auto p = problem(6, classes, DType::bf16, 2, 6);
        auto z = rounded(random_values(6 * classes, 35, -3, 3), DType::f32);
        check(p, z, {3, -1, 9, -1, -1, 0});
        for (int j = 0; j < classes; ++j) z[classes + j] = NAN;  // not even with NaNs in it
        each_variant("softmax", softmax_variants(), p, [&](const Softmax& v) {
            const Result r = run(v, p, z, {3, -1, 9, -1, -1, 0});
            CHECK(r.stats.rows == 3);
            CHECK(std::isfinite(r.stats.loss_sum));
            for (int j = 0; j < classes; ++j) CHECK(r.dlogits[classes + j] == 0);
        });
        check(p, z, std::vector<int>(6, -1));
    }
}

TEST_CASE("softmax: numbers of rows that are no whole number of warps") {
    for (int rows : {1, 2, 31, 32, 33, 64, 255, 256, 257, 289}) {
        auto labels = random_labels(rows, 4);
        labels[rows / 2] = -1;
        check(problem(rows, 4), rounded(random_values(size_t(rows) * 4, 35, -6, 6), DType::f32),
              labels);
    }
}

TEST_CASE("softmax: a NaN, or a label that is no class, makes the loss NaN and the row wrong") {
    for (int classes : {3, 10, 300})
        for (int where : {0, 1, classes - 1}) {
            INFO(classes, " classes, NaN in ", where);
            const auto p = problem(2, classes);
            auto z = rounded(random_values(2 * classes, 36, -3, 3), DType::f32);
            z[1] = 10;  // class 1 is the first row's clear winner
            const auto sound = z;
            z[where] = NAN;
            each_variant("softmax", softmax_variants(), p, [&](const Softmax& v) {
                const SoftmaxStats both = run(v, p, z, {1, -1}).stats;
                CHECK(std::isnan(both.loss_sum));
                CHECK(both.rows == 1);
                CHECK(both.top1 == 0);
                CHECK(both.top5 == 0);
                for (int label : {classes, -2, 1 << 30}) {
                    const SoftmaxStats bad = run(v, p, sound, {label, -1}).stats;
                    CHECK(std::isnan(bad.loss_sum));
                    CHECK(bad.rows == 1);
                    CHECK(bad.top5 == 0);
                }
            });
        }
}

TEST_CASE("softmax: the loss of a repeated run is bit-equal") {
    const auto p = problem(200, 100);
    const auto z = rounded(random_values(200 * 100, 37, -5, 5), DType::f32);
    each_variant("softmax", softmax_variants(), p, [&](const Softmax& v) {
        const Result a = run(v, p, z, random_labels(200, 100)),
                     b = run(v, p, z, random_labels(200, 100));
        CHECK(a.stats.loss_sum == b.stats.loss_sum);
        CHECK(a.dlogits == b.dlogits);
    });
}

TEST_SUITE_END();
