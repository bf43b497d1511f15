#include "kernels/sgd/problem.h"
#include "test/close.h"
#include "test/device_data.h"
#include "test/reference/sgd.h"

using namespace wt;
using namespace wt::test;

namespace {

struct Spec {
    int64_t count;
    float weight_decay, lr_scale;
    bool low;       // with a bf16 copy
    size_t offset;  // elements from an aligned address
};

void check(const std::vector<Spec>& specs) {
    const StepState host{1, 0, 0.03f, 0.9f};
    DeviceBuffer<StepState> state(0, 1);
    state.upload(&host, 1);
    SgdProblem p;
    p.tensors = static_cast<int>(specs.size());
    for (const Spec& s : specs) p.total += s.count;
    each_variant("sgd", sgd_variants(), p, [&](const Sgd& variant) {
        struct Arrays {
            DeviceArray w, v, g, low;
            std::vector<double> want_w, want_v, host_g;
        };
        std::vector<Arrays> all;
        std::vector<SgdTensor> tensors;
        for (const Spec& s : specs) {
            const uint32_t seed = static_cast<uint32_t>(40 + 3 * all.size());
            const auto w = rounded(random_values(s.count, seed), DType::f32);
            const auto v = rounded(random_values(s.count, seed + 1), DType::f32);
            const auto g = rounded(random_values(s.count, seed + 2, -4, 4), DType::f32);
            all.push_back({DeviceArray(DType::f32, w, 0, s.offset),
                           DeviceArray(DType::f32, v, 0, s.offset),
                           DeviceArray(DType::f32, g, 0, s.offset),
                           DeviceArray(DType::bf16, s.count, 0, s.offset), w, v, g});
            tensors.push_back({static_cast<float*>(all.back().w.data()),
                               static_cast<float*>(all.back().v.data()),
                               static_cast<const float*>(all.back().g.data()),
                               s.low ? static_cast<bf16*>(all.back().low.data()) : nullptr, s.count,
                               s.weight_decay, s.lr_scale});
        }
        const Stream stream(0);
        for (int step = 0; step < 2; ++step)
            variant.launch(p, {tensors.data(), state.data(), stream.get()});
        // the host array is the caller's again at once
        tensors.assign(tensors.size(), SgdTensor{});
        stream.synchronize();
        for (size_t i = 0; i < specs.size(); ++i) {
            const Spec& s = specs[i];
            INFO("tensor ", i, " of ", s.count);
            for (int step = 0; step < 2; ++step)
                reference::sgd(all[i].want_w, all[i].want_v, all[i].host_g,
                               double(host.lr) * s.lr_scale, host.momentum, s.weight_decay);
            // Per step four roundings of numbers below 2.
            const Closeness v = close<double>(all[i].v.read(), all[i].want_v, 0, 2e-6);
            CHECK_MESSAGE(v.ok(), "v: ", v.text());
            const auto got_w = all[i].w.read();
            const Closeness w = close<double>(got_w, all[i].want_w, 0, 2e-6);
            CHECK_MESSAGE(w.ok(), "w: ", w.text());
            const auto low = all[i].low.read();
            if (s.low)
                CHECK(low == rounded(got_w, DType::bf16));  // exactly w, rounded
            else
                CHECK(std::all_of(low.begin(), low.end(), [](double x) { return std::isnan(x); }));
        }
    });
}

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("sgd: every variant over tensors of all kinds") {
    check({{20001, 5e-4f, 1, true, 0},  // more than two blocks, with a tail
           {96, 0, 2, false, 0},        // a bias: no decay, twice the rate
           {1, 5e-4f, 1, true, 0},
           {0, 5e-4f, 1, true, 0},      // empty
           {1000, 0.1f, 1, true, 3},    // off the vectors' alignment
           {8192, 5e-4f, 1, false, 0},  // exactly one block
           {8193, 5e-4f, 0.5f, true, 0}});
    check({{77, 0, 1, false, 0}});
}

TEST_CASE("sgd: as many tensors as fit one launch, and one more") {
    std::vector<Spec> specs;
    for (int i = 0; i < kSgdMaxTensors; ++i)
        specs.push_back({37 + i, 1e-3f * i, 1.f + i % 2, i % 3 == 0, size_t(i % 2)});
    check(specs);
    specs.push_back({5, 0, 1, false, 0});
    check(specs);
}

TEST_SUITE_END();
