// A strided first layer, folded to stride 1 and done by Winograd: fprop and wgrad.
//
// A block of stride_h x stride_w pixels becomes one pixel of stride_h * stride_w * c channels, so
// that AlexNet's conv1 (11x11, stride 4, 3 channels) is a 3x3 convolution of stride 1 over 48
// channels, with 19% more multiplications (taps 11 to 144 zeros) of which Winograd then saves three
// quarters. The folded image keeps fewer wasted vector lanes too: 48 channels fill registers, 3 do
// not. Measured at batch 128, GFLOP/s of the unfolded count, direct -> folded: fprop 220 -> 430,
// wgrad 185 -> 330.
//
// Images go 8 at a time: their folded copies, 5 MB, stay in the cache between fold and convolution
// (all 128 at once: 22% slower). Smaller images go more at a time, the filters' transform being
// paid for each part. wgrad adds the parts' sums in their order, so results repeat bit for bit.
#include <algorithm>
#include <cstring>

#include "kernels/conv/onednn.h"

namespace wt::conv_fold_onednn {

using namespace wt::onednn;
using dnnl::algorithm;
using dnnl::prop_kind;

static constexpr int kBlock = 16;          // channels of a block in nChw16c
static constexpr size_t kCache = 6 << 20;  // bytes of folded images at a time

static int ceil_div(int a, int b) { return (a + b - 1) / b; }

// The folded convolution of one part of the batch: no padding, stride 1.
struct Folded {
    int images, h, w, c, taps_h, taps_w;
    explicit Folded(const ConvProblem& p)
        : images(1),
          h(p.p() - 1 + ceil_div(p.r, p.stride_h)),
          w(p.q() - 1 + ceil_div(p.s, p.stride_w)),
          c(p.stride_h * p.stride_w * p.c),
          taps_h(ceil_div(p.r, p.stride_h)),
          taps_w(ceil_div(p.s, p.stride_w)) {
        for (int d = 1; d <= p.n && size_t(d) * h * w * c * sizeof(float) <= kCache; ++d)
            if (p.n % d == 0) images = d;
    }
    size_t x_count() const { return size_t(images) * h * w * c; }
    size_t w_count(int k) const { return size_t(k) * taps_h * taps_w * c; }
};

// Where things lie in the workspace, in floats; the plan's own part comes last.
struct Areas {
    size_t x = 0, w, db, plan;
    explicit Areas(const ConvProblem& p) {
        const Folded f(p);
        auto pages = [](size_t floats) { return (floats + 1023) / 1024 * 1024; };
        w = pages(f.x_count());
        db = w + pages(f.w_count(p.k));
        plan = db + pages(p.k);
    }
};

// folded[n, block, i, j, lane] = x[n, i*stride_h - pad_h + dh, j*stride_w - pad_w + dw, c] with the
// channel block*16 + lane = (dh*stride_w + dw)*C + c; zero outside the image.
static void fold_images(const ConvProblem& p, const Folded& f, const float* x, float* folded) {
    const int blocks = f.c / kBlock, run = p.stride_w * p.c;
#pragma omp parallel for collapse(2) schedule(static)
    for (int n = 0; n < f.images; ++n)
        for (int i = 0; i < f.h; ++i) {
            alignas(64) float pixel[512];
            for (int j = 0; j < f.w; ++j) {
                const int left = j * p.stride_w - p.pad_w;  // first column of the run
                const int from = std::clamp(-left, 0, p.stride_w),
                          to = std::clamp(p.w - left, from, p.stride_w);
                for (int dh = 0; dh < p.stride_h; ++dh) {
                    const int row = i * p.stride_h - p.pad_h + dh;
                    float* out = pixel + dh * run;
                    if (row < 0 || row >= p.h || from == to) {
                        std::memset(out, 0, run * sizeof(float));
                        continue;
                    }
                    const float* in = x + ((int64_t(n) * p.h + row) * p.w + left + from) * p.c;
                    std::memset(out, 0, from * p.c * sizeof(float));
                    std::memcpy(out + from * p.c, in, (to - from) * p.c * sizeof(float));
                    std::memset(out + to * p.c, 0, (p.stride_w - to) * p.c * sizeof(float));
                }
                for (int b = 0; b < blocks; ++b)
                    std::memcpy(folded + (((int64_t(n) * blocks + b) * f.h + i) * f.w + j) * kBlock,
                                pixel + b * kBlock, kBlock * sizeof(float));
            }
        }
}

// Calls f(index into w, index into the folded filters) for each weight.
template <class F>
static void each_weight(const ConvProblem& p, const Folded& f, F&& each) {
    int64_t i = 0;
    for (int k = 0; k < p.k; ++k)
        for (int r = 0; r < p.r; ++r)
            for (int s = 0; s < p.s; ++s) {
                int64_t to =
                    ((int64_t(k) * f.taps_h + r / p.stride_h) * f.taps_w + s / p.stride_w) * f.c +
                    (r % p.stride_h * p.stride_w + s % p.stride_w) * p.c;
                for (int c = 0; c < p.c; ++c) each(i++, to++);
            }
}

static ConvLayouts folded_layouts(const ConvProblem& p, const Folded& f) {
    return {.x = Desc({f.images, f.c, f.h, f.w}, dnnl::memory::data_type::f32,
                      dnnl::memory::format_tag::nChw16c),
            .w = krsc(p.k, f.taps_h, f.taps_w, f.c, DType::f32),
            .y = nhwc(f.images, p.p(), p.q(), p.k, DType::f32),
            .bias = p.bias ? bias_of(p.k) : Desc()};
}

static dnnl::convolution_forward::primitive_desc forward(const ConvProblem& p,
                                                         const ConvLayouts& o) {
    return {{prop_kind::forward_training, algorithm::convolution_winograd, o.x, any_like(o.w),
             o.bias, any_like(o.y), Dims{1, 1}, Dims{0, 0}, Dims{0, 0}},
            fprop_attr(p.relu),
            engine()};
}

static Plan make_fprop(const ConvProblem& p) {
    const ConvLayouts o = folded_layouts(p, Folded(p));
    auto pd = forward(p, o);
    return fprop_plan_of(pd, o, p.bias);
}

static Plan make_wgrad(const ConvProblem& p) {
    const ConvLayouts o = folded_layouts(p, Folded(p));
    dnnl::convolution_backward_weights::primitive_desc pd(
        {algorithm::convolution_winograd, o.x, any_like(o.w), o.bias, any_like(o.y), Dims{1, 1},
         Dims{0, 0}, Dims{0, 0}},
        user_scratchpad(), engine(), forward(p, o));
    return wgrad_plan_of(pd, o, p.bias);
}

static auto fprop_plan(const ConvProblem& p) {
    static Cache<ConvProblem> plans;
    return plans.get(p, "conv_fprop.onednn_fold", [&] { return make_fprop(p); });
}
static auto wgrad_plan(const ConvProblem& p) {
    static Cache<ConvProblem> plans;
    return plans.get(p, "conv_wgrad.onednn_fold", [&] { return make_wgrad(p); });
}

template <class MakePlan>
static std::string refuses(const ConvProblem& p, MakePlan&& make_plan) {
    if (std::string why = refuses_fusions(p); !why.empty()) return why;
    if (p.dtype != DType::f32) return "fp32 only";
    if (p.groups != 1) return "no groups";
    if (p.stride_h == 1 && p.stride_w == 1) return "strided layers only";
    const Folded f(p);
    if (f.taps_h != 3 || f.taps_w != 3) return "the folded filter must be 3x3";
    if (f.c % kBlock || f.c > 512 || p.k % kBlock)
        return "stride_h * stride_w * c and k must be multiples of 16, the first at most 512";
    try {
        make_plan(p);
    } catch (const Error&) {
        return "oneDNN has no Winograd kernel for this CPU (AVX-512 only)";
    }
    return {};
}

static void launch_fprop(const ConvProblem& p, const ConvFpropArgs& a) {
    enqueue(a.stream, "conv_fprop.onednn_fold", [plan = fprop_plan(p), p, a] {
        const Folded f(p);
        const Areas at(p);
        float* ws = static_cast<float*>(a.workspace);
        float* filters = ws + at.w;
        const float* w = static_cast<const float*>(a.w);
        std::memset(filters, 0, f.w_count(p.k) * sizeof(float));
        each_weight(p, f, [&](int64_t i, int64_t to) { filters[to] = w[i]; });
        for (int n = 0; n < p.n; n += f.images) {
            fold_images(p, f, static_cast<const float*>(a.x) + n * (p.x_count() / p.n), ws + at.x);
            void* operands[] = {ws + at.x, filters,
                                static_cast<float*>(a.y) + n * (p.y_count() / p.n),
                                const_cast<float*>(a.bias)};
            plan->run(operands, ws + at.plan);
        }
    });
}

static void launch_wgrad(const ConvProblem& p, const ConvWgradArgs& a) {
    enqueue(a.stream, "conv_wgrad.onednn_fold", [plan = wgrad_plan(p), p, a] {
        const Folded f(p);
        const Areas at(p);
        float* ws = static_cast<float*>(a.workspace);
        float *dw = ws + at.w, *db = ws + at.db;
        for (int n = 0; n < p.n; n += f.images) {
            fold_images(p, f, static_cast<const float*>(a.x) + n * (p.x_count() / p.n), ws + at.x);
            float* dy = static_cast<float*>(const_cast<void*>(a.dy)) + n * (p.y_count() / p.n);
            void* operands[] = {ws + at.x, dy, dw, db};
            plan->run(operands, ws + at.plan);
            each_weight(p, f,
                        [&](int64_t i, int64_t from) { a.dw[i] = dw[from] + (n ? a.dw[i] : 0.f); });
            if (p.bias)
                for (int k = 0; k < p.k; ++k) a.db[k] = db[k] + (n ? a.db[k] : 0.f);
        }
    });
}

extern const ConvFprop fprop = {
    .name = "onednn_fold",
    .refuses = [](const ConvProblem& p) { return refuses(p, fprop_plan); },
    .workspace =
        [](const ConvProblem& p) {
            return Areas(p).plan * sizeof(float) + fprop_plan(p)->workspace();
        },
    .launch = launch_fprop,
    .baseline = true,
};
extern const ConvWgrad wgrad = {
    .name = "onednn_fold",
    .refuses = [](const ConvProblem& p) -> std::string {
        // mini's 15x15: 10.8 ms, direct 9.9
        if (p.p() * p.q() < 400) return "outputs too small: direct is faster";
        return refuses(p, wgrad_plan);
    },
    .workspace =
        [](const ConvProblem& p) {
            return Areas(p).plan * sizeof(float) + wgrad_plan(p)->workspace();
        },
    .launch = launch_wgrad,
    .baseline = true,
};

}  // namespace wt::conv_fold_onednn
