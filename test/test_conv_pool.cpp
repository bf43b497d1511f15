// A convolution with its ReLU and the pooling behind it in one kernel: against fp64, against the
// two operations apart, and that the way back needs nothing but its argmax.
#include <doctest/doctest.h>

#include "host/bench/network_cases.h"
#include "host/net/problem_text.h"
#include "kernels/conv_pool/plan.h"
#include "test/close.h"
#include "test/device_data.h"
#include "test/hopper.h"
#include "test/parallel_job.h"
#include "test/reference/conv.h"
#include "test/reference/pool.h"
#include "test/seeds.h"

using namespace wt;
using namespace wt::test;

namespace {

// AlexNet's first layer, 55 outputs in a row, of images of `h` rows.
ConvPoolProblem first_layer(int n, int h, int k, int r = 11) {
    return {.n = n,
            .h = h,
            .w = 224,
            .c = 3,
            .k = k,
            .r = r,
            .s = 11,
            .stride = 4,
            .pad = 2,
            .fold = 4,
            .planes = true,
            .dtype = DType::bf16};
}

struct Inputs {
    std::vector<double> image, w, bias;
    DeviceArray x, filters, biases;

    explicit Inputs(const ConvPoolProblem& p, uint32_t seed = 5, double hole = 0)
        : image(images(p, seed, hole)),
          w(rounded(random_values(p.w_count(), seed + 1), p.dtype)),
          bias(rounded(random_values(p.k, seed + 2, -3, 3), DType::f32)),
          x(p.dtype, p.fold > 1 ? reference::fold_input(p.conv(), image) : image),
          filters(p.dtype, w),
          biases(DType::f32, bias) {}

private:
    // `hole` not 0: an infinity of either sign every now and then, whose sums are NaN.
    static std::vector<double> images(const ConvPoolProblem& p, uint32_t seed, double hole) {
        auto x = rounded(random_values(size_t(p.n) * p.h * p.w * p.c, seed), p.dtype);
        for (size_t i = 0; hole != 0 && i < x.size(); i += 1009) x[i] = i % 2 ? hole : -hole;
        return x;
    }
};

struct Pooled {
    DeviceArray y;
    std::vector<uint8_t> bits, argmax;  // of y

    bool operator==(const Pooled& o) const { return bits == o.bits && argmax == o.argmax; }
};

template <class F>
Pooled pooled(const ConvPoolProblem& p, F&& launch) {
    const Stream stream(0);
    Pooled out{DeviceArray(p.dtype, p.y_count()), {}, {}};
    DeviceBuffer<uint8_t> argmax(0, p.y_count());
    argmax.upload(std::vector<uint8_t>(argmax.size(), 0xFF));
    launch(out.y.data(), argmax.data(), stream.get());
    stream.synchronize();
    out.bits.resize(p.y_count() * size_of(p.dtype));
    WT_CUDA(cudaMemcpy(out.bits.data(), out.y.data(), out.bits.size(), cudaMemcpyDeviceToHost));
    out.argmax = argmax.download();
    return out;
}

Pooled run(const ConvPoolForward& v, const ConvPoolProblem& p, const Inputs& o) {
    DeviceBuffer<char> workspace(0, v.workspace_bytes(p));
    return pooled(p, [&](void* y, uint8_t* argmax, cudaStream_t stream) {
        v.launch(p, {o.x.data(), o.filters.data(), static_cast<float*>(o.biases.data()), y, argmax,
                     workspace.data(), stream});
    });
}

// By a variant of the convolution, and pooling as plain as it gets.
Pooled apart(const char* variant, const ConvPoolProblem& p, const Inputs& o) {
    const ConvProblem c = p.conv();
    const ConvFprop& conv = *find(conv_fprop_variants(), variant);
    DeviceBuffer<char> workspace(0, conv.workspace_bytes(c));
    const DeviceArray between(p.dtype, c.y_count());
    return pooled(p, [&](void* y, uint8_t* argmax, cudaStream_t stream) {
        conv.launch(c, {o.x.data(), o.filters.data(), static_cast<float*>(o.biases.data()),
                        between.data(), workspace.data(), stream});
        pool_forward_variants()[0].launch(p.pool(), {between.data(), y, argmax, nullptr, stream});
    });
}

// A closed window, whose maximum apart is 0 and at some place.
void close_windows(Pooled& p, int window) {
    const auto y = p.y.read();
    for (size_t i = 0; i < y.size(); ++i)
        if (y[i] <= 0) p.argmax[i] = static_cast<uint8_t>(closed_place(window));
}

std::vector<ConvPoolProblem> problems() {
    std::vector<ConvPoolProblem> all;
    for (const DType t : {DType::f32, DType::bf16}) {
        ConvPoolProblem small{.n = 2, .h = 9, .w = 11, .c = 5, .k = 7, .r = 3, .s = 2, .pad = 1};
        small.dtype = t;
        all.push_back(small);
        small.window = 2, small.window_stride = 3, small.k = 8;
        all.push_back(small);
        ConvPoolProblem folded{.n = 1, .h = 31, .w = 27, .c = 3, .k = 16, .r = 11, .s = 11};
        folded.stride = folded.fold = 4, folded.pad = 2, folded.dtype = t;
        all.push_back(folded);
        folded.planes = true;
        all.push_back(folded);
    }
    all.push_back(first_layer(1, 15, 64));    // one pooled row
    all.push_back(first_layer(2, 31, 24));    // 3 of 7 rows
    all.push_back(first_layer(2, 36, 8, 6));  // an even number of rows; two blocks high
    if (!kSanitized && !races_wanted()) all.push_back(first_layer(1, 224, 64));
    return all;
}

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("conv_pool: every variant against fp64") {
    for (const ConvPoolProblem& p : problems()) {
        INFO(text_of(p));
        const Inputs o(p);
        const ConvProblem conv = p.conv();
        const auto sums = reference::conv_fprop(conv, o.image, o.w, o.bias).value;
        const auto want = reference::pool_forward(p.pool(), sums);
        // Sums of so many products below 1, rounded: at most 2^-24 of the largest partial sum each.
        const double atol = 3e-6 * p.r * p.s * p.c / 10,
                     rtol = p.dtype == DType::bf16 ? 1.0 / 256 : 1e-6;
        each_variant("conv_pool", conv_pool_forward_variants(), p, [&](const ConvPoolForward& v) {
            const Pooled got = run(v, p, o);
            const auto y = got.y.read();
            const Closeness c = close<double>(y, want.y, rtol, atol);
            CHECK_MESSAGE(c.ok(), c.text());
            int wrong = 0, closed = 0;
            for (int64_t i = 0; i < p.y_count(); ++i) {
                const int k = static_cast<int>(i % p.k),
                          q = static_cast<int>(i / p.k % p.pool().q()),
                          row = static_cast<int>(i / p.k / p.pool().q() % p.pool().p());
                const int64_t n = i / p.k / p.pool().q() / p.pool().p();
                double there = 0;
                closed += got.argmax[i] == closed_place(p.window);
                if (got.argmax[i] != closed_place(p.window)) {
                    const int at_p = row * p.window_stride + got.argmax[i] / p.window,
                              at_q = q * p.window_stride + got.argmax[i] % p.window;
                    REQUIRE(got.argmax[i] < p.window * p.window);
                    there = sums[((n * conv.p() + at_p) * conv.q() + at_q) * p.k + k];
                    wrong += !(y[i] > 0);
                } else {
                    wrong += y[i] != 0;
                }
                wrong += !(std::abs(there - want.y[i]) <= 2 * (rtol * want.y[i] + atol));
            }
            CHECK(wrong == 0);
            CHECK(closed < p.y_count());
            CHECK(run(v, p, o) == got);
        });
    }
}

TEST_CASE("conv_pool: a product of wgmma leaves the bits that it leaves apart, NaNs too") {
    if (!needs_hopper("folded_wgmma_sm90")) return;
    const ConvPoolForward& v = *find(conv_pool_forward_variants(), "folded_wgmma_sm90");
    // Of one SM and two: several bands for each warpgroup of a block, and unequally many.
    for (const auto& [p, sms] : {std::pair{first_layer(3, 47, 64), 1},
                                 {first_layer(3, 32, 16), 2},
                                 {first_layer(1, 23, 64), 0}})
        for (const double hole : {0.0, double(INFINITY)}) {
            plan_overrides.sms = sms;
            INFO(text_of(p), ", ", sms, " SMs, with ", hole);
            const Inputs o(p, 11, hole);
            Pooled want = apart("folded_wgmma_sm90", p, o);
            close_windows(want, p.window);
            int nan = 0;
            for (const double y : want.y.read()) nan += std::isnan(y);
            CHECK((nan > 0) == (hole != 0));
            for (const uint64_t seed : seeds(races_wanted() ? 1 : 4)) {
                const SeedGuard guard(seed);
                INFO("seed ", seed);
                const Pooled got = run(v, p, o);
                CHECK(got.bits == want.bits);
                CHECK(got.argmax == want.argmax);
            }
            plan_overrides.sms = 0;
        }
}

TEST_CASE("conv_pool: the way back needs nothing but argmax") {
    const ConvPoolProblem p = {.n = 2, .h = 15, .w = 13, .c = 4, .k = 16, .r = 3, .s = 3};
    const Inputs o(p);
    const Pooled plain = apart("naive", p, o);
    Pooled fused = apart("naive", p, o);
    close_windows(fused, p.window);
    CHECK(fused == run(conv_pool_forward_variants()[0], p, o));
    LrnPoolProblem back{.n = p.n, .h = 13, .w = 11, .c = p.k, .lrn = false};
    const DeviceArray dy(p.dtype, rounded(random_values(p.y_count(), 3), p.dtype));
    const auto gradients = [&](const LrnPoolBackward& v, const LrnPoolProblem& b, const Pooled& f) {
        const Stream stream(0);
        const DeviceArray dx(b.dtype, b.x_count()), db(DType::f32, b.c);
        DeviceBuffer<char> workspace(0, v.workspace_bytes(b));
        DeviceBuffer<uint8_t> argmax(0, b.y_count());
        argmax.upload(f.argmax);
        v.launch(b, {nullptr, b.relu ? f.y.data() : nullptr, dy.data(), argmax.data(), dx.data(),
                     static_cast<float*>(db.data()), workspace.data(), stream.get()});
        stream.synchronize();
        return std::pair(dx.read(), db.read());
    };
    each_variant(
        "lrn_pool backward", lrn_pool_backward_variants(), back, [&](const LrnPoolBackward& v) {
            LrnPoolProblem of_argmax = back;
            of_argmax.relu = false;
            const auto want = gradients(v, back, plain);
            CHECK(gradients(v, of_argmax, fused) == want);
            CHECK(
                std::any_of(want.first.begin(), want.first.end(), [](double d) { return d != 0; }));
        });
}

TEST_CASE("conv_pool: what no variant can compute is refused by every one") {
    ConvPoolProblem wide = first_layer(1, 31, 64), narrow = wide;
    wide.window = 16;
    narrow.h = 11;  // two rows
    for (const ConvPoolProblem& p : {wide, narrow})
        for (const auto& v : conv_pool_forward_variants()) CHECK_FALSE(v.refuses(p).empty());
}

TEST_CASE("conv_pool: bands fill the machine") {
    // Whole images where two are there for each SM, halves for one; each band takes a turn more
    // than it has pooled rows.
    const auto plan = [](int n) { return conv_pool_plan(first_layer(n, 224, 64), 132); };
    CHECK(plan(256).bands == 1);
    CHECK(plan(256).turns == 56);
    CHECK(plan(256).blocks == 128);
    CHECK(plan(128).bands == 2);
    CHECK(plan(128).turns == 30);
    for (const int n : {1, 5, 100, 300, 1000}) {
        const ConvPoolPlan p = plan(n);
        INFO(n, " images, ", p.bands, " bands");
        CHECK(p.items == n * p.bands);
        CHECK(p.bands * p.rows >= 27);
        CHECK((p.bands - 1) * p.rows < 27);
        CHECK(p.turns <= 1.5 * (28.0 * n / 132) + 28);
    }
}

TEST_CASE("conv_pool: training with it leaves the weights that the two operations leave") {
    if (races_wanted() || kSanitized || !needs_hopper("folded_wgmma_sm90")) return;
    // Two steps, so that it reads either slot of the input where that is made a step ahead.
    const auto trained = [](const char* kernels, const OverlapChoice& overlap) {
        return run(Job{.net = "owt",
                       .global_batch = 2,
                       .dtype = DType::bf16,
                       .kernels = kernels,
                       .options = {.classes = 10},
                       .fuse = Fuse::on,
                       .overlap = overlap},
                   2);
    };
    // The same products, in the same order.
    const Outcome fused = trained("conv1.wgrad=folded_wgmma_sm90", OverlapChoice::all()),
                  parts = trained("conv1.fprop=folded_wgmma_sm90,conv1.wgrad=folded_wgmma_sm90",
                                  OverlapChoice::none());
    CHECK(fused.losses == parts.losses);
    CHECK(fused.weights == parts.weights);
    CHECK(fused.gradients == parts.gradients);
    CHECK(fused.evaluations == parts.evaluations);
}

TEST_CASE("conv_pool: who takes it") {
    const auto first_steps = [](const char* net, const char* kernels, Fuse fuse, int sm,
                                std::vector<std::string> frozen = {}) {
        WorkerConfig c;
        c.net = make_net(net, {});
        c.batch = 4;
        c.sm = sm;
        c.dtype = DType::bf16;
        c.kernels = KernelSettings::parse(kernels);
        c.kernels.fuse = fuse;
        c.frozen = frozen;
        const Layout l(c);
        std::string text;
        for (const StepList* steps : {&l.training_steps, &l.evaluation_steps})
            for (const Step& s : *steps)
                if (const auto* launch = std::get_if<Launch>(&s.action))
                    if (launch->name.find("conv1.") == 0 || launch->name.find("pool1.") == 0)
                        text += launch->name + "=" + launch->variant + " ";
        return text;
    };
    const std::string taken = "conv1.fprop+pool1=folded_wgmma_sm90 ",
                      apart = "conv1.fprop=folded_wgmma_sm90 pool1.forward=once ",
                      back = "pool1.backward+relu1=fused conv1.wgrad=folded_wgmma_sm90 ";
    const auto automatic = [&](const char* kernels) {
        return first_steps("owt", kernels, Fuse::automatic, 90);
    };
    CHECK(automatic("auto") == taken + back + taken);
    CHECK(automatic("conv1.fprop=folded_wgmma_sm90") == apart + back + apart);
    // As the test above trains with it, on virtual GPUs too.
    CHECK(first_steps("owt", "conv1.wgrad=folded_wgmma_sm90", Fuse::on, device_sm(0))
              .starts_with(taken));
    CHECK(automatic("pool1.forward=once").starts_with(apart));
    // The ReLU's own gradient would need the convolution's result.
    CHECK(automatic("relu1.backward=vec8").find(taken) == std::string::npos);
    CHECK(first_steps("owt", "auto", Fuse::off, 90).find(taken) == std::string::npos);
    CHECK(first_steps("owt", "auto", Fuse::automatic, 80).find("conv1.fprop+pool1") ==
          std::string::npos);
    CHECK(first_steps("owt", "auto", Fuse::automatic, 90, {"conv1", "conv2"}) == taken + taken);
    // bin/compare holds it against its parts.
    const std::vector<bench::BenchCase> cases =
        bench::network_cases("owt", 2, bench::Precision::bf16, bench::Architecture{90});
    const auto is_it = [](const bench::BenchCase& c) { return c.name == "conv1.fprop+pool1"; };
    const auto found = std::find_if(cases.begin(), cases.end(), is_it);
    REQUIRE(found != cases.end());
    CHECK(found->parts == std::vector<std::string>{"conv1.fprop+planes", "pool1.forward"});
    CHECK(found->variants[found->automatic].name == "folded_wgmma_sm90");
    for (const char* net : {"alexnet", "mini"})  // normalization is between
        CHECK(first_steps(net, "auto", Fuse::on, 90).find("conv1.fprop+pool1") ==
              std::string::npos);
}

TEST_SUITE_END();
