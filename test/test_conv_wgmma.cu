// The Hopper convolutions beyond what test_conv.cpp asks of every variant: every tile of every box
// of channels, and machines so small that blocks have several units of work; and the same result
// whenever asynchronous operations complete.
#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <string>

#include "host/cuda/stream.h"
#include "kernels/common/machine.h"
#include "kernels/conv/wgmma_tiles.h"
#include "kernels/product_plan.h"
#include "test/hopper.h"
#include "test/operands.h"
#include "test/seeds.h"
#include "test/shapes.h"

using namespace wt;
using namespace wt::test;

namespace {

// Plans are made for so many SMs until it ends.
struct PlanGuard {
    PlanOverrides before = plan_overrides;
    explicit PlanGuard(int sms) { plan_overrides.sms = sms; }
    ~PlanGuard() { plan_overrides = before; }
};

// The rows of wgmma_sm90 and its fixed tiles that take a problem; and whether all of the fixed ones
// have taken one of those asked about.
template <class Args>
struct WgmmaRows {
    Table<ConvProblem, Args> table;
    std::set<std::string> idle;

    explicit WgmmaRows(Table<ConvProblem, Args> t) : table(t) {
        for (const auto& v : table)
            if (is_row(v)) idle.insert(v.name);
        CHECK(idle.size() > 6);
    }
    static bool is_row(const Variant<ConvProblem, Args>& v) {
        return v.preference.gpu < 0 || std::string(v.name) == "wgmma_sm90";
    }
    template <class F>
    void for_each(const ConvProblem& p, F&& f) {
        for (const auto& v : table) {
            if (!is_row(v)) continue;
            if (const std::string why = v.refuses(p); !why.empty()) {
                CHECK_MESSAGE(why.find('\n') == std::string::npos, why);
                continue;
            }
            idle.erase(v.name);
            f(v);
        }
    }
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
void check_dgrad(const ConvDgrad& v, const ConvProblem& p, const Operands& o,
                 const reference::Sums& dx) {
    REQUIRE(v.refuses(p) == "");
    check<bf16>("dx", dx, p.r * p.s * p.kg(), v.workspace_bytes(p),
                [&](bf16* out, void* workspace, cudaStream_t stream) {
                    v.launch(p, {o.dy.data(), o.w.data(), out, workspace, stream,
                                 p.drelu ? o.x.data() : nullptr});
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
    // 132 tiles of 128 x 128 in pairs: one wave of 66 clusters on 132 SMs, two of 57 on 114 (an
    // H100 PCIe) and of 39 on 78 (an H20).
    const Extents e{.rows = 128 * 132, .cols = 128, .groups = 1, .steps = 7};
    const auto clocks = [&](int sms) { return plan_with({128, 128}, {}, e, sms).clocks; };
    CHECK(plan_with({128, 128}, {}, e, 132).waves == 1);
    CHECK(clocks(114) == doctest::Approx(2 * clocks(132)));
    CHECK(clocks(78) == doctest::Approx(2 * clocks(132)));
    CHECK(clocks(1) > clocks(78));  // one SM has no room for a pair, and none is divided by
    CHECK(planned_sms() > 1);
    for (int sms : {132, 114, 78}) {
        const PlanGuard machine(sms);
        CHECK(planned_sms() == sms);
    }
    // And another tile may be the best of a smaller machine: conv5 of AlexNet at batch 256.
    const Extents conv5{.rows = 256 * 13 * 13, .cols = 256, .groups = 1, .steps = 54};
    const auto tile = [&](int sms) { return choose_tile(kFpropTiles, conv5, sms).tile; };
    CHECK(tile(132) == TileSize{128, 256});
    CHECK(choose_tile(kFpropTiles, conv5, 78).waves > choose_tile(kFpropTiles, conv5, 114).waves);
}

TEST_CASE("conv: wgmma, every tile") {
    if (!needs_hopper("wgmma")) return;
    std::vector<ConvProblem> problems = {
        // Boxes of 16, 32 and 64 channels, the widest tiles too; groups; tiles that end within an
        // image, and past the last filter. dgrad's boxes are of filters.
        {.n = 3,
         .h = 9,
         .w = 9,
         .c = 144,
         .k = 144,
         .r = 3,
         .s = 3,
         .pad_h = 1,
         .pad_w = 1,
         .dtype = DType::bf16},
        {.n = 2,
         .h = 9,
         .w = 9,
         .c = 272,
         .k = 128,
         .r = 3,
         .s = 3,
         .pad_h = 1,
         .pad_w = 1,
         .groups = 2,
         .dtype = DType::bf16},
        // wgrad: 3 tiles of 128 rows, so that a block of the last pair has none.
        {.n = 3,
         .h = 7,
         .w = 9,
         .c = 32,
         .k = 16,
         .r = 3,
         .s = 3,
         .pad_h = 1,
         .pad_w = 1,
         .dtype = DType::bf16},
        {.n = 7,
         .h = 10,
         .w = 12,
         .c = 32,
         .k = 144,
         .r = 3,
         .s = 2,
         .pad_h = 2,
         .pad_w = 1,
         .dtype = DType::bf16,
         .bias = false},
        {.n = 3,
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
    if (reduced_list()) problems.resize(2);
    WgmmaRows<ConvFpropArgs> fprop(conv_fprop_variants());
    WgmmaRows<ConvDgradArgs> dgrad(conv_dgrad_variants());
    WgmmaRows<ConvWgradArgs> wgrad(conv_wgrad_variants());
    for (const ConvProblem& p : problems) {
        const Operands o(p);
        ConvProblem backward = p;
        backward.relu = false, backward.drelu = p.bias;
        const reference::Sums dx =
            reference::conv_dgrad(backward, o.dy.exact, o.w.exact, o.x.exact);
        for (int sms : {132, 4}) {
            const PlanGuard plan(sms);
            fprop.for_each(p, [&](const ConvFprop& v) {
                INFO(text_of(p) << ", " << sms << " SMs, " << std::string(v.name));
                check_fprop(v, p, o);
            });
            dgrad.for_each(backward, [&](const ConvDgrad& v) {
                INFO(text_of(backward) << ", " << sms << " SMs, " << std::string(v.name));
                check<bf16>("dx", dx, p.r * p.s * p.kg(), v.workspace_bytes(backward),
                            [&](bf16* out, void* workspace, cudaStream_t stream) {
                                v.launch(backward, {o.dy.data(), o.w.data(), out, workspace, stream,
                                                    backward.drelu ? o.x.data() : nullptr});
                            });
            });
            wgrad.for_each(p, [&](const ConvWgrad& v) {
                INFO(text_of(p) << ", " << sms << " SMs, " << std::string(v.name));
                check_wgrad(v, p, o);
            });
        }
    }
    CHECK(fprop.idle.empty());
    CHECK(dgrad.idle.empty());
    CHECK(wgrad.idle.empty());
}

TEST_CASE("conv: wgmma, a last wave cut along k") {
    if (!needs_hopper("wgmma")) return;
    const ConvProblem plain{.dtype = DType::bf16};
    const auto with = [&](int n, int h, int w, int c, int k, int r, int s, int groups) {
        ConvProblem p = plain;
        p.n = n, p.h = h, p.w = w, p.c = c, p.k = k, p.r = r, p.s = s, p.groups = groups;
        p.pad_h = r / 2, p.pad_w = s / 2;
        return p;
    };
    // Of 25 and 18 stages, and of 9: parts that are longer than the pipeline and shorter ones;
    // boxes of 64, 32 and 16 channels; groups; a pair's second block without a tile.
    std::vector<ConvProblem> problems = {
        with(2, 13, 14, 64, 144, 5, 5, 1), with(3, 9, 11, 384, 192, 3, 3, 3),
        with(2, 15, 10, 96, 128, 3, 2, 1), with(1, 18, 16, 240, 80, 3, 1, 1)};
    if (reduced_list()) problems.resize(2);
    int cut = 0,
        across = 0;  // launches with a tail; with one whose clusters have parts of two units
    const auto check_tail = [&](const conv_wgmma::TilePlan& plan) {
        cut += plan.tail.units > 0;
        across += plan.tail.remainder_steps > 0 &&
                  plan.tail.remainder_steps % plan.tail.remainder_share != 0;
    };
    for (const ConvProblem& p : problems) {
        const Operands o(p);
        ConvProblem backward = p;
        backward.drelu = true;
        const reference::Sums dx =
            reference::conv_dgrad(backward, o.dy.exact, o.w.exact, o.x.exact);
        const conv_wgmma::TileChoice split{.tail = conv_wgmma::TailChoice::split};
        for (int sms : {1, 4, 6, 10, 14, 34}) {
            INFO(text_of(p) << ", " << sms << " SMs");
            const PlanGuard machine(sms);
            const ConvFprop& fprop = variant(conv_fprop_variants(), "wgmma_split_sm90");
            if (fprop.refuses(p).empty()) {
                check_tail(
                    choose_tile(conv_wgmma::kFpropTiles, conv_wgmma::fprop_extents(p), sms, split));
                check_fprop(fprop, p, o);
            }
            const ConvDgrad& dgrad = variant(conv_dgrad_variants(), "wgmma_split_sm90");
            if (dgrad.refuses(backward).empty()) {
                check_tail(choose_tile(conv_wgmma::kDgradTiles, conv_wgmma::dgrad_extents(backward),
                                       sms, split));
                check_dgrad(dgrad, backward, o, dx);
            }
        }
    }
    CHECK(cut > (reduced_list() ? 10 : 20));
    CHECK(across > 2);
}

TEST_CASE("conv: wgmma, which last waves are cut") {
    using namespace conv_wgmma;
    const auto plan = [](int rows, int cols, int steps, TileChoice only = {}) {
        return plan_with({128, 256}, only,
                         {.rows = int64_t(rows) * 256, .cols = cols, .groups = 1, .steps = steps},
                         132);
    };
    // 11 waves and 3 units, conv2 of AlexNet at batch 256: cut into parts of a few stages.
    const TilePlan conv2 = plan(729, 256, 38);
    CHECK(conv2.whole() == 726);
    CHECK(conv2.tail.units == 3);
    CHECK(conv2.tail.longest() <= 6);
    const TileChoice whole{.tail = TailChoice::whole}, split{.tail = TailChoice::split};
    CHECK(conv2.clocks < 0.95 * plan(729, 256, 38, whole).clocks);
    CHECK(plan(729, 256, 38, whole).tail.units == 0);
    CHECK(plan(729, 256, 38, whole).workspace() == 0);
    // A part is written and read again for each of its tiles.
    CHECK(conv2.workspace() ==
          size_t(3) * conv2.tail.max_partials() * 2 * 128 * 256 * sizeof(float));
    // A wave that is nearly full would gain less than that costs; short products, too.
    CHECK(plan(66 * 4 - 2, 256, 38).tail.units == 0);
    CHECK(plan(66 * 4 - 2, 256, 38, split).tail.units == 64);
    CHECK(plan(66 + 3, 256, 4).tail.units == 0);
    // A full one has none, nor has one stage anything to cut.
    CHECK(plan(66 * 4, 256, 38, split).tail.units == 0);
    CHECK(plan(66 + 3, 256, 1, split).tail.units == 0);
    // All of its stages are somebody's.
    for (const int rows : {67, 80, 98, 103, 131})
        for (const int steps : {2, 9, 54}) {
            const StreamKPlan t = plan(rows, 256, steps, split).tail;
            CAPTURE(rows);
            CAPTURE(steps);
            if (ceil_div((rows - 66) * steps, 66) == steps) {  // nothing would be gained
                CHECK(t.units == 0);
                continue;
            }
            CHECK(t.units == rows - 66);
            CHECK(t.clusters <= 66);
            CHECK(t.longest() * 66 >= t.units * steps);
            CHECK(t.longest() < steps);
        }
}

TEST_CASE("conv: wgmma, consumers one behind the other") {
    if (!needs_hopper("wgmma")) return;
    // It is a matter of time alone: the same bits as with both at the same stage, in products of
    // more stages than the pipeline has, of as many, and of fewer, one block having several tiles.
    for (const int taps : {1, 2, 3, 5}) {
        ConvProblem p{.n = 4,
                      .h = 12,
                      .w = 12,
                      .c = 128,
                      .k = 64,
                      .r = taps,
                      .s = 3,
                      .pad_h = taps / 2,
                      .pad_w = 1,
                      .dtype = DType::bf16};
        const Operands o(p);
        const PlanGuard machine(2);
        const auto bits = [&](const auto& v, const void* from, size_t count) {
            Stream stream(0);
            DeviceBuffer<std::byte> workspace(0, v.workspace_bytes(p), "workspace");
            DeviceBuffer<bf16> out(0, count, "out");
            poison(out);
            if constexpr (requires { v.launch(p, ConvFpropArgs{}); })
                v.launch(p, {from, o.w.data(), o.bias.data(), out.data(), workspace.data(),
                             stream.get()});
            else
                v.launch(p, {from, o.w.data(), out.data(), workspace.data(), stream.get()});
            stream.synchronize();
            return out.download();
        };
        const auto same = [&](const auto& table, const char* one, const char* other,
                              const void* from, size_t count) {
            const auto a = bits(variant(table, one), from, count),
                       b = bits(variant(table, other), from, count);
            INFO(text_of(p) << ": " << std::string(one));
            CHECK(std::memcmp(a.data(), b.data(), count * sizeof(bf16)) == 0);
        };
        CHECK(conv_wgmma_plan(wt::ConvPass::fprop, p).lag == (taps < 2 ? 0 : 2));
        CHECK(conv_wgmma_plan(wt::ConvPass::fprop, p, {.level = true}).lag == 0);
        CHECK(conv_views_plan(p).lag > 0);
        same(conv_fprop_variants(), "wgmma_sm90", "wgmma_level_sm90", o.x.data(), p.y_count());
        if (taps == 2) continue;  // dy would be of other extents
        same(conv_dgrad_variants(), "wgmma_sm90", "wgmma_level_sm90", o.dy.data(), p.x_count());
        same(conv_dgrad_variants(), "views_wgmma_sm90", "views_level_wgmma_sm90", o.dy.data(),
             p.x_count());
    }
}

TEST_CASE("conv: wgmma, a fixed tile is refused where it is of no use") {
    const auto why = [](const char* name, const ConvProblem& p) {
        return variant(conv_fprop_variants(), name).refuses(p);
    };
    ConvProblem p{.n = 1,
                  .h = 13,
                  .w = 13,
                  .c = 64,
                  .k = 64,
                  .r = 3,
                  .s = 3,
                  .pad_h = 1,
                  .pad_w = 1,
                  .dtype = DType::bf16};
    CHECK(why("wgmma_sm90", p) == "");
    CHECK(why("wgmma_256x64_sm90", p) == "");
    CHECK(why("wgmma_128x128_sm90", p) == "64 columns fill half of its tile or less");
    CHECK(why("wgmma_single_sm90", p) == "");
    p.h = 11, p.w = 11;
    CHECK(why("wgmma_single_sm90", p) == "one tile of rows: no blocks would share");
    CHECK(why("wgmma_split_sm90", p) == "");
    ConvProblem short_product = p;
    short_product.r = short_product.s = 1, short_product.pad_h = short_product.pad_w = 0;
    CHECK(why("wgmma_split_sm90", short_product) ==
          "no last wave to cut: it is full, or its tiles are of one stage");
    p.dtype = DType::f32;
    CHECK(why("wgmma_256x64_sm90", p) == "bf16 only");
}

TEST_CASE("conv: wgmma, dgrad by views") {
    if (!needs_hopper("wgmma")) return;
    const ConvProblem plain{.dtype = DType::bf16};
    const auto with = [&](int n, int h, int w, int c, int k, int r, int s, int pad_h, int pad_w,
                          int groups, bool drelu) {
        ConvProblem p = plain;
        p.n = n, p.h = h, p.w = w, p.c = c, p.k = k, p.r = r, p.s = s, p.pad_h = pad_h,
        p.pad_w = pad_w, p.groups = groups, p.drelu = drelu;
        return p;
    };
    std::vector<ConvProblem> problems = {
        with(2, 13, 13, 96, 64, 5, 5, 2, 2, 1, true),     // a tile that ends within an image
        with(3, 9, 11, 48, 128, 3, 2, 1, 0, 2, false),    // groups; no column of zeros on one side
        with(1, 6, 5, 8, 64, 3, 4, 2, 3, 1, true),        // no zeros between rows: full padding
        with(5, 7, 17, 136, 64, 2, 3, 0, 1, 1, false),    // two tiles across, one nearly empty
        with(2, 8, 33, 64, 192, 4, 5, 1, 0, 1, true),     // a last tap 115 positions on
        with(9, 3, 4, 72, 64, 3, 3, 0, 0, 1, false),      // many small images to a tile; dy 1 x 2
        with(2, 20, 16, 128, 64, 1, 1, 0, 0, 1, true),    // one tap
        with(1, 16, 128, 192, 64, 1, 7, 0, 3, 1, false),  // one row of taps
    };
    if (reduced_list()) problems.resize(3);
    const auto& planes = variant(conv_dgrad_variants(), "views_wgmma_sm90");
    const auto& swizzled = variant(conv_dgrad_variants(), "views_swizzled_wgmma_sm90");
    for (const ConvProblem& p : problems) {
        const Operands o(p);
        const reference::Sums dx = reference::conv_dgrad(p, o.dy.exact, o.w.exact, o.x.exact);
        // One block and one pair with several tiles each; tiles in halves, all or those of a last
        // wave.
        for (int sms : {132, 6, 2, 1}) {
            INFO(text_of(p) << ", " << sms << " SMs");
            const PlanGuard plan(sms);
            check_dgrad(planes, p, o, dx);
            check_dgrad(swizzled, p, o, dx);
        }
    }
    // What it cannot do it says.
    ConvProblem strided = with(1, 9, 9, 8, 64, 3, 3, 1, 1, 1, false);
    CHECK(planes.refuses(strided) == "");
    strided.stride_w = 2;
    for (const ConvProblem& p :
         {strided, with(1, 9, 9, 8, 64, 3, 3, 3, 1, 1, false),
          with(1, 9, 9, 8, 96, 3, 3, 1, 1, 1, false), with(1, 9, 9, 12, 64, 3, 3, 1, 1, 1, false),
          with(1, 9, 64, 8, 64, 3, 3, 1, 1, 1, false),
          with(1, 9, 9, 64, 128, 3, 3, 1, 1, 4, false)}) {
        INFO(text_of(p));
        CHECK(planes.refuses(p) != "");
    }
    // It is chosen by itself where few channels make im2col wait for L2, conv2 of both networks,
    // and not where there are many, conv4.
    const auto chosen = [](const ConvProblem& p) {
        return std::string(choose(conv_dgrad_variants(), p, KernelChoice::own, 90).name);
    };
    for (int n : {128, 256}) {
        CHECK(chosen(with(n, 27, 27, 96, 256, 5, 5, 2, 2, 1, true)) == "views_wgmma_sm90");
        CHECK(chosen(with(n, 27, 27, 64, 192, 5, 5, 2, 2, 1, true)) == "views_wgmma_sm90");
        CHECK(chosen(with(n, 13, 13, 384, 384, 3, 3, 1, 1, 1, true)) == "wgmma_sm90");
    }
}

TEST_CASE("conv: wgmma, folded first layers") {
    if (!needs_hopper("wgmma")) return;
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
