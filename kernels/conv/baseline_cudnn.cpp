// Convolution by cuDNN: NHWC tensors, KRSC filters, the algorithm that its heuristics rank first
// among those that give the same bits every time. fp32 uses plain FMA (no TF32), bf16 the tensor
// cores; sums are fp32.
//
// This is the legacy interface, one call a convolution. Frameworks use the graph interface, whose
// kernels for Hopper these calls need not reach: they may be faster than this baseline.
//
// bf16 needs a bf16 bias (rounded into the workspace), and its filter gradient would come out in
// bf16: ours are fp32, so that one is refused rather than compared at a lower precision.
#include <array>
#include <string>

#include "kernels/conv/problem.h"
#include "kernels/vendor/convert.h"
#include "kernels/vendor/cudnn.h"

namespace wt::conv_cudnn {

using namespace wt::cudnn;

// More scratch than this is not worth the few percent that cuDNN's largest algorithms gain.
static constexpr size_t kMostWorkspace = size_t(1) << 30;

struct Descriptors {
    Tensor x, y, bias;
    Filter w;
    Convolution conv;
    Activation activation;

    explicit Descriptors(const ConvProblem& p)
        : x(nhwc(p.dtype, p.n, p.h, p.w, p.c)),
          y(nhwc(p.dtype, p.n, p.p(), p.q(), p.k)),
          bias(nhwc(p.dtype, 1, 1, 1, p.k)) {
        WT_CUDNN_CALL(cudnnSetFilter4dDescriptor(w, type_of(p.dtype), CUDNN_TENSOR_NHWC, p.k,
                                                 p.cg(), p.r, p.s));
        WT_CUDNN_CALL(cudnnSetConvolution2dDescriptor(conv, p.pad_h, p.pad_w, p.stride_h,
                                                      p.stride_w, 1, 1, CUDNN_CROSS_CORRELATION,
                                                      CUDNN_DATA_FLOAT));
        WT_CUDNN_CALL(cudnnSetConvolutionGroupCount(conv, p.groups));
        set_math(p.dtype == DType::f32 ? CUDNN_FMA_MATH : CUDNN_TENSOR_OP_MATH);
        WT_CUDNN_CALL(cudnnSetActivationDescriptor(
            activation, p.relu ? CUDNN_ACTIVATION_RELU : CUDNN_ACTIVATION_IDENTITY,
            // the fused call takes no other
            CUDNN_NOT_PROPAGATE_NAN, 0.0));
    }
    void set_math(cudnnMathType_t math) { WT_CUDNN_CALL(cudnnSetConvolutionMathType(conv, math)); }
};

template <class Algorithm>
struct ConvPlan : Descriptors {
    Algorithm algorithm{};
    size_t scratch = 0;  // cuDNN's own; other uses of the workspace come behind it

    // `ranked` are cuDNN's proposals, best first; `fits(algorithm)` says whether the call to be
    // made takes it.
    template <class Perf, class Fits>
    ConvPlan(const ConvProblem& p, Descriptors&& d, const Perf* ranked, int count, Fits&& fits)
        : Descriptors(std::move(d)) {
        for (int i = 0; i < count; ++i) {
            const Perf& r = ranked[i];
            if (r.status != CUDNN_STATUS_SUCCESS || r.determinism != CUDNN_DETERMINISTIC ||
                r.memory > kMostWorkspace || !fits(r.algo))
                continue;
            if (p.dtype == DType::f32 && r.mathType != CUDNN_FMA_MATH &&
                r.mathType != CUDNN_DEFAULT_MATH)
                continue;
            if (p.dtype != DType::f32) set_math(r.mathType);
            algorithm = r.algo;
            scratch = r.memory;
            return;
        }
        throw Error("cuDNN has no deterministic algorithm for this convolution in NHWC");
    }
};

using FpropPlan = ConvPlan<cudnnConvolutionFwdAlgo_t>;
using DgradPlan = ConvPlan<cudnnConvolutionBwdDataAlgo_t>;
using WgradPlan = ConvPlan<cudnnConvolutionBwdFilterAlgo_t>;

static FpropPlan make_fprop(const ConvProblem& p) {
    Descriptors d(p);
    std::array<cudnnConvolutionFwdAlgoPerf_t, CUDNN_CONVOLUTION_FWD_ALGO_COUNT> ranked{};
    int count = 0;
    WT_CUDNN_CALL(cudnnGetConvolutionForwardAlgorithm_v7(
        handle(), d.x, d.w, d.conv, d.y, int(ranked.size()), &count, ranked.data()));
    // With a bias but no ReLU the fused call exists for one algorithm only.
    const bool only_precomputed = p.bias && !p.relu;
    return FpropPlan(p, std::move(d), ranked.data(), count, [&](cudnnConvolutionFwdAlgo_t a) {
        return !only_precomputed || a == CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
    });
}

static DgradPlan make_dgrad(const ConvProblem& p) {
    Descriptors d(p);
    std::array<cudnnConvolutionBwdDataAlgoPerf_t, CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT> ranked{};
    int count = 0;
    WT_CUDNN_CALL(cudnnGetConvolutionBackwardDataAlgorithm_v7(
        handle(), d.w, d.y, d.conv, d.x, int(ranked.size()), &count, ranked.data()));
    return DgradPlan(p, std::move(d), ranked.data(), count, [](auto) { return true; });
}

static WgradPlan make_wgrad(const ConvProblem& p) {
    Descriptors d(p);
    std::array<cudnnConvolutionBwdFilterAlgoPerf_t, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT>
        ranked{};
    int count = 0;
    WT_CUDNN_CALL(cudnnGetConvolutionBackwardFilterAlgorithm_v7(
        handle(), d.x, d.y, d.conv, d.w, int(ranked.size()), &count, ranked.data()));
    return WgradPlan(p, std::move(d), ranked.data(), count, [](auto) { return true; });
}

// The plan for the current device: the heuristics look at it.
template <class Plan, class Make>
static std::shared_ptr<const Plan> plan_of(const ConvProblem& p, Make&& make) {
    static Plans<std::pair<int, ConvProblem>, Plan> plans;
    return plans.get({current_device(), p}, [&] { return make(p); });
}
static auto fprop_plan(const ConvProblem& p) { return plan_of<FpropPlan>(p, make_fprop); }
static auto dgrad_plan(const ConvProblem& p) { return plan_of<DgradPlan>(p, make_dgrad); }
static auto wgrad_plan(const ConvProblem& p) { return plan_of<WgradPlan>(p, make_wgrad); }

template <class MakePlan>
static std::string refuses(const ConvProblem& p, MakePlan&& make_plan) {
    if (std::string why = refuses_fusions(p); !why.empty()) return why;
    try {
        make_plan(p);
    } catch (const Error& e) {
        return e.what();
    }
    return {};
}

// The workspace ends with the bias in bf16, behind cuDNN's scratch, aligned as cudaMalloc aligns.
static size_t bias_offset(size_t scratch) { return (scratch + 255) / 256 * 256; }

static size_t fprop_workspace(const ConvProblem& p) {
    const size_t scratch = fprop_plan(p)->scratch;
    return p.bias && p.dtype == DType::bf16 ? bias_offset(scratch) + p.k * sizeof(bf16) : scratch;
}

static void launch_fprop(const ConvProblem& p, const ConvFpropArgs& a) {
    const auto plan = fprop_plan(p);
    const auto& d = *plan;
    const auto h = handle(a.stream);
    if (!p.bias) {
        WT_CUDNN_CALL(cudnnConvolutionForward(h, &kOne, d.x, a.x, d.w, a.w, d.conv, d.algorithm,
                                              a.workspace, d.scratch, &kZero, d.y, a.y));
        if (p.relu)
            WT_CUDNN_CALL(
                cudnnActivationForward(h, d.activation, &kOne, d.y, a.y, &kZero, d.y, a.y));
        return;
    }
    const void* bias = a.bias;
    if (p.dtype == DType::bf16) {
        bf16* rounded =
            reinterpret_cast<bf16*>(static_cast<char*>(a.workspace) + bias_offset(d.scratch));
        vendor::round_to_bf16(a.bias, rounded, p.k, a.stream);
        bias = rounded;
    }
    // The call can add a second tensor; times zero it is not read, but the interface wants one: y
    // itself.
    WT_CUDNN_CALL(cudnnConvolutionBiasActivationForward(
        h, &kOne, d.x, a.x, d.w, a.w, d.conv, d.algorithm, a.workspace, d.scratch, &kZero, d.y, a.y,
        d.bias, bias, d.activation, d.y, a.y));
}

static void launch_dgrad(const ConvProblem& p, const ConvDgradArgs& a) {
    const auto plan = dgrad_plan(p);
    const auto& d = *plan;
    WT_CUDNN_CALL(cudnnConvolutionBackwardData(handle(a.stream), &kOne, d.w, a.w, d.y, a.dy, d.conv,
                                               d.algorithm, a.workspace, d.scratch, &kZero, d.x,
                                               a.dx));
}

static void launch_wgrad(const ConvProblem& p, const ConvWgradArgs& a) {
    const auto plan = wgrad_plan(p);
    const auto& d = *plan;
    const auto h = handle(a.stream);
    WT_CUDNN_CALL(cudnnConvolutionBackwardFilter(h, &kOne, d.x, a.x, d.y, a.dy, d.conv, d.algorithm,
                                                 a.workspace, d.scratch, &kZero, d.w, a.dw));
    if (p.bias)
        WT_CUDNN_CALL(cudnnConvolutionBackwardBias(h, &kOne, d.y, a.dy, &kZero, d.bias, a.db));
}

extern const ConvFprop fprop = {
    .name = "cudnn",
    .refuses = [](const ConvProblem& p) { return refuses(p, fprop_plan); },
    .workspace = fprop_workspace,
    .launch = launch_fprop,
    .baseline = true,
};
extern const ConvDgrad dgrad = {
    .name = "cudnn",
    .refuses = [](const ConvProblem& p) { return refuses(p, dgrad_plan); },
    .workspace = [](const ConvProblem& p) { return dgrad_plan(p)->scratch; },
    .launch = launch_dgrad,
    .baseline = true,
};
extern const ConvWgrad wgrad = {
    .name = "cudnn",
    .refuses = [](const ConvProblem& p) -> std::string {
        if (p.dtype != DType::f32)
            return "cuDNN writes bf16 filter gradients of bf16 activations; ours are fp32";
        return refuses(p, wgrad_plan);
    },
    .workspace = [](const ConvProblem& p) { return wgrad_plan(p)->scratch; },
    .launch = launch_wgrad,
    .baseline = true,
};

}  // namespace wt::conv_cudnn
