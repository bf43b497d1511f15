// Which tiles, clusters and waves the Hopper kernels plan for the layers of the networks: what
// follows from how many clusters a GPU runs at once, and that no tile is missing which the model
// would find much better. `bin/unit -tc="wgmma plans*" -s` prints the plans. All of it is
// arithmetic and questions: nothing is launched.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "host/bench/network_cases.h"
#include "host/cuda/device.h"
#include "host/net/kernel_settings.h"
#include "host/net/problem_text.h"
#include "kernels/common/clusters.h"
#include "kernels/common/machine.h"
#include "kernels/conv/wgmma_tiles.h"
#include "kernels/common/sm_limit.h"
#include "kernels/gemm/wgmma_plan.h"
#include "test/program.h"

using namespace wt;

namespace {

__global__ void holds_an_sm(int) {}

// An H100's SMs, with so many clusters of some sizes; of others as many as there are SMs.
gemm_wgmma::ClustersAtOnce machine(std::map<int, int> counts, int sms = 132) {
    return [=](int, int size) {
        const auto it = counts.find(size);
        return it == counts.end() ? sms / size : it->second;
    };
}
const gemm_wgmma::ClustersAtOnce kH100 = machine({{4, 32}, {8, 16}});

GemmProblem product(GemmLayout layout, int m, int n, int k) {
    return {.layout = layout,
            .m = m,
            .n = n,
            .k = k,
            .lda = k,
            .ldb = k,
            .ldc = n,
            .dtype = DType::bf16,
            .out = layout == GemmLayout::tn ? DType::f32 : DType::bf16};
}

std::string text(const char* format, auto... values) {
    char line[200];
    std::snprintf(line, sizeof line, format, values...);
    return line;
}

// Prints a layer's plan. `next`: clocks of the cheapest plan with another tile that there is, 0
// where there is none; `wanted`: of any width of whole 32 columns, which registers would allow.
void tell(const std::string& layer, const std::string& plan, int64_t units, int64_t waves,
          double filled, double clocks, double next, double wanted) {
    INFO(layer << ": " << plan << ", " << units << " units in " << waves
               << std::string(waves == 1 ? " wave, " : " waves, ")
               << text("%.0f%% idle, %.0f clocks; next %.0f, of any width %.0f", 100 * (1 - filled),
                       clocks, next, wanted));
    CHECK((next == 0 || clocks <= next));
    CHECK(wanted > 0.94 * clocks);
}

template <size_t N>
void tell_conv(const std::string& layer, const conv_wgmma::TileSize (&tiles)[N],
               const conv_wgmma::Extents& e) {
    using namespace conv_wgmma;
    const TilePlan plan = choose_tile(tiles, e, 132);
    double next = 0, wanted = plan.clocks;
    for (const TileSize& t : tiles)
        if (const double clocks = plan_with(t, {}, e, 132).clocks;
            t != plan.tile && (next == 0 || clocks < next))
            next = clocks;
    for (int bm : {128, 256})
        for (int bn = 32; bm * bn <= 128 * 256 && bn <= 256; bn += 32)
            wanted = std::min(wanted, plan_with({bm, bn}, {}, e, 132).clocks);
    tell(layer, text("%dx%d in clusters of %d", plan.tile.bm, plan.tile.bn, plan.multicast),
         plan.units, plan.waves, plan.filled, plan.clocks, next, wanted);
}

void tell_gemm(const std::string& layer, const GemmProblem& p) {
    using namespace gemm_wgmma;
    const Plan plan = choose_tile(p, kH100);
    double next = 0, wanted = plan.clocks;
    for (int bn : kWidths)
        if (has_width(p, bn) && bn != plan.bn)
            if (const double clocks = choose_tile(p, kH100, {.bn = bn}).clocks;
                next == 0 || clocks < next)
                next = clocks;
    for (int bn = 32; bn <= 256; bn += 32)
        for (int multicast : {1, kMaxMulticast})
            for (int splits : {1, 2, 4, 8}) {
                if ((multicast > 1 && p.m <= kBM) || multicast * splits > 8) continue;
                if (splits > 1 && p.k < kStepsOfSplit * splits * kBK) continue;
                const Plan other = plan_with(p, kH100, bn, multicast, splits);
                if (other.bn) wanted = std::min(wanted, other.clocks);
            }
    const TileSchedule& s = plan.schedule;
    tell(layer,
         text("128x%d in clusters of %d (%d splits of k)", plan.bn, s.cluster_size(),
              s.cluster_splits),
         s.units(), plan.waves, plan.filled, plan.clocks, next, wanted);
}

}  // namespace

TEST_CASE("wgmma plans: the layers of the networks") {
    const auto plans = [](const char* net, int batch) {
        for (const bench::BenchCase& c :
             bench::network_cases(net, batch, bench::Precision::bf16, 0)) {
            if (c.name.find('+') != std::string::npos) continue;  // fused: planned alike
            const std::string layer = std::string(net) + " " + std::to_string(batch) + " " + c.name;
            if (c.op == "conv_fprop" || c.op == "conv_dgrad") {
                auto p = problem_of<ConvProblem>(c.problem);
                p.dtype = DType::bf16;  // a case's text leaves the precision out
                if (c.op == "conv_dgrad")
                    tell_conv(layer, conv_wgmma::kDgradTiles, conv_wgmma::dgrad_extents(p));
                else if (conv_wgmma::refuses_x(p).empty())
                    tell_conv(layer, conv_wgmma::kFpropTiles, conv_wgmma::fprop_extents(p));
            } else if (c.op == "gemm") {
                auto p = problem_of<GemmProblem>(c.problem);
                p.dtype = DType::bf16;
                tell_gemm(layer, p);
            }
        }
    };
    for (const char* net : {"alexnet", "alexnet2012", "owt"})
        for (int batch : {128, 256, 1024}) plans(net, batch);
}

TEST_CASE("wgmma plans: the fc layers' halves on two GPUs") {
    for (int rows : {256, 512, 2048})  // both workers' images
        for (auto [name, units, inputs] :
             {std::tuple{"fc6", 2048, 9216}, {"fc7", 2048, 4096}, {"fc8", 500, 4096}}) {
            const std::string layer = text("%d rows, half of %s", rows, name);
            GemmProblem forward = product(GemmLayout::nt, rows, units, inputs);
            if (units == 500) forward.out = DType::f32;
            tell_gemm(layer + ", fprop", forward);
            tell_gemm(layer + ", dgrad", product(GemmLayout::nn, rows, inputs, units));
        }
}

TEST_CASE("wgmma plans: what this device holds") {
    if (device_count() == 0 || (device_sm(0) != 0 && device_sm(0) != 90)) return;
    const DeviceGuard guard(0);
    int before = planned_sms() + 1;
    std::string counts;
    for (unsigned size : {1u, 2u, 4u, 8u}) {
        const int clusters = clusters_at_once({.grid = {},
                                               .block = dim3(384),
                                               .stream = nullptr,
                                               .shared = kSharedPerBlock,
                                               .cluster = size},
                                              reinterpret_cast<const void*>(holds_an_sm));
        counts += text(" %d of %u", clusters, size);
        CHECK(clusters >= 1);
        CHECK(clusters * int(size) <= planned_sms());
        CHECK(clusters < before);
        before = clusters;
    }
    MESSAGE("clusters at once:" << counts);
}

TEST_CASE("wgmma plans: fewer clusters at once than SMs would hold make another plan") {
    using namespace gemm_wgmma;
    struct Layer {
        const char* name;
        GemmProblem p;
    };
    const Layer layers[] = {{"fc6 fprop", product(GemmLayout::nt, 128, 4096, 9216)},
                            {"fc7 fprop", product(GemmLayout::nt, 128, 4096, 4096)},
                            {"fc7 dgrad", product(GemmLayout::nn, 128, 4096, 4096)},
                            {"fc7 fprop 256", product(GemmLayout::nt, 256, 4096, 4096)},
                            {"fc8 fprop", product(GemmLayout::nt, 128, 1000, 4096)},
                            {"fc8 fprop 256", product(GemmLayout::nt, 256, 1000, 4096)}};
    const ClustersAtOnce fewer = machine({{4, 31}, {8, 14}});
    for (const Layer& l : layers) {
        const Plan full = choose_tile(l.p, kH100), plan = choose_tile(l.p, fewer);
        const TileSchedule &a = full.schedule, &b = plan.schedule;
        // What the plan for 32 and 16 clusters would take here.
        const Plan kept = plan_with(l.p, fewer, full.bn, a.multicast, a.cluster_splits);
        INFO(std::string(l.name) << ": 128x" << full.bn << " by " << a.cluster_size() << " in "
                                 << full.waves << " waves, " << full.clocks
                                 << " clocks; with fewer clusters " << kept.waves << " waves, "
                                 << kept.clocks << "; so 128x" << plan.bn << " by "
                                 << b.cluster_size() << " in " << plan.waves << ", "
                                 << plan.clocks);
        CHECK(full.waves == 1);
        CHECK(a.cluster_size() >= 4);
        CHECK(kept.waves == 2);
        CHECK(plan.waves == 1);
        CHECK(plan.clocks < kept.clocks);
        CHECK(plan.blocks <= 132);
    }
    // Where no cluster fits, blocks alone do; and one SM is enough.
    const GemmProblem p = product(GemmLayout::nt, 256, 512, 4096);
    const Plan alone = choose_tile(p, machine({{2, 0}, {4, 0}, {8, 0}}));
    CHECK(alone.schedule.cluster_size() == 1);
    CHECK(choose_tile(p, machine({}, 1)).blocks == 1);
    // The grid is whole clusters, at most as many as run at once.
    const Plan three = plan_with(p, machine({{4, 3}}), 64, 2, 2);
    CHECK(three.blocks == 12);
    CHECK(three.waves == 3);  // 8 units
}

TEST_CASE("wgmma plans: the fc layers fill the machine") {
    using namespace gemm_wgmma;
    for (int batch : {128, 256, 512, 1024})
        for (auto [units, inputs] : {std::pair{4096, 9216}, {4096, 4096}, {2048, 9216}})
            for (GemmLayout layout : {GemmLayout::nt, GemmLayout::nn, GemmLayout::tn}) {
                const GemmProblem p = product(layout, layout == GemmLayout::tn ? units : batch,
                                              layout == GemmLayout::nt ? units : inputs,
                                              layout == GemmLayout::nt   ? inputs
                                              : layout == GemmLayout::nn ? units
                                                                         : batch);
                const Plan plan = choose_tile(p, kH100);
                INFO(text_of(p) << ", " << plan.bn << " wide, " << plan.blocks << " blocks");
                CHECK(plan.blocks >= 108);
                CHECK(plan.blocks <= 132);
            }
}

TEST_CASE("wgmma plans: rows with a fixed tile are measured on GPUs, and never taken unmeasured") {
    const ConvProblem p{.n = 8,
                        .h = 13,
                        .w = 13,
                        .c = 64,
                        .k = 192,
                        .r = 3,
                        .s = 3,
                        .pad_h = 1,
                        .pad_w = 1,
                        .dtype = DType::bf16};
    const auto has = [](const std::vector<std::string>& names, const char* name) {
        return std::find(names.begin(), names.end(), name) != names.end();
    };
    const char* const fixed = "wgmma_128x192_sm90";
    for (const int sm : {0, 90}) {
        const bench::BenchCase c = bench::make_case("conv", p, conv_fprop_variants(), sm);
        for (KernelChoice choice : {KernelChoice::automatic, KernelChoice::own}) {
            const std::vector<std::string> names = c.candidates(choice);
            INFO("sm_" << sm);
            CHECK(has(names, "wgmma_sm90"));
            CHECK(has(names, fixed) == (sm == 90));
            CHECK(has(names, "wgmma_single_sm90") == (sm == 90));
            CHECK(c.variants[c.chosen(choice)].preference > 0);
        }
    }
    CHECK(bench::make_case("conv", p, conv_fprop_variants(), 90)
              .candidates(KernelChoice::own)
              .size() > 6);

    // A saved choice of one is taken; by name it is, too.
    KernelSettings k = KernelSettings::parse("own");
    const auto chosen = [&] {
        return std::string(k.bind("conv2.fprop", conv_fprop_variants(), p, 90).variant->name);
    };
    CHECK(chosen() == "wgmma_sm90");
    k.tuning = std::make_shared<Tuning>("test");
    k.tuning->set("conv_fprop", text_of(p), {fixed, 1});
    CHECK(chosen() == fixed);
    k.by_layer_op["conv2.fprop"] = "wgmma_single_sm90";
    CHECK(chosen() == "wgmma_single_sm90");
}

TEST_CASE("wgmma plans: bin/compare runs fixed tiles where they are asked for") {
    if (device_count() == 0 || (device_sm(0) != 0 && device_sm(0) != 90)) return;
    const test::TempDir s;
    const auto compare = [&](const char* variants) {
        const test::Result r =
            test::run(s, test::program("compare") +
                             " conv_fprop --problem n=1,h=13,c=64,k=128,r=3,pad=1 --precision bf16 "
                             "--check-only" +
                             variants);
        INFO(variants << ": " << r.out << r.err);
        CHECK(r.status == 0);
        return r.out;
    };
    const auto rows = [&](const char* variants, const char* name) {
        const std::string out = compare(variants);
        int count = 0;
        for (size_t at = 0; (at = out.find(name, at)) != std::string::npos; ++at) ++count;
        return count;
    };
    CHECK(rows("", "wgmma_") == 2);  // wgmma_sm90, folded_wgmma_sm90
    CHECK(rows(" --variants all", "wgmma_") == 11);
    CHECK(rows(" --variants all", "naive") == 1);
    CHECK(rows(" --variants wgmma_128x128_sm90", "wgmma_") == 1);
    CHECK(rows(" --variants wgmma_single_sm90,wgmma_256x64_sm90", "wgmma_") == 2);
}

TEST_CASE("wgmma plans: an update beside others is planned for their SMs") {
    // The update of AlexNet's fc6: a persistent grid, of one block an SM.
    const GemmProblem update{.layout = GemmLayout::tn,
                             .m = 4096,
                             .n = 9216,
                             .k = 256,
                             .lda = 4096,
                             .ldb = 9216,
                             .ldc = 9216,
                             .dtype = DType::bf16,
                             .bias = true,
                             .sgd = true};
    const SmLimit some(14);
    CHECK(gemm_wgmma::plan_of(update).blocks == 14);
}
