// Convolution by Winograd in plain C++ for a CPU, for virtual GPUs: 3x3 and 5x5 filters of stride
// 1, and strided first layers that are such filters when they are folded. F(6x6, 3x3) and F(4x4,
// 5x5) multiply 5.1 and 6.3 times less than direct sums, less the tiles' edges.
//
// bf16 is read and written; in between, at the points, is fp32. Products of bf16 there would be
// twice as fast, but each rounding would count `growth` times: F(2x2, 3x3), which has the least
// (1.7), saves no more than F(6x6, 3x3) does in fp32 (2.25 x 2 against 5.1), and of F(4x4, 3x3) dx
// and y would be 7 times as far off as a direct sum's, which are rounded once, and dw, which are
// not rounded, thousands of times.
//
// But since bf16's own rounding is 2^-9, tiles may lose more of fp32's 2^-24: F(8x8, 3x3) and
// F(6x6, 5x5) multiply 5.8 and 9 times less. What they lose drowns in the rounding of y and dx, and
// of dw in that which x and dy have undergone.
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
// Of bf16 storage, whose rounding is 2^15 times fp32's: a hundredth of it.
static_assert(winograd::growth<8, 3>() < 330 && winograd::growth<3, 8>() < 330);
static_assert(winograd::growth<6, 5>() < 330 && winograd::growth<5, 6>() < 330);

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
        by_dtype(p.dtype, [&]<class T>() {
            Forward<T>::fprop(p, leaves).run({.in = static_cast<const T*>(a.x),
                                              .filters = static_cast<const T*>(a.w),
                                              .bias = p.bias ? a.bias : nullptr,
                                              .out = static_cast<T*>(a.y),
                                              .mask = nullptr,
                                              .relu = p.relu},
                                             a.workspace);
        });
    }));
}

static void launch_dgrad(const ConvProblem& p, const ConvDgradArgs& a, const Leaves& leaves) {
    WT_CUDA(vgpu::enqueue(a.stream, "conv_dgrad.winograd_cpu", [p, a, &leaves] {
        by_dtype(p.dtype, [&]<class T>() {
            Forward<T>::dgrad(p, leaves).run(
                {.in = static_cast<const T*>(a.dy),
                 .filters = static_cast<const T*>(a.w),
                 .bias = nullptr,
                 .out = static_cast<T*>(a.dx),
                 .mask = p.drelu ? static_cast<const T*>(a.x) : nullptr,
                 .relu = false},
                a.workspace);
        });
    }));
}

static void launch_wgrad(const ConvProblem& p, const ConvWgradArgs& a, const Leaves& leaves) {
    WT_CUDA(vgpu::enqueue(a.stream, "conv_wgrad.winograd_cpu", [p, a, &leaves] {
        by_dtype(p.dtype, [&]<class T>() {
            Gradient<T>(p, leaves).run(static_cast<const T*>(a.x), static_cast<const T*>(a.dy),
                                       a.dw, p.bias ? a.db : nullptr, a.workspace);
        });
    }));
}

static size_t fprop_workspace(const ConvProblem& p, const Leaves& leaves) {
    return by_dtype(p.dtype, [&]<class T>() { return Forward<T>::fprop(p, leaves).workspace(); });
}
static size_t dgrad_workspace(const ConvProblem& p, const Leaves& leaves) {
    return by_dtype(p.dtype, [&]<class T>() { return Forward<T>::dgrad(p, leaves).workspace(); });
}
static size_t wgrad_workspace(const ConvProblem& p, const Leaves& leaves) {
    return by_dtype(p.dtype, [&]<class T>() { return Gradient<T>(p, leaves).workspace(); });
}

template <const Leaves& (*leaves)()>
static constexpr ConvFprop fprop_of(const char* name) {
    return {.name = name,
            .refuses = refuses_fprop,
            .workspace = [](const ConvProblem& p) { return fprop_workspace(p, leaves()); },
            .launch = [](const ConvProblem& p,
                         const ConvFpropArgs& a) { launch_fprop(p, a, leaves()); },
            .cpu = true,
            .suits = suits};
}
template <const Leaves& (*leaves)()>
static constexpr ConvDgrad dgrad_of(const char* name) {
    return {.name = name,
            .refuses = refuses_dgrad,
            .workspace = [](const ConvProblem& p) { return dgrad_workspace(p, leaves()); },
            .launch = [](const ConvProblem& p,
                         const ConvDgradArgs& a) { launch_dgrad(p, a, leaves()); },
            .cpu = true,
            .suits = suits};
}
template <const Leaves& (*leaves)()>
static constexpr ConvWgrad wgrad_of(const char* name) {
    return {.name = name,
            .refuses = refuses_fprop,
            .workspace = [](const ConvProblem& p) { return wgrad_workspace(p, leaves()); },
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
