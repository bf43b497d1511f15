// Winograd's matrices (kernels/conv/winograd.h): that they convolve, that errors grow as they say,
// and the parts in which the kernels do their tiles.
#include <doctest/doctest.h>

#include <optional>
#include <random>

#include "host/cuda/stream.h"
#include "kernels/conv/problem.h"
#include "kernels/conv/winograd_apply.h"
#include "kernels/conv/winograd_plan.h"
#include "test/operands.h"

using namespace wt;
using namespace wt::test;

namespace {

// m results of a filter of r taps, by the transforms; of floats or doubles.
template <int M, int R, class T>
void convolve(const T (&x)[M + R - 1], const T (&w)[R], T (&y)[M]) {
    using F = winograd::Winograd<M, R>;
    T tile[F::kTile], filter[F::kTile];
    winograd::transform<typename F::BT>(x, tile);
    winograd::transform<typename F::G>(w, filter);
    for (int i = 0; i < F::kTile; ++i) tile[i] *= filter[i];
    winograd::transform_back<typename F::AT>(tile, y);
}

// Calls f.operator()<m, r>() for all tiles and filters that there are points for.
template <class F>
void for_each_size(F&& f) {
    f.template operator()<2, 3>();
    f.template operator()<3, 2>();
    f.template operator()<4, 3>();
    f.template operator()<3, 4>();
    f.template operator()<2, 5>();
    f.template operator()<5, 2>();
    f.template operator()<4, 5>();
    f.template operator()<5, 4>();
    f.template operator()<6, 3>();
    f.template operator()<3, 6>();
    f.template operator()<6, 5>();
    f.template operator()<5, 6>();
    f.template operator()<8, 3>();
    f.template operator()<3, 8>();
}

}  // namespace

TEST_CASE("winograd: the transforms convolve integers exactly in fp64") {
    for (uint32_t seed = 0; seed < 20; ++seed) {
        std::mt19937 random(seed);
        for_each_size([&]<int M, int R>() {
            INFO("F(" << M << ", " << R << ")");
            double x[M + R - 1], w[R], y[M];
            for (double& v : x) v = static_cast<int>(random() % 201) - 100;
            for (double& v : w) v = static_cast<int>(random() % 201) - 100;
            convolve<M, R>(x, w, y);
            for (int i = 0; i < M; ++i) {
                double sum = 0;
                for (int k = 0; k < R; ++k) sum += x[i + k] * w[k];
                // 1/N of a point is no binary fraction: some 1e-12 off; another integer is 1 off.
                CHECK(std::abs(y[i] - sum) < 1e-8);
                CHECK(std::round(y[i]) == sum);
            }
        });
    }
}

TEST_CASE("winograd: errors grow as computed from the matrices") {
    // Products each off by an independent error of 1e-3 of themselves, in fp64: the results are off
    // by `growth` times what a direct sum of such products is, in norm. In one dimension, whose
    // growth is the root.
    std::mt19937 random(7);
    std::normal_distribution<double> normal;
    for_each_size([&]<int M, int R>() {
        INFO("F(" << M << ", " << R << ")");
        using F = winograd::Winograd<M, R>;
        constexpr double kOff = 1e-3;
        double winograd_error = 0, direct_error = 0, worst = 0;
        for (int trial = 0; trial < 40000; ++trial) {
            double x[F::kTile], w[R], tile[F::kTile], filter[F::kTile], error[F::kTile], y[M];
            for (double& v : x) v = normal(random);
            for (double& v : w) v = normal(random);
            winograd::transform<typename F::BT>(x, tile);
            winograd::transform<typename F::G>(w, filter);
            for (int i = 0; i < F::kTile; ++i)
                error[i] = tile[i] * filter[i] * kOff * normal(random);
            winograd::transform_back<typename F::AT>(error, y);
            for (double v : y) winograd_error += v * v;
            for (int i = 0; i < M; ++i)
                for (int k = 0; k < R; ++k) {
                    const double e = x[i + k] * w[k] * kOff * normal(random);
                    direct_error += e * e;
                }
            // The worst case: errors of the size of the products, all in one direction.
            double most_x = 0, most_w = 0;
            for (double v : x) most_x = std::max(most_x, std::abs(v));
            for (double v : w) most_w = std::max(most_w, std::abs(v));
            for (double v : y) worst = std::max(worst, std::abs(v) / (R * most_x * most_w));
        }
        const double grown = winograd_error / direct_error;
        CHECK(grown == doctest::Approx(winograd::growth<M, R>()).epsilon(0.1));
        CHECK(worst / (5 * kOff) < std::sqrt(winograd::worst_growth<M, R>()));
    });
    // What the choice of tiles and points rests on.
    CHECK(winograd::growth<4, 3>() < 5);
    CHECK(winograd::growth<4, 5>() < 20);
    CHECK(winograd::growth<3, 4>() == doctest::Approx(winograd::growth<4, 3>()));
    CHECK(winograd::growth<5, 4>() == doctest::Approx(winograd::growth<4, 5>()));
}

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("winograd: tiles in several parts") {
    struct PartBytes {
        int64_t before = conv_winograd::part_bytes;
        PartBytes() { conv_winograd::part_bytes = 1; }  // parts of 128 tiles, the least there are
        ~PartBytes() { conv_winograd::part_bytes = before; }
    };
    for (const int r : {3, 5}) {
        // 3 parts of 360 tiles (5x5: of 320), the last of them shorter, of several images each;
        // more padding above and below than a 3x3 filter reaches
        const ConvProblem p{.n = 5,
                            .h = 30,
                            .w = 31,
                            .c = 8,
                            .k = 24,
                            .r = r,
                            .s = r,
                            .pad_h = 3,
                            .pad_w = 1,
                            .groups = 2};
        INFO("r=" << r);
        const double growth =
            r == 3 ? winograd::corner_growth<4, 3>() : winograd::corner_growth<4, 5>();
        Operand<float> x(p.x_count(), 1), w(p.w_count(), 2), dy(p.y_count(), 3), bias(p.k, 4);
        const auto y_want = reference::conv_fprop(p, x.exact, w.exact, bias.exact),
                   dx_want = reference::conv_dgrad(p, dy.exact, w.exact),
                   dw_want = reference::conv_wgrad(p, x.exact, dy.exact),
                   db_want = reference::conv_bias_grad(p, dy.exact);
        const auto& fprop = *find(conv_fprop_variants(), "winograd");
        const auto& dgrad = *find(conv_dgrad_variants(), "winograd");
        const auto& wgrad = *find(conv_wgrad_variants(), "winograd");
        DeviceBuffer<float> y(0, p.y_count(), "y"), dx(0, p.x_count(), "dx"),
            dw(0, p.w_count(), "dw"), db(0, p.k, "db");
        Stream stream(0);
        std::vector<float> whole_y, whole_dx;
        for (const bool in_parts : {false, true}) {
            std::optional<PartBytes> small;
            if (in_parts) small.emplace();
            CHECK(conv_winograd::fprop_plan(p).parts() == (in_parts ? 3 : 1));
            const size_t bytes = std::max(
                {fprop.workspace_bytes(p), dgrad.workspace_bytes(p), wgrad.workspace_bytes(p)});
            DeviceBuffer<std::byte> workspace(0, bytes, "workspace");
            poison(workspace);
            fprop.launch(
                p, {x.data(), w.data(), bias.data(), y.data(), workspace.data(), stream.get()});
            stream.synchronize();
            poison(workspace);
            dgrad.launch(p, {dy.data(), w.data(), dx.data(), workspace.data(), stream.get()});
            stream.synchronize();
            poison(workspace);
            wgrad.launch(
                p, {x.data(), dy.data(), dw.data(), db.data(), workspace.data(), stream.get()});
            stream.synchronize();
            const double taps = r * r, pixels = double(p.n) * p.p() * p.q();
            const auto good = [&](const Closeness& c) { CHECK_MESSAGE(c.ok(), c.text()); };
            good(close_sums(y.download(), y_want, taps * p.cg() + 1, false, growth));
            good(close_sums(dx.download(), dx_want, taps * p.kg(), false, growth));
            good(close_sums(dw.download(), dw_want, pixels, false, growth));
            good(close_sums(db.download(), db_want, pixels));
            // A tile's results do not depend on the part that it is in.
            if (!in_parts) {
                whole_y = y.download(), whole_dx = dx.download();
            } else {
                CHECK(y.download() == whole_y);
                CHECK(dx.download() == whole_dx);
            }
        }
    }
}

TEST_SUITE_END();
