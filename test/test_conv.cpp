// Every variant of convolution against fp64 loops; the index maps; that the gradients are
// gradients.
#include <doctest/doctest.h>

#include "host/cuda/stream.h"
#include "kernels/conv/gemm_map.h"
#include "kernels/conv/winograd.h"
#include "test/operands.h"
#include "test/seeds.h"
#include "test/shapes.h"

using namespace wt;
using namespace wt::test;

namespace {

// Runs `launch(workspace, stream)` twice over poisoned outputs and returns what each run left in
// `out`. The second run has asynchronous copies complete as late as they may.
template <class T, class F>
std::vector<T> run_twice(const DeviceBuffer<T>& out, size_t workspace_bytes, F&& launch) {
    Stream stream(0);
    DeviceBuffer<std::byte> workspace(0, workspace_bytes, "workspace");
    std::vector<T> first;
    for (int run = 0; run < 2; ++run) {
        const SeedGuard chance(run);
        poison(out), poison(workspace);
        launch(workspace.data(), stream.get());
        stream.synchronize();
        std::vector<T> got = out.download();
        if (run) {
            CHECK_MESSAGE(std::memcmp(got.data(), first.data(), out.bytes()) == 0,
                          "two runs differ");
        }
        first = std::move(got);
    }
    return first;
}

// Calls f(problem, variants, seed) for all problems of the pass with the variants of the table that
// take them; and says how many each variant took.
template <class Args, class F>
void for_each_problem(ConvPass pass, Table<ConvProblem, Args> table, F&& f) {
    using V = Variant<ConvProblem, Args>;
    struct Taken {
        size_t problems = 0;
        std::string why;  // one of the reasons for a refusal
    };
    std::vector<Taken> taken(table.size());
    const int sm = device_sm(0);
    uint32_t i = 0;
    for (const ConvProblem& p : conv_problems(pass)) {
        ++i;
        std::vector<const V*> fit;
        for (size_t v = 0; v < table.size(); ++v) {
            if ((table[v].sm && sm && table[v].sm != sm) || same_without_tf32(table[v], p, i) ||
                out_of_turn(table[v], v, i))
                continue;
            if (const std::string no = table[v].refuses(p); !no.empty()) {
                taken[v].why = no;
                continue;
            }
            ++taken[v].problems;
            fit.push_back(&table[v]);
        }
        INFO(text_of(p));
        by_dtype(p.dtype, [&]<class T>() { f.template operator()<T>(p, fit, 100 + i); });
    }
    if (const std::string short_of = left_out(i, conv_problems(pass, true).size());
        !short_of.empty())
        MESSAGE(short_of);
    for (size_t v = 0; v < table.size(); ++v)
        MESSAGE(std::string(table[v].name)
                << ": " << taken[v].problems << " of " << i << " problems"
                << (taken[v].why.empty() ? "" : "; " + taken[v].why));
}

// How much larger a variant's errors may be than a direct sum's: what Winograd's matrices make of
// the products' errors, which are no larger than a direct sum's, in a tile's worst place.
template <class Args>
double error_growth(const Variant<ConvProblem, Args>& v, const ConvProblem& p) {
    if (!std::string(v.name).starts_with("winograd")) return 1;
    constexpr bool kWgrad = std::is_same_v<Args, ConvWgradArgs>;
    if (v.cpu) {  // strided first layers are 3x3 when they are folded
        if (p.dtype == DType::bf16 && p.r == 5)
            return kWgrad ? winograd::corner_growth<5, 6>() : winograd::corner_growth<6, 5>();
        if (p.dtype == DType::bf16)
            return kWgrad ? winograd::corner_growth<3, 8>() : winograd::corner_growth<8, 3>();
        if (p.r == 5)
            return kWgrad ? winograd::corner_growth<5, 4>() : winograd::corner_growth<4, 5>();
        return kWgrad ? winograd::corner_growth<3, 6>() : winograd::corner_growth<6, 3>();
    }
    if (kWgrad) return p.r == 3 ? winograd::corner_growth<3, 4>() : winograd::corner_growth<5, 4>();
    return p.r == 3 ? winograd::corner_growth<4, 3>() : winograd::corner_growth<4, 5>();
}

size_t image_count(const ConvProblem& p) { return size_t(p.n) * p.h * p.w * p.c; }

// x as the problem wants it stored.
template <class T>
Operand<T> stored(const ConvProblem& p, const Operand<T>& x) {
    return Operand<T>(p.fold > 1 ? reference::fold_input(p, x.exact) : x.exact);
}

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("conv: fprop of every variant") {
    for_each_problem(
        ConvPass::fprop, conv_fprop_variants(),
        []<class T>(const ConvProblem& p, const std::vector<const ConvFprop*>& variants,
                    uint32_t seed) {
            Operand<T> image(image_count(p), seed), x = stored(p, image), w(p.w_count(), seed + 1);
            Operand<float> bias(p.k, seed + 2);
            DeviceBuffer<T> y(0, p.y_count(), "y");
            const auto want = reference::conv_fprop(p, image.exact, w.exact, bias.exact);
            for (const ConvFprop* variant : variants) {
                INFO(std::string(variant->name));
                const auto got = run_twice(
                    y, variant->workspace_bytes(p), [&](void* workspace, cudaStream_t stream) {
                        variant->launch(p, {x.data(), w.data(), p.bias ? bias.data() : nullptr,
                                            y.data(), workspace, stream});
                    });
                const auto c = close_sums(got, want, p.r * p.s * p.cg() + 1, p.tf32,
                                          error_growth(*variant, p));
                CHECK_MESSAGE(c.ok(), c.text());
            }
        });
}

TEST_CASE("conv: dgrad of every variant") {
    for_each_problem(
        ConvPass::dgrad, conv_dgrad_variants(),
        []<class T>(const ConvProblem& p, const std::vector<const ConvDgrad*>& variants,
                    uint32_t seed) {
            Operand<T> dy(p.y_count(), seed), w(p.w_count(), seed + 1), x(p.x_count(), seed + 2);
            for (size_t i = 0; i < x.exact.size(); i += 3) x.exact[i] = 0;  // as a ReLU leaves it
            x.upload();
            DeviceBuffer<T> dx(0, p.x_count(), "dx");
            const auto want = reference::conv_dgrad(p, dy.exact, w.exact, x.exact);
            for (const ConvDgrad* variant : variants) {
                INFO(std::string(variant->name));
                const auto got = run_twice(
                    dx, variant->workspace_bytes(p), [&](void* workspace, cudaStream_t stream) {
                        variant->launch(p, {dy.data(), w.data(), dx.data(), workspace, stream,
                                            p.drelu ? x.data() : nullptr});
                    });
                const auto c =
                    close_sums(got, want, p.r * p.s * p.kg(), p.tf32, error_growth(*variant, p));
                CHECK_MESSAGE(c.ok(), c.text());
            }
        });
}

TEST_CASE("conv: wgrad of every variant") {
    for_each_problem(
        ConvPass::wgrad, conv_wgrad_variants(),
        []<class T>(const ConvProblem& p, const std::vector<const ConvWgrad*>& variants,
                    uint32_t seed) {
            Operand<T> image(image_count(p), seed), x = stored(p, image), dy(p.y_count(), seed + 1);
            DeviceBuffer<float> dw(0, p.w_count(), "dw"), db(0, p.k, "db");
            const auto want = reference::conv_wgrad(p, image.exact, dy.exact),
                       want_db = reference::conv_bias_grad(p, dy.exact);
            const double pixels = double(p.n) * p.p() * p.q();
            for (const ConvWgrad* variant : variants) {
                INFO(std::string(variant->name));
                poison(db);
                const auto got = run_twice(
                    dw, variant->workspace_bytes(p), [&](void* workspace, cudaStream_t stream) {
                        variant->launch(
                            p, {x.data(), dy.data(), dw.data(), db.data(), workspace, stream});
                    });
                const auto c = close_sums(got, want, pixels, p.tf32, error_growth(*variant, p));
                CHECK_MESSAGE(c.ok(), c.text());
                const auto got_db = db.download();
                if (p.bias) {
                    const auto b = close_sums(got_db, want_db, pixels, p.tf32);
                    CHECK_MESSAGE(b.ok(), "db: " << b.text());
                } else {
                    const std::vector<unsigned char> poisoned(db.bytes(), 0xff);
                    CHECK_MESSAGE(std::memcmp(got_db.data(), poisoned.data(), db.bytes()) == 0,
                                  "db written, not asked for");
                }
            }
        });
}

TEST_CASE("conv: dgrad and wgrad are the gradients of fprop") {
    // Convolution is linear in x and in w, so its gradients are its adjoints: <dy, conv(x, w)> =
    // <dgrad(dy, w), x> = <wgrad(x, dy), w>. In fp64, of the references that judge the kernels.
    for (ConvProblem p : conv_shapes()) {
        p.bias = p.relu = false;
        if (p.flops() > 4e6) continue;
        INFO(text_of(p));
        Operand<float> x(p.x_count(), 1), w(p.w_count(), 2), dy(p.y_count(), 3);
        auto dot = [](const std::vector<double>& a, const std::vector<double>& b) {
            double sum = 0;
            for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
            return sum;
        };
        const double forward = dot(reference::conv_fprop(p, x.exact, w.exact, {}).value, dy.exact);
        CHECK(dot(reference::conv_dgrad(p, dy.exact, w.exact).value, x.exact) ==
              doctest::Approx(forward).epsilon(1e-9));
        CHECK(dot(reference::conv_wgrad(p, x.exact, dy.exact).value, w.exact) ==
              doctest::Approx(forward).epsilon(1e-9));
    }
}

TEST_CASE("conv: maps from matrix coordinates to tensor elements") {
    for (const ConvProblem& p : conv_shapes()) {
        INFO(text_of(p));
        const ConvShape v(p);
        // Counting pixels and taps up in memory order names the same elements as dividing.
        int64_t m = 0;
        bool same = true;
        PixelCursor pixel(0, v.p, v.q);
        for (int n = 0; n < v.n; ++n)
            for (int row = 0; row < v.p; ++row)
                for (int col = 0; col < v.q; ++col, ++m, pixel.advance(1)) {
                    const Pixel at = pixel_at(m, v.p, v.q);
                    same &= at.n == n && at.row == row && at.col == col;
                    same &= pixel.at.n == n && pixel.at.row == row && pixel.at.col == col;
                    same &= output_offset(v, n, row, col, 0, 0) == m * v.k;
                }
        int k = 0;
        TapCursor tap(0, v.s, v.cg);
        for (int r = 0; r < v.r; ++r)
            for (int s = 0; s < v.s; ++s)
                for (int c = 0; c < v.cg; ++c, ++k, tap.advance(1)) {
                    const Tap at = tap_at(k, v.s, v.cg);
                    same &= at.r == r && at.s == s && at.c == c;
                    same &= tap.at.r == r && tap.at.s == s && tap.at.c == c;
                    same &= filter_offset(v, 0, 0, r, s, c) == k;
                }
        CHECK(same);
        // A cursor may start anywhere and take any step.
        for (int step : {1, 3, 16, 100}) {
            PixelCursor pc(5, v.p, v.q);
            TapCursor tc(3, v.s, v.cg);
            for (int i = 0; i < 50; ++i, pc.advance(step), tc.advance(step)) {
                const Pixel a = pixel_at(5 + int64_t(i) * step, v.p, v.q);
                const Tap b = tap_at(3 + i * step, v.s, v.cg);
                same &= pc.at.n == a.n && pc.at.row == a.row && pc.at.col == a.col;
                same &= tc.at.r == b.r && tc.at.s == b.s && tc.at.c == b.c;
            }
        }
        CHECK(same);
        // input_row and output_index are each other's inverse.
        for (int r = 0; r < v.r; ++r)
            for (int h = -2; h < v.h + 2; ++h) {
                int reader = -1;
                for (int out = 0; out < v.p; ++out)
                    if (input_row(v, out, r) == h) reader = out;
                same &= output_index(h, r, v.pad_h, v.stride_h, v.p) == reader;
            }
        CHECK(same);
        // The last element of each tensor is where the counts say.
        CHECK(input_offset(v, v.n - 1, v.h - 1, v.w - 1, v.groups - 1, v.cg - 1) ==
              p.x_count() - 1);
        CHECK(output_offset(v, v.n - 1, v.p - 1, v.q - 1, v.groups - 1, v.kg - 1) ==
              p.y_count() - 1);
        CHECK(filter_offset(v, v.groups - 1, v.kg - 1, v.r - 1, v.s - 1, v.cg - 1) ==
              p.w_count() - 1);
    }
}

TEST_SUITE_END();
