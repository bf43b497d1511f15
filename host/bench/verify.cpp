#include "host/bench/verify.h"

#include <cmath>
#include <cstdio>

#include "host/parallel_for.h"
#include "host/cuda/device.h"
#include "host/net/problem_text.h"
#include "kernels/conv/winograd.h"
#include "kernels/probe/probe.h"

namespace wt::bench {

namespace {

constexpr double kProducts = 1 << 24;  // added up in fp64 for one result's sample, at most about
constexpr int64_t kMost = 2048, kLeast = 32;
constexpr double kFurthest = 8;

// Adds an element of each of n stripes of equal size of [first, count).
void stripes(int64_t first, int64_t count, int64_t n, std::vector<int64_t>& index) {
    uint64_t state = 88172645463325252ull;
    const double all = static_cast<double>(count - first);
    for (int64_t i = 0; i < n; ++i) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        const int64_t low = first + static_cast<int64_t>(all * double(i) / double(n));
        const int64_t high = first + static_cast<int64_t>(all * double(i + 1) / double(n));
        index.push_back(
            low + static_cast<int64_t>((state >> 33) %
                                       static_cast<uint64_t>(std::max<int64_t>(1, high - low))));
    }
}

// Half of the last place, relative, as it is on average over a binade (uniform errors: the root of
// their mean square).
double last_place(probe::Kind kind) {
    switch (kind) {
        case probe::Kind::bf16: return 0x1p-10;
        case probe::Kind::f32: return 0x1p-25;
        case probe::Kind::f64: return 0x1p-25;  // of fp32 terms
        default: return 1e-12;                  // whole numbers: equal or wrong
    }
}

// What variant 0's error may be: rounding the sums of `cost` products, an epilogue or a function's
// value.
double expected(const Output& o) {
    if (o.m.kind == probe::Kind::i32 || o.m.kind == probe::Kind::u8) return 1e-12;
    return 2 * (std::sqrt(o.cost) + 8) * 0x1p-24 + (o.rounding == DType::bf16 ? 0x1p-8 : 0);
}

// Infinite when one is not finite.
double error_of(const std::vector<double>& got, const std::vector<double>& exact) {
    double d = 0, n = 0;
    for (size_t i = 0; i < exact.size(); ++i)
        d += (got[i] - exact[i]) * (got[i] - exact[i]), n += exact[i] * exact[i];
    if (d == 0) return 0;
    const double e = std::sqrt(d) / std::max(std::sqrt(n), 1e-300);
    return e <= 1e300 ? e : INFINITY;
}

std::string number(double v) {
    char s[32];
    std::snprintf(s, sizeof s, "%.3g", v);
    return s;
}

// Whether the device has room for so many bytes more, and for what a variant's workspace may need
// besides.
bool fits(int device, size_t bytes) {
    return bytes < (size_t(256) << 20) || bytes < device_free_bytes(device) / 2;
}

// What a variant makes of its operands' rounding to tf32, as a multiple of a direct sum's; or may
// lose beyond other variants.
double growth_of(const BenchCase& c, const std::string& variant) {
    if (c.op == "conv_wgrad" && c.dtype == DType::bf16 && variant.starts_with("winograd_cpu"))
        return kLargeTilesRatio;
    if (!c.tf32 || variant != "winograd_mma_sm80") return 1;
    return problem_of<ConvProblem>(c.whole_problem).r == 3 ? winograd::growth<4, 3>()
                                                           : winograd::growth<4, 5>();
}

}  // namespace

std::vector<int64_t> choose_sample(int64_t count, double cost) {
    const int64_t n = std::min(
        count, std::clamp(static_cast<int64_t>(kProducts / std::max(cost, 1.0)), kLeast, kMost));
    const int64_t far = count > kFarElement ? n / 4 : 0;
    std::vector<int64_t> index;
    stripes(0, count, n - far, index);
    stripes(kFarElement, count, far, index);
    if (n > 1) index.front() = 0, index.back() = count - 1;
    return index;
}

Verifier::Verifier(const BenchCase& bench_case, int device)
    : ready_(bench_case.prepare_check(device)) {
    for (const BenchCase::Entry& v : bench_case.variants)
        growth_.push_back(growth_of(bench_case, v.name));
    const DeviceGuard guard(device);
    Operands& o = ready_->operands;
    o.fetch();
    sample();
    if (!bench_case.variants[0].refuses.empty()) {
        plain_is_wrong_ = bench_case.variants[0].name + " refuses this problem (" +
                          bench_case.variants[0].refuses + "): there is nothing to judge by";
        return;
    }
    launch(0);
    std::vector<double> plain = errors();
    for (size_t r = 0; r < results_.size(); ++r) {
        const Output& out = o.outputs()[r];
        if (!(plain[r] <= expected(out)))
            plain_is_wrong_ = bench_case.variants[0].name + " is off by " + number(plain[r]) +
                              " in norm (at most " + number(expected(out)) +
                              " is rounding): there is nothing to judge by";
        const size_t bytes = out.m.rows * out.m.ld * probe::size_of(out.m.kind);
        if (!fits(device, bytes)) continue;
        results_[r].want = DeviceBuffer<std::byte>(device, bytes, "results to compare with");
        WT_CUDA(cudaMemcpyAsync(results_[r].want.data(), out.m.data, bytes,
                                cudaMemcpyDeviceToDevice, o.stream().get()));
    }
    o.stream().synchronize();
    if (bench_case.tf32) {
        o.reset(true);
        ready_->launch(0, o.stream().get());
        o.stream().synchronize();
        plain = errors();
        o.reset(false);
    }
    for (size_t r = 0; r < results_.size(); ++r) {
        const Output& out = o.outputs()[r];
        const double place =
            std::max(last_place(out.m.kind),
                     out.rounding == DType::bf16 ? last_place(probe::Kind::bf16) : 0);
        results_[r].plain = std::max(plain[r], place);
        results_[r].allowed =
            out.rounding == DType::bf16 || bench_case.tf32 ? kRoundingRatio : kSumRatio;
    }
}

void Verifier::launch(size_t variant) {
    Operands& o = ready_->operands;
    o.reset();
    ready_->launch(variant, o.stream().get());
    o.stream().synchronize();
}

void Verifier::sample() {
    for (const Output& out : ready_->operands.outputs()) {
        Result r;
        r.index = choose_sample(out.m.count(), out.cost);
        r.exact.resize(r.index.size());
        if (!out.several)
            parallel_for(static_cast<int64_t>(r.index.size()),
                         [&](int64_t i) { r.exact[i] = out.exact(r.index[i], 0); });
        results_.push_back(std::move(r));
    }
}

std::vector<double> Verifier::errors() {
    const Operands& o = ready_->operands;
    std::vector<double> all;
    for (size_t r = 0; r < results_.size(); ++r) {
        const Output& out = o.outputs()[r];
        Result& result = results_[r];
        const int64_t n = static_cast<int64_t>(result.index.size());
        DeviceBuffer<int64_t> index(o.device(), n, "sample");
        DeviceBuffer<double> values(o.device(), n, "sample");
        index.upload(result.index);
        probe::gather(out.m, index.data(), n, values.data(), o.stream().get());
        o.stream().synchronize();
        const std::vector<double> got = values.download();
        if (out.several)
            for (int64_t i = 0; i < n; ++i) result.exact[i] = out.exact(result.index[i], got[i]);
        all.push_back(error_of(got, result.exact));
    }
    return all;
}

Verdict Verifier::check(size_t variant) {
    const Operands& o = ready_->operands;
    const DeviceGuard guard(o.device());
    if (!plain_is_wrong_.empty()) return {0, 0, plain_is_wrong_};
    Verdict v;
    launch(variant);
    const std::vector<double> error = errors();
    for (size_t r = 0; r < results_.size(); ++r) {
        const Output& out = o.outputs()[r];
        const Result& result = results_[r];
        const double ratio = error[r] / result.plain, allowed = result.allowed * growth_[variant];
        if (!(error[r] <= v.error)) v.error = error[r];
        if (!(ratio <= v.ratio)) v.ratio = ratio;
        if (!(ratio <= allowed) && v.wrong.empty())
            v.wrong = std::isfinite(ratio)
                          ? "its error is " + number(error[r]) + " in norm, " + number(ratio) +
                                " times the plain variant's (" + number(allowed) + " allowed)"
                          : "not finite, or not written everywhere";
        if (out.several || !result.want.bytes()) continue;
        probe::Matrix want = out.m;
        want.data = result.want.data();
        const double worst = probe::worst_difference(out.m, want, o.stream().get());
        const double most = kFurthest * allowed * result.plain;
        if (!(worst <= most) && v.wrong.empty())
            v.wrong = std::isfinite(worst)
                          ? "an element is off by " + number(worst) + " of the result's size (" +
                                number(most) + " allowed)"
                          : "not finite, or not written everywhere";
    }
    return v;
}

}  // namespace wt::bench
