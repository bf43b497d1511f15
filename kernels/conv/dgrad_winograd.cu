// Gradient of the convolution's input by Winograd's transforms: a convolution of dy with the
// filters turned by 180 degrees, F(4x4, 3x3) and F(4x4, 5x5), summed over filters. The gradient of
// ReLU is in the last transform. See fprop_winograd.cu.
#include "kernels/conv/winograd_products.h"
#include "kernels/conv/winograd_sinks.h"
#include "kernels/conv/winograd_transforms.h"

namespace wt::conv_winograd {

static size_t dgrad_workspace(const ConvProblem& p) {
    const Plan plan = dgrad_plan(p);
    return sizeof(float) * (plan.filter_planes() + plan.part(plan.taps) + plan.part(plan.outputs));
}

template <int R>
static void run_dgrad(Unit unit, const ConvProblem& p, const ConvDgradArgs& a) {
    using F = winograd::Winograd<kOut, R>;
    const Plan plan = dgrad_plan(p);
    float* w = static_cast<float*>(a.workspace);
    float* dy = w + plan.filter_planes();
    float* dx = dy + plan.part(plan.outputs);
    const int batch = plan.planes * p.groups;
    by_vector(p.cg(), [&]<int V>() {
        to_planes<typename F::G, V>(
            "conv_dgrad.winograd filters",
            Filters<R, true>{static_cast<const float*>(a.w), p.kg(), p.cg()}, p.groups, p.kg(),
            plan.taps, w, a.stream);
    });
    for (int first = 0; first < plan.tiles; first += plan.at_once) {
        const int tiles = std::min(plan.at_once, plan.tiles - first);
        by_vector(p.kg(), [&]<int V>() {
            to_planes<typename F::BT, V>(
                "conv_dgrad.winograd dy",
                output_tiles(p, a.dy, plan, first, p.pad_h - (R - 1), p.pad_w - (R - 1)), p.groups,
                tiles, plan.outputs, dy, a.stream);
        });
        multiply("conv_dgrad.winograd", unit,
                 {.layout = GemmLayout::nn,
                  .a = dy,
                  .b = w,
                  .lda = static_cast<int>(plan.outputs),
                  .ldb = static_cast<int>(plan.taps),
                  .stride_a = tiles * plan.outputs,
                  .stride_b = plan.filters * plan.taps,
                  .k = p.kg(),
                  .out = planes_output(dx, tiles, p.cg(), plan.taps, batch, p.kg())},
                 a.stream);
        conv_tiled::by_drelu(p, [&]<EpilogueOp E>() {
            by_vector(p.cg(), [&]<int V>() {
                from_planes<typename F::AT, V>(
                    "conv_dgrad.winograd dx", {dx, p.groups, 1, tiles * plan.taps, plan.taps},
                    tiles, p.cg(),
                    Pixels<E>{conv_tiled::dgrad_output<float>(p, a, {}).out, p.cg(), p.h, p.w,
                              plan.tiles_h, plan.tiles_w, first},
                    a.stream);
            });
        });
    }
}

template <Unit U>
static void launch_dgrad(const ConvProblem& p, const ConvDgradArgs& a) {
    by_filter(p, [&]<int R>() { run_dgrad<R>(U, p, a); });
}

extern const ConvDgrad dgrad = {.name = "winograd",
                                .refuses = refuses,
                                .workspace = dgrad_workspace,
                                .launch = launch_dgrad<Unit::lanes>,
                                .suits = dgrad_pays};

extern const ConvDgrad dgrad_mma = {
    .name = "winograd_mma_sm80",
    .refuses = [](const ConvProblem& p) { return p.tf32 ? refuses(p) : kNotRounded; },
    .workspace = dgrad_workspace,
    .launch = launch_dgrad<Unit::tensor>};

}  // namespace wt::conv_winograd
