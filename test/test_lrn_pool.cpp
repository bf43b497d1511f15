#include "host/net/problem_text.h"
#include "kernels/lrn_pool/problem.h"
#include "test/close.h"
#include "test/device_data.h"
#include "test/reference/lrn_pool.h"

using namespace wt;
using namespace wt::test;

namespace {

std::vector<LrnPoolProblem> problems() {
    std::vector<LrnPoolProblem> all;
    auto add = [&](LrnPoolProblem p) {
        for (DType t : {DType::f32, DType::bf16})
            for (bool lrn : {true, false}) {
                p.dtype = t, p.lrn = lrn;
                all.push_back(p);
            }
    };
    // alpha so large that the window's term counts in every digit
    add({.n = 2, .h = 11, .w = 11, .c = 96, .alpha = 0.2f});  // 12 groups of 8 channels
    add({.n = 1, .h = 9, .w = 13, .c = 256});                 // 32
    add({.n = 1,
         .h = 7,
         .w = 10,
         .c = 64,
         .alpha = 2e-2f,
         .k = 1});  // the last column is in no window
    add({.n = 3, .h = 8, .w = 8, .c = 16, .window = 2, .alpha = 0.3f, .bias = false});
    add({.n = 1,
         .h = 9,
         .w = 7,
         .c = 48,
         .window = 2,
         .alpha = 0.1f,
         .relu = false});  // the last row and column are in none
    add({.n = 1,
         .h = 11,
         .w = 12,
         .c = 40,
         .alpha = 0.3f,
         .beta = 0.5f,
         .k = 1.5f,
         .relu = false,
         .bias = false});
    add({.n = 2,
         .h = 6,
         .w = 5,
         .c = 3,
         .pad = 1,
         .alpha = 0.3f});  // fewer channels than the window
    add({.n = 1, .h = 5, .w = 7, .c = 1, .window = 2, .pad = 1, .alpha = 0.3f});
    add({.n = 2,
         .h = 9,
         .w = 6,
         .c = 20,
         .stride = 1,
         .pad = 1,
         .alpha = 0.3f});  // no multiple of 8
    add({.n = 1, .h = 9, .w = 10, .c = 8, .window = 2, .stride = 3, .size = 3, .alpha = 0.3f});
    add({.n = 1, .h = 3, .w = 3, .c = 8, .size = 9, .alpha = 0.3f});  // one window
    if (!kSanitized) {
        add({.n = 1, .h = 23, .w = 25, .c = 24, .alpha = 0.3f});
        add({.n = 1, .h = 9, .w = 9, .c = 136, .alpha = 0.3f});  // 17 groups
        add({.n = 1, .h = 5, .w = 6, .c = 600, .alpha = 0.3f});  // more than a local array holds
        add({.n = 5, .h = 19, .w = 3, .c = 8, .alpha = 0.3f});
        add({.n = 1, .h = 12, .w = 55, .c = 96, .alpha = 1e-3f});
    }
    return all;
}

// A convolution's output. `kind` 0: all different, 1: small whole numbers, so many ties, 2: NaNs
// and infinities too. Behind a ReLU about half are 0.
std::vector<double> inputs(const LrnPoolProblem& p, int kind) {
    auto x = rounded(random_values(p.x_count(), 61 + kind, -3, 3), p.dtype);
    for (size_t i = 0; i < x.size(); ++i) {
        if (kind) x[i] = std::floor(x[i]);
        if (p.relu && x[i] < 0) x[i] = 0;
        if (kind == 2 && i % 97 == 3) x[i] = NAN;
        if (kind == 2 && i % 89 == 1) x[i] = p.relu ? INFINITY : -INFINITY;
    }
    return x;
}

struct Forward {
    std::vector<double> y;
    std::vector<uint8_t> argmax;
};

Forward run(const LrnPoolForward& v, const LrnPoolProblem& p, const DeviceArray& x, size_t offset) {
    const Stream stream(0);
    const DeviceArray y(p.dtype, p.y_count(), 0, offset);
    DeviceBuffer<uint8_t> argmax(0, p.y_count() + offset);
    argmax.upload(std::vector<uint8_t>(argmax.size(), 0xFF));
    DeviceBuffer<char> workspace(0, v.workspace_bytes(p));
    v.launch(p, {x.data(), y.data(), argmax.data() + offset, workspace.data(), stream.get()});
    stream.synchronize();
    const auto chosen = argmax.download();
    return {y.read(), {chosen.begin() + offset, chosen.end()}};
}

struct Backward {
    std::vector<double> dx, db;
};

Backward run(const LrnPoolBackward& v, const LrnPoolProblem& p, const DeviceArray& x,
             const DeviceArray& y, const DeviceArray& dy, const DeviceBuffer<uint8_t>& argmax,
             size_t offset) {
    const Stream stream(0);
    const DeviceArray dx(p.dtype, p.x_count(), 0, offset), db(DType::f32, p.c);
    DeviceBuffer<char> workspace(0, v.workspace_bytes(p));
    // What the problem does not need is not read.
    v.launch(p,
             {p.lrn ? x.data() : nullptr, !p.lrn && p.relu ? y.data() : nullptr, dy.data(),
              argmax.data() + offset, dx.data(), p.bias ? static_cast<float*>(db.data()) : nullptr,
              workspace.data(), stream.get()});
    stream.synchronize();
    return {dx.read(), db.read()};
}

bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("lrn_pool forward: every variant against lrn followed by pool") {
    for (LrnPoolProblem p : problems())
        for (int turn = 0; turn < 4; ++turn) {
            const int kind = turn % 3;
            const size_t offset = turn == 3;  // also off the vectors' alignment
            p.aligned = offset == 0;
            INFO(text_of(p), ", kind of input ", kind, ", offset ", offset);
            const auto x = inputs(p, kind);
            const auto normalized = reference::lrn_pool_normalized(p, x);
            const auto want = reference::lrn_pool_pooled(p, normalized);
            const DeviceArray xd(p.dtype, x, 0, offset);
            // As lrn's own test; a maximum adds no rounding. Rounded before the maximum, two values
            // may become one that differ by bf16's whole distance, 2^-7 of them.
            const double rtol = p.lrn ? 3e-6 + (p.dtype == DType::bf16 ? 1.0 / 256 : 0) : 0;
            each_variant(
                "lrn_pool forward", lrn_pool_forward_variants(), p, [&](const LrnPoolForward& v) {
                    const Forward got = run(v, p, xd, offset), again = run(v, p, xd, offset);
                    int64_t wrong = 0, wrong_place = 0, repeated = 0;
                    for (int64_t i = 0; i < p.y_count(); ++i) {
                        const double y = want.y[i], slack = rtol * std::abs(y) + 1e-30,
                                     place_slack = 2 * slack;
                        wrong += !same(got.y[i], y) && !(std::abs(got.y[i] - y) <= slack);
                        repeated += !same(got.y[i], again.y[i]) || got.argmax[i] != again.argmax[i];
                        if (got.argmax[i] == want.argmax[i]) continue;
                        // Closed or not is no matter of rounding: x s^-beta is 0 where x or s^-beta
                        // is.
                        if (p.closes() && (y <= 0 || got.argmax[i] == closed_place(p.window))) {
                            ++wrong_place;
                            continue;
                        }
                        // Another element may be chosen only if it differs from the largest, by no
                        // more than a rounding.
                        const int64_t c = i % p.c, q = i / p.c % p.q(),
                                      row = i / p.c / p.q() % p.p(), n = i / p.c / p.q() / p.p();
                        const int64_t h = row * p.stride - p.pad + got.argmax[i] / p.window;
                        const int64_t w = q * p.stride - p.pad + got.argmax[i] % p.window;
                        const bool inside = got.argmax[i] < p.window * p.window && h >= 0 &&
                                            w >= 0 && h < p.h && w < p.w;
                        const double there =
                            inside ? normalized[((n * p.h + h) * p.w + w) * p.c + c] : NAN;
                        wrong_place += !(std::abs(there - y) <= place_slack &&
                                         (there != y || p.dtype == DType::bf16));
                    }
                    CHECK(wrong == 0);
                    CHECK(wrong_place == 0);
                    CHECK(repeated == 0);
                });
        }
}

TEST_CASE(
    "lrn_pool forward: in how many windows the order of rounding and maximum matters at bf16") {
    // mini's first pooling
    LrnPoolProblem p{.n = 8, .h = 15, .w = 15, .c = 48, .dtype = DType::bf16};
    const auto x = inputs(p, 0);
    const auto apart =
        reference::lrn_pool_pooled(p, rounded(reference::lrn_pool_normalized(p, x), p.dtype));
    const DeviceArray xd(p.dtype, x);
    each_variant("lrn_pool forward", lrn_pool_forward_variants(), p, [&](const LrnPoolForward& v) {
        const Forward got = run(v, p, xd, 0);
        double other = 0, other_y = 0;
        for (int64_t i = 0; i < p.y_count(); ++i)
            other += got.argmax[i] != apart.argmax[i], other_y += got.y[i] != apart.y[i];
        // fp32's error (1e-6) may put a number on the other side of a rounding: of spacings of 2^-8
        // or more 1 in 2000.
        CHECK(other_y <= 5e-4 * p.y_count());
        // Of a window's nine inputs 4.5 are above 0, uniform to 3; lrn makes that 1.78 (2^-0.75),
        // with a spacing of 2^-7 near the top. So the second largest is within x of the largest
        // with probability 4.5 / 1.78 x, both round to one in half of the cases below 2^-7, and in
        // half of these the larger one comes second: 0.5% (seen: 92 of 18816). `fused` rounds
        // first.
        CHECK(other <= (v.name == std::string("fused") ? 5e-4 : 1e-2) * p.y_count());
    });
}

TEST_CASE("lrn_pool backward: every variant against pool, lrn, relu and bias backward") {
    for (LrnPoolProblem p : problems())
        for (int turn = 0; turn < 3; ++turn) {
            const int kind = turn % 2;
            const size_t offset = turn == 2;
            p.aligned = offset == 0;
            INFO(text_of(p), ", kind of input ", kind, ", offset ", offset);
            const auto x = inputs(p, kind);
            const auto forward = reference::lrn_pool_forward(p, x);
            const auto dy = rounded(random_values(p.y_count(), 71), p.dtype);
            const auto want = reference::lrn_pool_backward(p, x, dy, forward.argmax);
            const DeviceArray xd(p.dtype, x, 0, offset), yd(p.dtype, forward.y, 0, offset),
                dyd(p.dtype, dy, 0, offset);
            DeviceBuffer<uint8_t> argmax(0, p.y_count() + offset);
            std::vector<uint8_t> shifted(offset, 0);
            shifted.insert(shifted.end(), forward.argmax.begin(), forward.argmax.end());
            argmax.upload(shifted);
            // A pixel gets at most `terms` values of at most 1; then as lrn's own test, with |x| <=
            // 3.
            const int covers = (p.window + p.stride - 1) / p.stride, terms = covers * covers;
            const double rtol = 3e-6 + (p.dtype == DType::bf16 ? 1.0 / 256 : 0);
            const double atol =
                terms * 3e-6 * (p.lrn ? 1 + 2.0 * p.alpha * p.beta * 9 * p.size : 1);
            each_variant("lrn_pool backward", lrn_pool_backward_variants(), p,
                         [&](const LrnPoolBackward& v) {
                             const Backward got = run(v, p, xd, yd, dyd, argmax, offset);
                             const Closeness dx = close<double>(got.dx, want.dx, rtol, atol);
                             CHECK_MESSAGE(dx.ok(), "dx: ", dx.text());
                             // Sums of what may be wrong by the above.
                             int wrong = 0;
                             for (int c = 0; p.bias && c < p.c; ++c) {
                                 const double slack = (rtol + 1e-6) * want.db_magnitude[c] +
                                                      atol * (p.x_count() / p.c);
                                 wrong += !(std::abs(got.db[c] - want.db[c]) <= slack);
                             }
                             CHECK(wrong == 0);
                             const Backward again = run(v, p, xd, yd, dyd, argmax, offset);
                             CHECK(got.dx == again.dx);
                             if (p.bias) CHECK(got.db == again.db);
                         });
        }
}

TEST_CASE(
    "lrn_pool: a NaN of the gradient reaches dx and db, an element that the ReLU closed stays 0") {
    LrnPoolProblem p{.n = 1, .h = 7, .w = 7, .c = 16, .alpha = 0.1f};
    for (bool lrn : {true, false}) {
        p.lrn = lrn;
        auto x = inputs(p, 0);
        for (int64_t i = 0; i < p.x_count(); ++i)
            if (i % p.c == 5) x[i] = 0;  // closed everywhere
        const auto forward = reference::lrn_pool_forward(p, x);
        std::vector<double> dy(p.y_count(), 1.0);
        dy[4 * p.c + 9] = NAN;  // the middle window
        const DeviceArray xd(p.dtype, x), yd(p.dtype, forward.y), dyd(p.dtype, dy);
        DeviceBuffer<uint8_t> argmax(0, p.y_count());
        argmax.upload(forward.argmax);
        each_variant("lrn_pool backward", lrn_pool_backward_variants(), p,
                     [&](const LrnPoolBackward& v) {
                         const Backward got = run(v, p, xd, yd, dyd, argmax, 0);
                         CHECK(std::isnan(got.db[9]));
                         CHECK(got.db[5] == 0);
                         int open = 0;
                         for (int64_t i = 5; i < p.x_count(); i += p.c) open += got.dx[i] != 0;
                         CHECK(open == 0);
                     });
    }
}

TEST_CASE("lrn_pool: a window that the ReLU closed sends nothing, and says so") {
    LrnPoolProblem p{.n = 1, .h = 9, .w = 9, .c = 16, .alpha = 0.1f};
    auto x = inputs(p, 0);
    for (int64_t i = 0; i < p.x_count(); ++i)
        if (i % p.c == 5) x[i] = 0;
    for (DType t : {DType::f32, DType::bf16})
        for (int window : {2, 3}) {
            p.dtype = t, p.window = window;
            const DeviceArray xd(p.dtype, x);
            // Forward and backward of every pair of variants: what one writes the others read.
            each_variant("lrn_pool forward", lrn_pool_forward_variants(), p,
                         [&](const LrnPoolForward& v) {
                             const Forward got = run(v, p, xd, 0);
                             for (int64_t i = 5; i < p.y_count(); i += p.c)
                                 CHECK(got.argmax[i] == window * window);
                             const DeviceArray yd(p.dtype, got.y),
                                 dyd(p.dtype, std::vector<double>(p.y_count(), 1.0));
                             DeviceBuffer<uint8_t> argmax(0, p.y_count());
                             argmax.upload(got.argmax);
                             for (const LrnPoolBackward& b : lrn_pool_backward_variants()) {
                                 if (!b.refuses(p).empty()) continue;
                                 INFO("backward ", b.name);
                                 CHECK(run(b, p, xd, yd, dyd, argmax, 0).db[5] == 0);
                             }
                         });
        }
}

TEST_CASE("lrn_pool: what no variant can compute is refused by every one") {
    auto refused = [](const LrnPoolProblem& p) {
        for (const auto& v : lrn_pool_forward_variants()) CHECK_FALSE(v.refuses(p).empty());
        for (const auto& v : lrn_pool_backward_variants()) CHECK_FALSE(v.refuses(p).empty());
    };
    refused({.h = 40, .w = 40, .c = 8, .window = 16, .stride = 1});
    refused({.h = 40, .w = 40, .c = 8, .window = 3, .pad = 3});
    refused({.h = 40, .w = 40, .c = 8, .size = 4});
}

TEST_SUITE_END();
