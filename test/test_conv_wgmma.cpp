// The Hopper convolutions beyond what test_conv.cpp asks of every variant: every tile of every box
// of channels, and machines so small that blocks have several units of work; and the same result
// whenever asynchronous operations complete.
#include <doctest/doctest.h>

#include <algorithm>

#include "host/cuda/stream.h"
#include "kernels/common/machine.h"
#include "kernels/conv/wgmma_tiles.h"
#include "test/operands.h"
#include "test/seeds.h"
#include "test/shapes.h"

using namespace wt;
using namespace wt::test;
using conv_wgmma::TileSize;

namespace {

// Plans are made for so many SMs, and with this tile, until it ends.
struct PlanGuard {
    PlanOverrides before = plan_overrides;
    explicit PlanGuard(int sms, TileSize tile = {0, 0}) {
        plan_overrides.sms = sms;
        plan_overrides.conv_tile_m = tile.bm;
        plan_overrides.conv_tile_n = tile.bn;
    }
    ~PlanGuard() { plan_overrides = before; }
};

template <class Args>
const Variant<ConvProblem, Args>& variant(Table<ConvProblem, Args> table, const char* name) {
    const auto v = std::find_if(table.begin(), table.end(),
                                [&](const auto& v) { return std::string(v.name) == name; });
    REQUIRE(v != table.end());
    return *v;
}

struct Operands {
    Operand<bf16> x, w, dy;
    Operand<float> bias;
    reference::Sums y, dx, dw, db;

    static Operand<bf16> image(const ConvProblem& p) {
        Operand<bf16> x(size_t(p.n) * p.h * p.w * p.c, 1);
        for (size_t i = 0; i < x.exact.size(); i += 3) x.exact[i] = 0;  // as a ReLU leaves it
        x.upload();
        return x;
    }
    explicit Operands(const ConvProblem& p)
        : x(image(p)),
          w(p.w_count(), 2),
          dy(p.y_count(), 3),
          bias(p.k, 4),
          y(reference::conv_fprop(p, x.exact, w.exact, bias.exact)),
          dx(0),
          dw(reference::conv_wgrad(p, x.exact, dy.exact)),
          db(reference::conv_bias_grad(p, dy.exact)) {
        if (p.fold > 1) x = Operand<bf16>(reference::fold_input(p, x.exact));
    }
};

// launch(out, workspace, stream) leaves `want` in out, bit for bit the same with every seed.
template <class T, class F>
void check(const char* what, const reference::Sums& want, double terms, size_t workspace_bytes,
           F&& launch) {
    Stream stream(0);
    DeviceBuffer<std::byte> workspace(0, workspace_bytes, "workspace");
    DeviceBuffer<T> out(0, want.value.size(), "out");
    std::vector<T> got;
    for (uint64_t seed : seeds(races_wanted() ? 1 : 2)) {
        const SeedGuard chance(seed);
        poison(out), poison(workspace);
        launch(out.data(), workspace.data(), stream.get());
        stream.synchronize();
        const std::vector<T> now = out.download();
        if (!got.empty())
            CHECK_MESSAGE(std::memcmp(now.data(), got.data(), out.bytes()) == 0,
                          what << ": seed " << seed << " makes a difference");
        got = now;
    }
    const auto c = close_sums(got, want, terms);
    CHECK_MESSAGE(c.ok(), what << ": " << c.text());
}

void check_fprop(const ConvFprop& v, const ConvProblem& p, const Operands& o) {
    REQUIRE(v.refuses(p) == "");
    check<bf16>("y", o.y, p.r * p.s * p.cg() + 1, v.workspace_bytes(p),
                [&](bf16* y, void* workspace, cudaStream_t stream) {
                    v.launch(p, {o.x.data(), o.w.data(), p.bias ? o.bias.data() : nullptr, y,
                                 workspace, stream});
                });
}
void check_wgrad(const ConvWgrad& v, const ConvProblem& p, const Operands& o) {
    REQUIRE(v.refuses(p) == "");
    const double pixels = double(p.n) * p.p() * p.q();
    const DeviceBuffer<float> dw(0, p.w_count(), "dw"), db(0, p.k, "db");
    check<float>("dw", o.dw, pixels, v.workspace_bytes(p),
                 [&](float* out, void* workspace, cudaStream_t stream) {
                     v.launch(p, {o.x.data(), o.dy.data(), out, db.data(), workspace, stream});
                 });
    if (p.bias)
        check<float>("db", o.db, pixels, v.workspace_bytes(p),
                     [&](float* out, void* workspace, cudaStream_t stream) {
                         v.launch(p, {o.x.data(), o.dy.data(), dw.data(), out, workspace, stream});
                     });
}

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("conv: wgmma plans for the SMs that there are") {
    using namespace conv_wgmma;
    // 132 tiles of 128 x 128 in pairs: one wave of 66 clusters on 132 SMs, two of 39 on 78.
    const auto clocks = [](int sms) {
        const PlanGuard machine(sms);
        CHECK(planned_sms() == sms);
        return product_clocks({128, 128}, 128 * 132, 128, 1, 10);
    };
    CHECK(clocks(78) == doctest::Approx(2 * clocks(132)));
    CHECK(clocks(1) > clocks(78));  // one SM has no room for a pair, and none is divided by
    CHECK(planned_sms() > 1);
}

TEST_CASE("conv: wgmma, every tile") {
    std::vector<ConvProblem> problems = {
        // Boxes of 16, 32 and 64 channels; groups; tiles that end within an image, and past the
        // last filter.
        {.n = 3,
         .h = 13,
         .w = 13,
         .c = 96,
         .k = 160,
         .r = 3,
         .s = 3,
         .pad_h = 1,
         .pad_w = 1,
         .groups = 2,
         .dtype = DType::bf16},
        {.n = 7,
         .h = 10,
         .w = 12,
         .c = 32,
         .k = 64,
         .r = 3,
         .s = 2,
         .pad_h = 2,
         .pad_w = 1,
         .dtype = DType::bf16,
         .bias = false},
        {.n = 5,
         .h = 9,
         .w = 14,
         .c = 64,
         .k = 272,
         .r = 2,
         .s = 3,
         .pad_h = 0,
         .pad_w = 1,
         .dtype = DType::bf16,
         .relu = true},
    };
    if (reduced_list()) problems.resize(1);
    const ConvFprop& fprop = variant(conv_fprop_variants(), "wgmma_sm90");
    const ConvDgrad& dgrad = variant(conv_dgrad_variants(), "wgmma_sm90");
    const ConvWgrad& wgrad = variant(conv_wgrad_variants(), "wgmma_sm90");
    for (const ConvProblem& p : problems) {
        const Operands o(p);
        ConvProblem backward = p;
        backward.relu = false, backward.drelu = p.bias;
        const reference::Sums dx =
            reference::conv_dgrad(backward, o.dy.exact, o.w.exact, o.x.exact);
        for (int sms : {132, 4}) {
            for (const TileSize& t : conv_wgmma::kFpropTiles) {
                INFO(text_of(p) << ", " << sms << " SMs, tile " << t.bm << "x" << t.bn);
                const PlanGuard plan(sms, t);
                check_fprop(fprop, p, o);
            }
            for (const TileSize& t : conv_wgmma::kDgradTiles) {
                INFO(text_of(backward) << ", " << sms << " SMs, tile " << t.bm << "x" << t.bn);
                const PlanGuard plan(sms, t);
                REQUIRE(dgrad.refuses(backward) == "");
                check<bf16>("dx", dx, p.r * p.s * p.kg(), dgrad.workspace_bytes(backward),
                            [&](bf16* out, void* workspace, cudaStream_t stream) {
                                dgrad.launch(backward,
                                             {o.dy.data(), o.w.data(), out, workspace, stream,
                                              backward.drelu ? o.x.data() : nullptr});
                            });
            }
            for (const TileSize& t : conv_wgmma::kWgradTiles) {
                INFO(text_of(p) << ", " << sms << " SMs, tile " << t.bm << "x" << t.bn);
                const PlanGuard plan(sms, t);
                check_wgrad(wgrad, p, o);
            }
        }
    }
}

TEST_CASE("conv: wgmma, folded first layers") {
    const ConvProblem first{.n = 2,
                            .c = 3,
                            .stride_h = 4,
                            .stride_w = 4,
                            .dtype = DType::bf16,
                            .fold = 4,
                            .planes = true};
    const auto with = [&](int n, int h, int w, int k, int r, int s, int pad, bool relu) {
        ConvProblem p = first;
        p.n = n, p.h = h, p.w = w, p.k = k, p.r = r, p.s = s, p.pad_h = p.pad_w = pad,
        p.relu = relu, p.bias = k != 48;
        return p;
    };
    std::vector<ConvProblem> problems = {
        with(3, 67, 67, 96, 11, 11, 0, true),
        with(4, 64, 71, 64, 11, 11, 2, false),
        with(5, 51, 55, 48, 12, 9, 1, true),
        with(1, 35, 251, 72, 10, 11, 0, true),  // 63 blocks across: taps reach as far as they may
        with(9, 21, 19, 8, 9, 12, 0, false),    // many small images to a run
        with(2, 40, 44, 88, 11, 11, 5, true),
    };
    if (reduced_list()) problems.resize(2);
    // Filters of other numbers of blocks: fprop only.
    const std::vector<ConvProblem> forward = {with(3, 41, 61, 40, 4, 3, 0, true),
                                              with(2, 29, 40, 96, 5, 8, 2, false),
                                              with(3, 44, 30, 16, 12, 5, 0, true)};
    const ConvFprop& fprop = variant(conv_fprop_variants(), "folded_wgmma_sm90");
    const ConvWgrad& wgrad = variant(conv_wgrad_variants(), "folded_wgmma_sm90");
    for (const ConvProblem& p : problems) {
        const Operands o(p);
        for (bool big :
             {true,
              false}) {  // small: a block has more runs than stages, its warpgroups take turns
            INFO(text_of(p) << std::string(big ? "" : ", one block, or three"));
            const PlanGuard one(big ? 132 : 1);
            check_fprop(fprop, p, o);
            const PlanGuard three(big ? 132 : 3);
            check_wgrad(wgrad, p, o);
        }
    }
    for (const ConvProblem& p : forward) {
        INFO(text_of(p));
        const PlanGuard plan(1);
        check_fprop(fprop, p, Operands(p));
        CHECK(wgrad.refuses(p) != "");
    }
    // Where it would read past its stages it says so.
    for (const ConvProblem& p :
         {with(1, 35, 255, 96, 11, 11, 0, true), with(1, 35, 35, 104, 11, 11, 0, true),
          with(1, 35, 35, 12, 11, 11, 0, true), with(1, 43, 43, 96, 13, 11, 0, true)}) {
        INFO(text_of(p));
        CHECK(fprop.refuses(p) != "");
        CHECK(wgrad.refuses(p) != "");
    }
}

TEST_SUITE_END();
