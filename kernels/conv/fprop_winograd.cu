// Convolution forward by Winograd's transforms, F(4x4, 3x3) and F(4x4, 5x5): a quarter, a sixth of
// the multiplications. Filters and tiles of x to planes, one batch of products, planes to y with
// bias and ReLU (winograd_plan.h). `winograd` multiplies on fp32 lanes, `winograd_mma_sm80` on
// tensor cores, where operands may be rounded to tf32.
#include "kernels/conv/winograd_products.h"
#include "kernels/conv/winograd_sinks.h"
#include "kernels/conv/winograd_transforms.h"

namespace wt::conv_winograd {

static size_t fprop_workspace(const ConvProblem& p) {
    const Plan plan = fprop_plan(p);
    return sizeof(float) * (plan.filter_planes() + plan.part(plan.taps) + plan.part(plan.outputs));
}

template <int R>
static void run_fprop(Unit unit, const ConvProblem& p, const ConvFpropArgs& a) {
    using F = winograd::Winograd<kOut, R>;
    const Plan plan = fprop_plan(p);
    float* w = static_cast<float*>(a.workspace);
    float* x = w + plan.filter_planes();
    float* y = x + plan.part(plan.taps);
    const int batch = plan.planes * p.groups;
    by_vector(p.cg(), [&]<int V>() {
        to_planes<typename F::G, V>(
            "conv_fprop.winograd filters",
            Filters<R, false>{static_cast<const float*>(a.w), p.kg(), p.cg()}, p.groups, p.kg(),
            plan.taps, w, a.stream);
    });
    for (int first = 0; first < plan.tiles; first += plan.at_once) {
        const int tiles = std::min(plan.at_once, plan.tiles - first);
        by_vector(p.cg(), [&]<int V>() {
            to_planes<typename F::BT, V>("conv_fprop.winograd x", input_tiles(p, a.x, plan, first),
                                         p.groups, tiles, plan.taps, x, a.stream);
        });
        multiply("conv_fprop.winograd", unit,
                 {.layout = GemmLayout::nt,
                  .a = x,
                  .b = w,
                  .lda = static_cast<int>(plan.taps),
                  .ldb = static_cast<int>(plan.taps),
                  .stride_a = tiles * plan.taps,
                  .stride_b = plan.filters * plan.taps,
                  .k = p.cg(),
                  .out = planes_output(y, tiles, p.kg(), plan.outputs, batch, p.cg())},
                 a.stream);
        by_vector(p.kg(), [&]<int V>() {
            from_planes<typename F::AT, V>(
                "conv_fprop.winograd y", {y, p.groups, 1, tiles * plan.outputs, plan.outputs},
                tiles, p.kg(),
                Pixels<EpilogueOp::plain>{conv_tiled::fprop_output<float>(p, a, {}, nullptr).out,
                                          p.kg(), p.p(), p.q(), plan.tiles_h, plan.tiles_w, first},
                a.stream);
        });
    }
}

template <Unit U>
static void launch_fprop(const ConvProblem& p, const ConvFpropArgs& a) {
    by_filter(p, [&]<int R>() { run_fprop<R>(U, p, a); });
}

static std::string refuses_fprop(const ConvProblem& p) {
    return p.drelu ? refuses_fusions(p) : refuses(p);
}

extern const ConvFprop fprop = {.name = "winograd",
                                .refuses = refuses_fprop,
                                .workspace = fprop_workspace,
                                .launch = launch_fprop<Unit::lanes>,
                                .suits = fprop_pays};

extern const ConvFprop fprop_mma = {
    .name = "winograd_mma_sm80",
    .refuses = [](const ConvProblem& p) { return p.tf32 ? refuses_fprop(p) : kNotRounded; },
    .workspace = fprop_workspace,
    .launch = launch_fprop<Unit::tensor>};

}  // namespace wt::conv_winograd
