// What the model of a kernel's time takes for a launch's plan (kernels/product_plan.h) is what the
// launch does: the grids of all convolutions and products of two networks, captured, not run.
#include <doctest/doctest.h>

#include <cstdio>
#include <string>
#include <vector>

#include "host/cuda/buffer.h"
#include "host/cuda/stream.h"
#include "host/model/prediction.h"
#include "host/net/problem_text.h"
#include "host/parallel/layout.h"
#include "host/vgpu/runtime/runtime.h"
#include "kernels/conv/winograd_plan.h"
#include "kernels/gemm/wgmma_plan.h"
#include "kernels/product_plan.h"

using namespace wt;

namespace {

// The kernels that `launch` puts on a stream, which do not run.
template <class F>
std::vector<vgpu::Grid> grids(F&& launch) {
    const Stream stream(0);
    WT_CUDA(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal));
    launch(stream.get());
    cudaGraph_t graph = nullptr;
    WT_CUDA(cudaStreamEndCapture(stream.get(), &graph));
    size_t count = 0;
    WT_CUDA(cudaGraphGetNodes(graph, nullptr, &count));
    std::vector<cudaGraphNode_t> nodes(count);
    WT_CUDA(cudaGraphGetNodes(graph, nodes.data(), &count));
    std::vector<vgpu::Grid> all;
    for (const cudaGraphNode_t node : nodes)
        if (const auto* kernel =
                std::get_if<vgpu::Kernel>(&reinterpret_cast<vgpu::Node*>(node)->work))
            all.push_back(kernel->grid);
    WT_CUDA(cudaGraphDestroy(graph));
    return all;
}
template <class F>
vgpu::Grid first_grid(F&& launch) {
    return grids(launch).at(0);
}

template <class Problem, class Args, class Point>
void check_grids(Table<Problem, Args> table, const std::string& text, Point&& point_at,
                 const std::vector<std::pair<const char*, ProductPlan>>& plans) {
    const auto problem = problem_of<Problem>(text);
    for (const auto& [name, plan] : plans) {
        const auto* variant = find(table, name);
        REQUIRE(variant);
        if (!variant->refuses(problem).empty()) continue;
        CAPTURE(name);
        CAPTURE(text);
        const vgpu::Grid grid = first_grid([&](cudaStream_t s) {
            Args args = point_at(problem);
            args.stream = s;
            variant->launch(problem, args);
        });
        CHECK(int64_t(grid.grid.x) * grid.grid.y * grid.grid.z == plan.blocks);
        const std::string variant_name = name;
        if (variant_name.find("wgmma") != std::string::npos && (plan.longest == 0 || plan.tail > 0))
            CHECK(static_cast<int>(grid.cluster.x) ==
                  plan.multicast * (std::string(Args::operation) == "gemm" ? plan.splits : 1));
    }
}

// The grids that the model works out by itself, as the words of its plan say them.
template <class Problem, class Args>
void check_words(Table<Problem, Args> table, const char* name, const Launch& l, Args args) {
    const auto problem = problem_of<Problem>(l.problem);
    const auto* variant = find(table, name);
    REQUIRE(variant);
    if (!variant->refuses(problem).empty()) return;
    const std::string plan =
        model::predict(model::gpu_of("h200"), l.operation, name, l.problem).plan;
    CAPTURE(plan);
    CAPTURE(l.problem);
    const vgpu::Grid grid = first_grid([&](cudaStream_t s) {
        args.stream = s;
        variant->launch(problem, args);
    });
    int a = 0, b = 0, warps = 0;
    if (std::sscanf(plan.c_str(), "%d x %d blocks an image of %d warps", &a, &b, &warps) == 3) {
        CHECK(static_cast<int>(grid.grid.x) == problem.n * a * b);
        CHECK(static_cast<int>(grid.block.x) == 32 * warps);
    } else if (std::sscanf(plan.c_str(), "%d runs in %d ranges", &a, &b) == 2) {
        CHECK(static_cast<int>(grid.grid.x) == b + b / 2);
    } else {
        CHECK(std::sscanf(plan.c_str(), "%d blocks, %d rounds", &a, &b) == 2);
        CHECK(static_cast<int>(grid.grid.x) == a);
    }
}

// The products of Winograd's planes are one of several kernels of each part of the tiles. All parts
// but the last are as large.
template <class Problem, class Args>
void check_winograd(Table<Problem, Args> table, ConvPass pass, const std::string& text, Args args) {
    const auto problem = problem_of<Problem>(text);
    const int64_t before = conv_winograd::part_bytes;
    conv_winograd::part_bytes = conv_winograd::kPartBytesOfGpu;
    const WinogradPlan plan = conv_winograd_plan(pass, problem);
    CAPTURE(text);
    int launches = 0, products = 0;
    for (const vgpu::Grid& grid : grids([&](cudaStream_t s) {
             args.stream = s;
             find(table, "winograd")->launch(problem, args);
         })) {
        ++launches;
        // Transforms have a flat grid.
        if (static_cast<int>(grid.grid.z) != plan.edge * plan.edge * problem.groups) continue;
        if (++products < plan.parts || plan.parts == 1)
            CHECK(int64_t(grid.grid.x) * grid.grid.y * grid.grid.z == plan.products.blocks);
    }
    CHECK(products == plan.parts);
    CHECK(launches ==
          (pass == ConvPass::wgrad ? 3 * plan.parts + 1 + 2 * problem.bias : 3 * plan.parts + 1));
    conv_winograd::part_bytes = before;
}

void check_step(const std::string& net, int batch, DType dtype) {
    WorkerConfig c;
    c.net = make_net(net, {});
    c.batch = batch;
    c.dtype = dtype;
    c.sm = 90;
    const Layout layout(c);
    DeviceBuffer<std::byte> bytes(0, 1 << 20, "an address");
    void* p = bytes.data();
    auto* f = reinterpret_cast<float*>(p);
    auto* places = reinterpret_cast<uint8_t*>(p);
    int products = 0;
    for (const Step& s : layout.training_steps) {
        const auto* l = std::get_if<Launch>(&s.action);
        if (!l) continue;
        const std::string& text = l->problem;
        const auto conv = [&](ConvPass pass) {
            const auto problem = problem_of<ConvProblem>(text);
            ++products;
            std::vector<std::pair<const char*, ProductPlan>> plans = {
                {"tiled", conv_blocks_plan(pass, problem, false)}};
            if (dtype == DType::bf16 && problem.fold == 1) {
                plans.emplace_back("wgmma_sm90", conv_wgmma_plan(pass, problem));
                plans.emplace_back("wgmma_128x192_sm90",
                                   conv_wgmma_plan(pass, problem, {.bm = 128, .bn = 192}));
                plans.emplace_back("wgmma_256x128_sm90",
                                   conv_wgmma_plan(pass, problem, {.bm = 256, .bn = 128}));
                plans.emplace_back("wgmma_single_sm90",
                                   conv_wgmma_plan(pass, problem, {.multicast = 1}));
                if (pass != ConvPass::wgrad) {
                    plans.emplace_back("wgmma_whole_sm90",
                                       conv_wgmma_plan(pass, problem, {.whole = true}));
                    plans.emplace_back("wgmma_split_sm90",
                                       conv_wgmma_plan(pass, problem, {.split = true}));
                    plans.emplace_back("wgmma_level_sm90",
                                       conv_wgmma_plan(pass, problem, {.level = true}));
                }
                plans.emplace_back("mma_sm80", conv_blocks_plan(pass, problem, true));
                if (pass == ConvPass::dgrad) {
                    const ProductPlan views = conv_views_plan(problem);
                    plans.emplace_back("views_wgmma_sm90", views);
                    plans.emplace_back("views_swizzled_wgmma_sm90", views);
                }
            }
            return plans;
        };
        if (l->operation == "conv_fprop")
            check_grids(
                conv_fprop_variants(), text,
                [&](const auto&) {
                    return ConvFpropArgs{
                        .x = p, .w = p, .bias = f, .y = p, .workspace = p, .stream = nullptr};
                },
                conv(ConvPass::fprop));
        if (l->operation == "conv_dgrad")
            check_grids(
                conv_dgrad_variants(), text,
                [&](const auto&) {
                    return ConvDgradArgs{
                        .dy = p, .w = p, .dx = p, .workspace = p, .stream = nullptr, .x = p};
                },
                conv(ConvPass::dgrad));
        if (l->operation == "conv_wgrad")
            check_grids(
                conv_wgrad_variants(), text,
                [&](const auto&) {
                    return ConvWgradArgs{
                        .x = p, .dy = p, .dw = f, .db = f, .workspace = p, .stream = nullptr};
                },
                conv(ConvPass::wgrad));
        if (l->operation == "lrn_pool_forward")
            check_words(lrn_pool_forward_variants(), "fused", *l,
                        LrnPoolForwardArgs{
                            .x = p, .y = p, .argmax = places, .workspace = p, .stream = nullptr});
        if (l->operation == "lrn_pool_backward")
            check_words(lrn_pool_backward_variants(), "fused", *l,
                        LrnPoolBackwardArgs{.x = p,
                                            .y = p,
                                            .dy = p,
                                            .argmax = places,
                                            .dx = p,
                                            .db = f,
                                            .workspace = p,
                                            .stream = nullptr});
        if (l->operation == "conv_wgrad" && dtype == DType::bf16 &&
            problem_of<ConvProblem>(text).fold > 1)
            check_words(conv_wgrad_variants(), "folded_wgmma_sm90", *l,
                        ConvWgradArgs{
                            .x = p, .dy = p, .dw = f, .db = f, .workspace = p, .stream = nullptr});
        if (l->operation == "gemm") {
            const auto problem = problem_of<GemmProblem>(text);
            ++products;
            std::vector<std::pair<const char*, ProductPlan>> plans = {
                {"tiled", gemm_blocks_plan(problem, false)}};
            if (dtype == DType::bf16) {
                plans.emplace_back("wgmma_sm90", gemm_wgmma_plan(problem));
                for (const auto& [name, width] :
                     {std::pair("wgmma_128x256_sm90", 256), std::pair("wgmma_128x160_sm90", 160),
                      std::pair("wgmma_128x64_sm90", 64)})
                    if (gemm_wgmma::has_width(problem, width))
                        plans.emplace_back(name, gemm_wgmma_plan(problem, {.bn = width}));
                plans.emplace_back("wgmma_single_sm90", gemm_wgmma_plan(problem, {.multicast = 1}));
                plans.emplace_back("mma_sm80", gemm_blocks_plan(problem, true));
            }
            check_grids(
                gemm_variants(), text,
                [&](const GemmProblem& g) {
                    GemmArgs a{.a = p,
                               .b = p,
                               .bias = f,
                               .c = p,
                               .bias_grad = f,
                               .workspace = p,
                               .stream = nullptr};
                    a.state = reinterpret_cast<const StepState*>(p);
                    a.mask = p;
                    a.ld_mask = g.n;
                    a.momentum = f;
                    a.w_bf16 = reinterpret_cast<bf16*>(p);
                    return a;
                },
                plans);
        }
    }
    CHECK(products >= 20);
}

}  // namespace

TEST_CASE("product plans: the grids of launches") {
    for (const char* net : {"alexnet", "owt"})
        for (const int batch : {5, 128, 256}) {
            check_step(net, batch, DType::bf16);
            check_step(net, batch, DType::f32);
        }
}

TEST_CASE("product plans: the products of Winograd's planes") {
    DeviceBuffer<std::byte> bytes(0, 1 << 20, "an address");
    void* p = bytes.data();
    auto* f = reinterpret_cast<float*>(p);
    for (const char* problem :
         {"n=256,h=27,c=96,k=256,r=5,pad=2", "n=128,h=13,c=384,k=384,r=3,pad=1",
          "n=5,h=13,c=384,k=256,r=3,pad=1,groups=2", "n=300,h=30,c=24,k=40,r=5,pad=1,bias=0"}) {
        check_winograd(
            conv_fprop_variants(), ConvPass::fprop, problem,
            ConvFpropArgs{.x = p, .w = p, .bias = f, .y = p, .workspace = p, .stream = nullptr});
        check_winograd(
            conv_dgrad_variants(), ConvPass::dgrad, problem,
            ConvDgradArgs{.dy = p, .w = p, .dx = p, .workspace = p, .stream = nullptr, .x = p});
        check_winograd(
            conv_wgrad_variants(), ConvPass::wgrad, problem,
            ConvWgradArgs{.x = p, .dy = p, .dw = f, .db = f, .workspace = p, .stream = nullptr});
    }
}
