#include "host/net/problem_text.h"
#include "kernels/lrn/problem.h"
#include "test/close.h"
#include "test/device_data.h"
#include "test/reference/lrn.h"

using namespace wt;
using namespace wt::test;

namespace {

std::vector<LrnProblem> problems() {
    std::vector<LrnProblem> all;
    auto add = [&](int64_t pixels, int c, int size, float alpha, float beta, float k) {
        for (DType t : {DType::f32, DType::bf16}) {
            LrnProblem p;
            p.pixels = pixels, p.c = c, p.size = size, p.alpha = alpha, p.beta = beta, p.k = k,
            p.dtype = t;
            all.push_back(p);
        }
    };
    add(130, 96, 5, 1e-4f, 0.75f, 2);  // conv1's
    add(70, 256, 5, 1e-4f, 0.75f, 2);  // conv2's
    add(9, 64, 5, 2e-5f, 0.75f, 1);    // Caffe's convention
    add(65, 96, 5, 0.5f, 0.75f, 2);  // alpha so large that the window's term counts in every digit
    add(3, 8, 9, 0.3f, 0.75f, 1);    // one group of 8
    add(3, 3, 5, 0.3f, 0.75f, 1);    // fewer channels than the window
    add(1, 1, 3, 0.3f, 0.75f, 1);
    add(5, 20, 3, 0.3f, 0.75f, 1);  // no multiple of 8
    add(4, 48, 7, 0.3f, 0.5f, 1.5f);
    add(2, 40, 15, 0.1f, 1.0f, 1);
    add(2, 33, 11, 0.2f, 0.9f, 3);
    add(2, 600, 5, 0.2f, 0.75f, 2);  // more than a local array holds
    add(2, 24, 1, 0.2f, 0.75f, 2);   // a window of one
    return all;
}

// In fp32 s is a sum of size + 1 roundings, which the power multiplies by beta <= 1, and the powers
// are four more (or __powf's 2^-20): below 3e-6. The result is rounded once more to bf16's 2^-9.
double rtol(const LrnProblem& p) { return 3e-6 + (p.dtype == DType::bf16 ? 1.0 / 256 : 0); }

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("lrn forward: every variant against the formula") {
    for (LrnProblem p : problems()) {
        INFO(text_of(p));
        const auto x = rounded(random_values(p.count(), 1, -3, 3), p.dtype);
        const auto want = reference::lrn_forward(p, x);
        const Stream stream(0);
        for (size_t offset : {0, 1}) {
            p.aligned = offset == 0;
            const DeviceArray dx(p.dtype, x, 0, offset);
            each_variant("lrn forward", lrn_forward_variants(), p, [&](const LrnForward& v) {
                const DeviceArray y(p.dtype, p.count(), 0, offset);
                DeviceBuffer<char> workspace(0, v.workspace_bytes(p));
                v.launch(p, {dx.data(), y.data(), workspace.data(), stream.get()});
                stream.synchronize();
                const Closeness c = close<double>(y.read(), want, rtol(p), 1e-9);
                CHECK_MESSAGE(c.ok(), c.text());
            });
        }
    }
}

TEST_CASE("lrn backward: every variant against the formula") {
    for (LrnProblem p : problems()) {
        INFO(text_of(p));
        const auto x = rounded(random_values(p.count(), 2, -3, 3), p.dtype);
        const auto dy = rounded(random_values(p.count(), 3), p.dtype);
        const auto want = reference::lrn_backward(p, x, dy);
        // The two terms may cancel: what each of them may be wrong by, with |dy| <= 1, s^-beta <= 1
        // and |x| <= 3.
        const double atol = 3e-6 * (1 + 2.0 * p.alpha * p.beta * 9 * p.size);
        const Stream stream(0);
        for (size_t offset : {0, 1}) {
            p.aligned = offset == 0;
            const DeviceArray xd(p.dtype, x, 0, offset), dyd(p.dtype, dy, 0, offset);
            each_variant("lrn backward", lrn_backward_variants(), p, [&](const LrnBackward& v) {
                const DeviceArray dx(p.dtype, p.count(), 0, offset);
                DeviceBuffer<char> workspace(0, v.workspace_bytes(p));
                v.launch(p, {xd.data(), dyd.data(), dx.data(), workspace.data(), stream.get()});
                stream.synchronize();
                const Closeness c = close<double>(dx.read(), want, rtol(p), atol);
                CHECK_MESSAGE(c.ok(), c.text());
            });
        }
    }
}

TEST_CASE("lrn: the reference's gradient is the slope of its forward pass") {
    LrnProblem p;
    p.pixels = 2, p.c = 9, p.size = 5, p.alpha = 0.4f, p.beta = 0.75f, p.k = 1.5f;
    const auto x = random_values(p.count(), 4, -2, 2), dy = random_values(p.count(), 5);
    const auto dx = reference::lrn_backward(p, x, dy);
    const double h = 1e-5;
    for (int64_t i = 0; i < p.count(); ++i) {
        auto up = x, down = x;
        up[i] += h, down[i] -= h;
        const auto yu = reference::lrn_forward(p, up), yd = reference::lrn_forward(p, down);
        double slope = 0;
        for (int64_t j = 0; j < p.count(); ++j) slope += dy[j] * (yu[j] - yd[j]) / (2 * h);
        CHECK(slope == doctest::Approx(dx[i]).epsilon(1e-7));
    }
}

TEST_CASE("lrn: an even window is refused by every variant") {
    LrnProblem p;
    p.pixels = 1, p.c = 16, p.size = 4;
    for (const auto& v : lrn_forward_variants()) CHECK_FALSE(v.refuses(p).empty());
    for (const auto& v : lrn_backward_variants()) CHECK_FALSE(v.refuses(p).empty());
}

TEST_SUITE_END();
