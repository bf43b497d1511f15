// Gradient of the filters by Winograd's transforms, F(3x3, 4x4) and F(5x5, 4x4): a tile of dy is
// what a filter is in fprop, and x's tiles are the same as there. The products sum over tiles; they
// are few and long, so tiles are split over blocks, and partial sums added in order on the way into
// the last transform: the same bits in every run. The bias gradient is summed beside.
#include "kernels/conv/winograd_products.h"
#include "kernels/conv/winograd_sinks.h"
#include "kernels/conv/winograd_transforms.h"
#include "kernels/lrn_pool/bias_sum.h"

namespace wt::conv_winograd {

// ---- db -----------------------------------------------------------------------------------------

constexpr int kPixels = 64;  // that one thread adds up

// partial[segment, k] = the sum of dy over the segment's pixels.
template <int V>
__global__ void sum_pixels_kernel(const float* dy, int64_t pixels, int k, Items work,
                                  float* partial) {
    for_each_item(
        work, [&](unsigned i) __attribute__((always_inline)) {
            const Items::At at = work.at<V>(i);
            const int64_t first = int64_t(at.item) * kPixels, end = min(first + kPixels, pixels);
            Vec<V> sum = splat<V>(0);
            for (int64_t pixel = first; pixel < end; ++pixel)
                sum = sum + load<V>(dy + pixel * k + at.channel);
            store(partial + int64_t(i) * V, sum);
        });
}

static int segments(const ConvProblem& p) {
    return static_cast<int>(ceil_div(int64_t(p.n) * p.p() * p.q(), kPixels));
}

static void bias_gradient(const ConvProblem& p, const float* dy, float* db, float* partial,
                          cudaStream_t stream) {
    by_vector(p.k, [&]<int V>() {
        const Items work = items_of<V>(1, segments(p), p.k);
        launch("conv_wgrad.winograd db", items_shape(work, stream), sum_pixels_kernel<V>, dy,
               int64_t(p.n) * p.p() * p.q(), p.k, work, partial);
    });
    launch_lrn_pool_bias_sum(segments(p), p.k, partial, db, stream);
}

// ---- dw -----------------------------------------------------------------------------------------

// Where the partial sums go; the split is of one part.
static SplitKOutput<float> partial_output(const ConvProblem& p, const Plan& plan, float* partials) {
    const int batch = plan.planes * p.groups;
    SplitKOutput<float> r;
    r.out.cols = p.cg();
    r.rows = p.kg();
    r.groups = batch;
    r.split = split_of_products(p.kg(), p.cg(), plan.at_once, batch);
    r.partials = partials;
    return r;
}

static size_t wgrad_workspace(const ConvProblem& p) {
    const Plan plan = fprop_plan(p);
    const SplitKOutput<float> r = partial_output(p, plan, nullptr);
    const int64_t partials = r.groups * r.split.splits * plan.parts() * r.partial_size(),
                  bias = p.bias ? int64_t(segments(p)) * p.k : 0;
    return sizeof(float) * (plan.part(plan.taps) + plan.part(plan.outputs) + partials + bias);
}

template <int R>
static void run_wgrad(Unit unit, const ConvProblem& p, const ConvWgradArgs& a) {
    using F = winograd::Winograd<R, kOut>;
    const Plan plan = fprop_plan(p);
    float* x = static_cast<float*>(a.workspace);
    float* dy = x + plan.part(plan.taps);
    SplitKOutput<float> r = partial_output(p, plan, dy + plan.part(plan.outputs));
    const int splits = r.split.splits, all = splits * plan.parts();
    float* partials = r.partials;
    if (p.bias)
        bias_gradient(p, static_cast<const float*>(a.dy), a.db,
                      partials + r.groups * all * r.partial_size(), a.stream);
    r.split.splits = all;
    for (int first = 0; first < plan.tiles; first += plan.at_once) {
        const int tiles = std::min(plan.at_once, plan.tiles - first);
        by_vector(p.cg(), [&]<int V>() {
            to_planes<typename F::BT, V>("conv_wgrad.winograd x", input_tiles(p, a.x, plan, first),
                                         p.groups, tiles, plan.taps, x, a.stream);
        });
        by_vector(p.kg(), [&]<int V>() {
            to_planes<typename F::G, V>("conv_wgrad.winograd dy",
                                        output_tiles(p, a.dy, plan, first, 0, 0), p.groups, tiles,
                                        plan.outputs, dy, a.stream);
        });
        // The last part may have fewer tiles, and splits without any, whose sums are zeros.
        r.split.total_steps = static_cast<int>(ceil_div(tiles, 16));
        r.split.steps = static_cast<int>(ceil_div(r.split.total_steps, splits));
        multiply("conv_wgrad.winograd", unit,
                 {.layout = GemmLayout::tn,
                  .a = dy,
                  .b = x,
                  .lda = static_cast<int>(plan.outputs),
                  .ldb = static_cast<int>(plan.taps),
                  .stride_a = tiles * plan.outputs,
                  .stride_b = tiles * plan.taps,
                  .k = tiles,
                  .out = r,
                  .splits = splits},
                 a.stream);
        r.partials += splits * r.partial_size();
    }
    by_vector(p.cg(), [&]<int V>() {
        from_planes<typename F::AT, V>(
            "conv_wgrad.winograd dw", {partials, p.groups, all, r.partial_size(), r.partial_ld()},
            p.kg(), p.cg(), FilterTaps<R>{a.dw, p.kg(), p.cg()}, a.stream);
    });
}

template <Unit U>
static void launch_wgrad(const ConvProblem& p, const ConvWgradArgs& a) {
    by_filter(p, [&]<int R>() { run_wgrad<R>(U, p, a); });
}

static std::string refuses_wgrad(const ConvProblem& p) {
    return p.drelu ? refuses_fusions(p) : refuses(p);
}

extern const ConvWgrad wgrad = {.name = "winograd",
                                .refuses = refuses_wgrad,
                                .workspace = wgrad_workspace,
                                .launch = launch_wgrad<Unit::lanes>,
                                .suits = fprop_pays};

extern const ConvWgrad wgrad_mma = {
    .name = "winograd_mma_sm80",
    .refuses = [](const ConvProblem& p) { return p.tf32 ? refuses_wgrad(p) : kNotRounded; },
    .workspace = wgrad_workspace,
    .launch = launch_wgrad<Unit::tensor>};

}  // namespace wt::conv_winograd
