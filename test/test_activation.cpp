#include "kernels/activation/problem.h"
#include "test/close.h"
#include "test/device_data.h"
#include "test/reference/activation.h"

using namespace wt;
using namespace wt::test;

namespace {

struct Case {
    ActivationProblem p;
    size_t offset;  // elements from an aligned address
    std::string text() const {
        return std::to_string(p.rows) + "x" + std::to_string(p.cols) + ", ld_y " +
               std::to_string(p.ld_y) + ", ld_dy " + std::to_string(p.ld_dy) + ", offset " +
               std::to_string(offset) + ", " + (p.kind == Activation::relu ? "relu, " : "tanh, ") +
               name_of(p.dtype);
    }
};

std::vector<Case> cases() {
    std::vector<Case> all;
    auto add = [&](int64_t rows, int64_t cols, int64_t ld_y, int64_t ld_dy, size_t offset) {
        for (Activation kind : {Activation::relu, Activation::tanh})
            for (DType t : {DType::f32, DType::bf16}) {
                Case c{{}, offset};
                c.p.rows = rows, c.p.cols = cols, c.p.ld_y = ld_y, c.p.ld_dy = ld_dy,
                c.p.kind = kind, c.p.dtype = t;
                all.push_back(c);
            }
    };
    add(1, 20000, 20000, 20000, 0);  // several pieces
    add(7, 64, 64, 64, 0);           // one long row
    add(7, 64, 96, 64, 0);
    add(5, 37, 40, 48, 0);  // part of a group at the end of a row
    add(5, 37, 37, 37, 0);
    add(4, 16, 17, 19, 0);  // rows off the alignment
    add(3, 41, 48, 48, 3);
    add(300, 1, 1, 2, 0);
    if (!kSanitized) add(66000, 3, 4, 4, 0);  // more rows than gridDim.y
    return all;
}

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("activation forward: every variant, in place too") {
    for (const Case& c : cases()) {
        INFO(c.text());
        const auto& p = c.p;
        auto x = random_values(p.count(), 11, -4, 4);
        // tanh near 0 must keep its digits
        for (size_t i = 0; i < x.size(); i += 3) x[i] *= 1e-4;
        if (p.count() > 8) x[5] = 90, x[6] = -90, x[7] = 0;
        x = rounded(x, p.dtype);
        const auto want = reference::activation_forward(p.kind, x);
        const Stream stream(0);
        each_variant("activation forward", activation_forward_variants(), p,
                     [&](const ActivationForward& v) {
                         for (bool in_place : {false, true}) {
                             const DeviceArray xd(p.dtype, with_gaps(x, p.rows, p.cols, p.ld_y), 0,
                                                  c.offset);
                             const DeviceArray yd(p.dtype, p.rows * p.ld_y, 0, c.offset);
                             const DeviceArray& y = in_place ? xd : yd;
                             v.launch(p, {xd.data(), y.data(), stream.get()});
                             stream.synchronize();
                             // tanh: a few roundings of the polynomial or the quotient, each below
                             // 2^-23.
                             const double rtol = (p.kind == Activation::tanh ? 1e-6 : 0) +
                                                 (p.dtype == DType::bf16 ? 1.0 / 256 : 0);
                             const Closeness ok = close<double>(y.read_rows(p.rows, p.cols, p.ld_y),
                                                                want, rtol, 1e-30);
                             CHECK_MESSAGE(ok.ok(), ok.text());
                         }
                     });
    }
}

TEST_CASE("activation backward: every variant, in place too") {
    for (const Case& c : cases()) {
        INFO(c.text());
        const auto& p = c.p;
        const auto y = rounded(
            reference::activation_forward(p.kind, random_values(p.count(), 12, -2, 2)), p.dtype);
        const auto dy = rounded(random_values(p.count(), 13), p.dtype);
        const auto want = reference::activation_backward(p.kind, y, dy);
        const Stream stream(0);
        const DeviceArray yd(p.dtype, with_gaps(y, p.rows, p.cols, p.ld_y), 0, c.offset);
        each_variant("activation backward", activation_backward_variants(), p,
                     [&](const ActivationBackward& v) {
                         for (bool in_place : {false, true}) {
                             const DeviceArray dyd(p.dtype, with_gaps(dy, p.rows, p.cols, p.ld_dy),
                                                   0, c.offset);
                             const DeviceArray other(p.dtype, p.rows * p.ld_dy, 0, c.offset);
                             const DeviceArray& dx = in_place ? dyd : other;
                             v.launch(p, {yd.data(), dyd.data(), dx.data(), stream.get()});
                             stream.synchronize();
                             // 1 - y^2 loses digits as |y| nears 1: two roundings of numbers of at
                             // most 1.
                             const double rtol = p.dtype == DType::bf16 ? 1.0 / 256 : 1e-7;
                             const Closeness ok = close<double>(
                                 dx.read_rows(p.rows, p.cols, p.ld_dy), want, rtol, 2e-7);
                             CHECK_MESSAGE(ok.ok(), ok.text());
                         }
                     });
    }
}

TEST_CASE("activation: a NaN stays a NaN") {
    for (Activation kind : {Activation::relu, Activation::tanh})
        for (DType t : {DType::f32, DType::bf16}) {
            ActivationProblem p;
            p.rows = 1, p.cols = p.ld_y = p.ld_dy = 21, p.kind = kind, p.dtype = t;
            auto x = random_values(21, 14);
            x[2] = x[20] = NAN;
            const Stream stream(0);
            const DeviceArray xd(t, x);
            each_variant("activation forward", activation_forward_variants(), p,
                         [&](const ActivationForward& v) {
                             const DeviceArray y(t, std::vector<double>(21, 0.0));
                             v.launch(p, {xd.data(), y.data(), stream.get()});
                             stream.synchronize();
                             const auto got = y.read();
                             for (int i = 0; i < 21; ++i)
                                 CHECK(std::isnan(got[i]) == (i == 2 || i == 20));
                         });
        }
}

TEST_SUITE_END();
