// Convolution by Winograd in plain C++ for a CPU, for virtual GPUs: fp32, 3x3 and 5x5 filters of
// stride 1, and strided first layers that are such filters when they are folded. F(6x6, 3x3) and
// F(4x4, 5x5) multiply 5.1 and 6.3 times less than direct sums, less the tiles' edges.
#include "kernels/conv/winograd.h"
#include "kernels/conv/winograd_passes_cpu.h"
#ifdef WT_ONEDNN
#include "kernels/vendor/onednn.h"
#endif

namespace wt::conv_winograd_cpu {

using namespace wt::winograd_cpu;

// --kernels auto takes it, so its errors must not be beyond 30 times those of a direct sum.
static_assert(winograd::growth<6, 3>() < 30 && winograd::growth<3, 6>() < 30);
static_assert(winograd::growth<4, 5>() < 30 && winograd::growth<5, 4>() < 30);

static bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static bool has_avx512() {
#ifdef WT_ONEDNN  // one variable, ONEDNN_MAX_CPU_ISA, for both
    if (!onednn::has_avx512()) return false;
#endif
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq");
}

static const Leaves& best_leaves() {
    static const Leaves& leaves = has_avx512() ? avx512_leaves() : avx2_leaves();
    return leaves;
}

static std::string refuses(const ConvProblem& p) {
    if (p.dtype != DType::f32) return "fp32 only";
    const ConvProblem u = unstrided(p);
    if (u.r != u.s || (u.r != 3 && u.r != 5))
        return "filters of 3x3 and 5x5 only, of strided layers when they are folded";
    if (is_strided(p)) {
        if (p.groups > 1) return "strided layers of one group only";
        if (p.planes) return "does not read planes";
        if (u.c > kMostFolded) return "stride_h * stride_w * c must be at most 64";
    }
    if (u.pad_h >= u.r || u.pad_w >= u.s) return "padding must be smaller than the filter";
    if (!has_avx2()) return "needs a CPU with AVX2 and FMA";
    return {};
}

// Where an image lies in its batch decides its tiles, so results change with the batch by their
// rounding, which the other variants' do not. Smaller batches have not been timed and are theirs.
static bool suits(const ConvProblem& p) { return p.n >= 32; }

static std::string refuses_fprop(const ConvProblem& p) {
    return p.drelu ? "no gradient of ReLU in the epilogue" : refuses(p);
}
static std::string refuses_dgrad(const ConvProblem& p) {
    return is_strided(p) ? "stride 1 only" : refuses(p);
}

static void launch_fprop(const ConvProblem& p, const ConvFpropArgs& a, const Leaves& leaves) {
    WT_CUDA(vgpu::enqueue(a.stream, "conv_fprop.winograd_cpu", [p, a, &leaves] {
        Forward::fprop(p, leaves).run({.in = static_cast<const float*>(a.x),
                                       .filters = static_cast<const float*>(a.w),
                                       .bias = p.bias ? a.bias : nullptr,
                                       .out = static_cast<float*>(a.y),
                                       .mask = nullptr,
                                       .relu = p.relu},
                                      a.workspace);
    }));
}

static void launch_dgrad(const ConvProblem& p, const ConvDgradArgs& a, const Leaves& leaves) {
    WT_CUDA(vgpu::enqueue(a.stream, "conv_dgrad.winograd_cpu", [p, a, &leaves] {
        Forward::dgrad(p, leaves).run({.in = static_cast<const float*>(a.dy),
                                       .filters = static_cast<const float*>(a.w),
                                       .bias = nullptr,
                                       .out = static_cast<float*>(a.dx),
                                       .mask = p.drelu ? static_cast<const float*>(a.x) : nullptr,
                                       .relu = false},
                                      a.workspace);
    }));
}

static void launch_wgrad(const ConvProblem& p, const ConvWgradArgs& a, const Leaves& leaves) {
    WT_CUDA(vgpu::enqueue(a.stream, "conv_wgrad.winograd_cpu", [p, a, &leaves] {
        Gradient(p, leaves).run(static_cast<const float*>(a.x), static_cast<const float*>(a.dy),
                                a.dw, p.bias ? a.db : nullptr, a.workspace);
    }));
}

template <const Leaves& (*leaves)()>
static constexpr ConvFprop fprop_of(const char* name) {
    return {
        .name = name,
        .refuses = refuses_fprop,
        .workspace = [](const ConvProblem& p) { return Forward::fprop(p, leaves()).workspace(); },
        .launch = [](const ConvProblem& p,
                     const ConvFpropArgs& a) { launch_fprop(p, a, leaves()); },
        .cpu = true,
        .suits = suits};
}
template <const Leaves& (*leaves)()>
static constexpr ConvDgrad dgrad_of(const char* name) {
    return {
        .name = name,
        .refuses = refuses_dgrad,
        .workspace = [](const ConvProblem& p) { return Forward::dgrad(p, leaves()).workspace(); },
        .launch = [](const ConvProblem& p,
                     const ConvDgradArgs& a) { launch_dgrad(p, a, leaves()); },
        .cpu = true,
        .suits = suits};
}
template <const Leaves& (*leaves)()>
static constexpr ConvWgrad wgrad_of(const char* name) {
    return {.name = name,
            .refuses = refuses_fprop,
            .workspace = [](const ConvProblem& p) { return Gradient(p, leaves()).workspace(); },
            .launch = [](const ConvProblem& p,
                         const ConvWgradArgs& a) { launch_wgrad(p, a, leaves()); },
            .cpu = true,
            .suits = suits};
}

extern const ConvFprop fprop = fprop_of<best_leaves>("winograd_cpu");
extern const ConvDgrad dgrad = dgrad_of<best_leaves>("winograd_cpu");
extern const ConvWgrad wgrad = wgrad_of<best_leaves>("winograd_cpu");
// As on a CPU without AVX-512.
extern const ConvFprop fprop_avx2 = fprop_of<avx2_leaves>("winograd_cpu_avx2");
extern const ConvDgrad dgrad_avx2 = dgrad_of<avx2_leaves>("winograd_cpu_avx2");
extern const ConvWgrad wgrad_avx2 = wgrad_of<avx2_leaves>("winograd_cpu_avx2");

}  // namespace wt::conv_winograd_cpu
