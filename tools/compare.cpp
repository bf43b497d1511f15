// bin/compare: runs every variant of an operation at the layer shapes of a network, checks that they agree, and times
// them. Adding a variant to its operation's table is enough to have it here.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "host/cuda/buffer.h"
#include "host/cuda/nearest.h"
#include "host/cuda/stream.h"
#include "host/parallel/layout.h"
#include "tools/common_cli.h"

namespace {

using namespace wt;

struct Settings {
    std::string op, net = "alexnet", layer, precision = "fp32", json;
    std::vector<std::string> variants;
    int batch = 0, device = 0;
    bool check_only = false;
    double seconds = 0.3;  // of timing, each variant
};

// Device memory for one problem: inputs filled with random numbers, outputs with NaN.
class Operands {
public:
    explicit Operands(int device) : device_(device) {}
    // Uniform in [low, high), the same at every call with the same count.
    void* random(int64_t count, DType type, float low = -1, float high = 1) {
        std::vector<std::byte> host(count * size_of(type));
        uint32_t state = 12345;
        for (int64_t i = 0; i < count; ++i) {
            state = state * 1664525u + 1013904223u;
            const float v = low + (high - low) * static_cast<float>(state >> 8) / 16777216.f;
            if (type == DType::f32)
                reinterpret_cast<float*>(host.data())[i] = v;
            else
                reinterpret_cast<bf16*>(host.data())[i] = __float2bfloat16(v);
        }
        return upload(host);
    }
    template <class T>
    T* values(const std::vector<T>& v) {
        std::vector<std::byte> host(v.size() * sizeof(T));
        std::copy_n(reinterpret_cast<const std::byte*>(v.data()), host.size(), host.data());
        return static_cast<T*>(upload(host));
    }
    void* output(int64_t count, DType type) {
        void* p = upload(std::vector<std::byte>(count * size_of(type), std::byte{0xFF}));
        outputs_.push_back({p, count, type});
        return p;
    }
    // Random numbers that the operation changes in place: an input and an output.
    float* changed(int64_t count) {
        void* p = random(count, DType::f32);
        outputs_.push_back({p, count, DType::f32});
        return static_cast<float*>(p);
    }
    // Stays on the host, as long as the operands live.
    const SgdTensor* host(std::vector<SgdTensor> tensors) { return (tensors_ = std::move(tensors)).data(); }
    void* scratch(size_t bytes) { return bytes ? upload(std::vector<std::byte>(bytes, std::byte{0xFF})) : nullptr; }

    // All outputs as fp32, one after another.
    std::vector<float> read() const {
        std::vector<float> all;
        for (const Output& o : outputs_) {
            std::vector<std::byte> host(o.count * size_of(o.type));
            WT_CUDA(cudaMemcpy(host.data(), o.p, host.size(), cudaMemcpyDeviceToHost));
            for (int64_t i = 0; i < o.count; ++i)
                all.push_back(o.type == DType::f32 ? reinterpret_cast<float*>(host.data())[i]
                                                   : __bfloat162float(reinterpret_cast<bf16*>(host.data())[i]));
        }
        return all;
    }

private:
    struct Output {
        void* p;
        int64_t count;
        DType type;
    };
    void* upload(const std::vector<std::byte>& host) {
        buffers_.emplace_back(device_, host.size(), "operands");
        buffers_.back().upload(host);
        return buffers_.back().data();
    }
    int device_;
    std::vector<DeviceBuffer<std::byte>> buffers_;
    std::vector<Output> outputs_;
    std::vector<SgdTensor> tensors_;
};

// ---- operations: how to fill the arguments, how to shrink the problem for the check ---------------

ConvFpropArgs fill(const ConvProblem& p, ConvFpropArgs, Operands& o) {
    return {o.random(p.x_count(), p.dtype), o.random(p.w_count(), p.dtype), static_cast<float*>(o.random(p.k, DType::f32)),
            o.output(p.y_count(), p.dtype), nullptr, nullptr};
}
ConvDgradArgs fill(const ConvProblem& p, ConvDgradArgs, Operands& o) {
    return {o.random(p.y_count(), p.dtype), o.random(p.w_count(), p.dtype), o.output(p.x_count(), p.dtype), nullptr, nullptr};
}
ConvWgradArgs fill(const ConvProblem& p, ConvWgradArgs, Operands& o) {
    return {o.random(p.x_count(), p.dtype), o.random(p.y_count(), p.dtype), static_cast<float*>(o.output(p.w_count(), DType::f32)),
            static_cast<float*>(o.output(p.k, DType::f32)), nullptr, nullptr};
}
GemmArgs fill(const GemmProblem& p, GemmArgs, Operands& o) {
    GemmArgs a{};
    a.a = o.random(int64_t(p.layout == GemmLayout::tn ? p.k : p.m) * p.lda, p.dtype);
    a.b = o.random(int64_t(p.layout == GemmLayout::nt ? p.n : p.k) * p.ldb, p.dtype);
    a.bias = static_cast<float*>(o.random(p.n, DType::f32));
    a.c = o.output(int64_t(p.m) * p.ldc, p.out);
    if (p.layout == GemmLayout::tn && p.bias) a.bias_grad = static_cast<float*>(o.output(p.m, DType::f32));
    return a;
}
LrnForwardArgs fill(const LrnProblem& p, LrnForwardArgs, Operands& o) {
    return {o.random(p.count(), p.dtype, 0, 40), o.output(p.count(), p.dtype), nullptr, nullptr};
}
LrnBackwardArgs fill(const LrnProblem& p, LrnBackwardArgs, Operands& o) {
    return {o.random(p.count(), p.dtype, 0, 40), o.random(p.count(), p.dtype), o.output(p.count(), p.dtype), nullptr, nullptr};
}
PoolForwardArgs fill(const PoolProblem& p, PoolForwardArgs, Operands& o) {
    return {o.random(p.x_count(), p.dtype), o.output(p.y_count(), p.dtype), static_cast<uint8_t*>(o.scratch(p.y_count())), nullptr, nullptr};
}
PoolBackwardArgs fill(const PoolProblem& p, PoolBackwardArgs, Operands& o) {
    std::vector<uint8_t> argmax(p.y_count());  // the first element of each window, or with padding the last: inside in any case
    std::fill(argmax.begin(), argmax.end(), static_cast<uint8_t>(p.pad ? p.window * p.window - 1 : 0));
    return {o.random(p.y_count(), p.dtype), o.values(argmax), o.output(p.x_count(), p.dtype), nullptr, nullptr};
}
ActivationForwardArgs fill(const ActivationProblem& p, ActivationForwardArgs, Operands& o) {
    return {o.random(p.rows * p.ld_y, p.dtype), o.output(p.rows * p.ld_y, p.dtype), nullptr};
}
ActivationBackwardArgs fill(const ActivationProblem& p, ActivationBackwardArgs, Operands& o) {
    return {o.random(p.rows * p.ld_y, p.dtype), o.random(p.rows * p.ld_dy, p.dtype), o.output(p.rows * p.ld_dy, p.dtype), nullptr};
}
DropoutArgs fill(const DropoutProblem& p, DropoutArgs, Operands& o) {
    return {o.random(p.rows * p.ld_x, p.dtype), o.output(p.rows * p.ld_y, p.dtype), o.values(std::vector<StepState>{{1, 2, 0.01f, 0.9f}}), 3, 0, 0, nullptr};
}
SoftmaxArgs fill(const SoftmaxProblem& p, SoftmaxArgs, Operands& o) {
    std::vector<int> labels(p.rows);
    for (int i = 0; i < p.rows; ++i) labels[i] = i % p.classes;
    return {static_cast<float*>(o.random(int64_t(p.rows) * p.ld_logits, DType::f32, -5, 5)), o.values(labels),
            o.output(int64_t(p.rows) * p.ld_dlogits, p.dtype), static_cast<SoftmaxStats*>(o.scratch(sizeof(SoftmaxStats))), nullptr, nullptr};
}
AugmentArgs fill(const AugmentProblem& p, AugmentArgs, Operands& o) {
    AugmentArgs a{};
    std::vector<uint8_t> images(int64_t(p.n) * p.src_h * p.src_w * p.src_c);
    for (size_t i = 0; i < images.size(); ++i) images[i] = static_cast<uint8_t>(i * 2654435761u >> 24);
    std::vector<AugmentParams> draws(p.n);
    for (int i = 0; i < p.n; ++i) draws[i] = {int16_t(i % (p.src_h - p.out_h + 1)), int16_t(i % (p.src_w - p.out_w + 1)), i % 2, {1, 2, 3}};
    a.images = o.values(images);
    a.params = o.values(draws);
    for (int i = 0; i < 3; ++i) a.mean[i] = 120, a.inv_std[i] = 1 / 60.f;
    a.y = o.output(int64_t(p.n) * p.out_h * p.out_w * 3, p.dtype);
    return a;
}

// Tensors of equal size.
SgdArgs fill(const SgdProblem& p, SgdArgs, Operands& o) {
    std::vector<SgdTensor> tensors;
    for (int i = 0; i < p.tensors; ++i) {
        const int64_t count = p.total / p.tensors + (i < p.total % p.tensors);
        float *w = o.changed(count), *v = o.changed(count);
        tensors.push_back({w, v, static_cast<const float*>(o.random(count, DType::f32)), nullptr, count, 5e-4f, 1});
    }
    const SgdTensor* host = o.host(std::move(tensors));
    return {host, o.values(std::vector<StepState>{{1, 2, 0.01f, 0.9f}}), nullptr};
}
CopyArgs fill(const CopyProblem& p, CopyArgs, Operands& o) {
    return {o.random(p.rows * p.ld_src, p.dtype), o.output(p.rows * p.ld_dst, p.dtype), nullptr};
}
ReduceArgs fill(const ReduceProblem& p, ReduceArgs, Operands& o) {
    ReduceArgs a{};
    for (int r = 0; r < p.sources; ++r) a.src[r] = o.random(p.rows * p.ld_src, p.dtype);
    a.dst = o.output(p.rows * p.ld_dst, p.dtype);
    return a;
}

double flops(const ConvProblem& p) { return p.flops(); }
double flops(const GemmProblem& p) { return p.flops(); }
template <class P>
double flops(const P&) { return 0; }

// Bytes that the operation must move; which pass is told by its arguments.
template <class P, class A>
double bytes(const P& p, const A*) {
    if constexpr (requires { p.bytes(); }) return p.bytes();
    else if constexpr (std::is_same_v<A, LrnBackwardArgs> || std::is_same_v<A, PoolBackwardArgs> || std::is_same_v<A, ActivationBackwardArgs>)
        return p.backward_bytes();
    else return p.forward_bytes();
}

// The same problem for at most two samples: the plain variant takes seconds a sample on a CPU.
#ifdef VGPU
ConvProblem small(ConvProblem p) { return p.n = std::min(p.n, 2), p; }
GemmProblem small(GemmProblem p) { return (p.layout == GemmLayout::tn ? p.k : p.m) = std::min(p.layout == GemmLayout::tn ? p.k : p.m, 2), p; }
SgdProblem small(SgdProblem p) { return p.total = std::min(p.total, int64_t(1) << 20), p; }
#endif
template <class P>
P small(const P& p) { return p; }

// ---- comparing ------------------------------------------------------------------------------------

struct Report {
    const Settings& settings;
    nlohmann::json rows = nlohmann::json::array();
    int wrong = 0, problems = 0;
};

// Norm of the difference over the norm of the reference; infinite when anything is not finite.
double error_of(const std::vector<float>& got, const std::vector<float>& want) {
    double d = 0, n = 0;
    for (size_t i = 0; i < want.size(); ++i) {
        if (!std::isfinite(want[i]) && !std::isfinite(got[i])) continue;  // padding of a leading dimension: never written
        d += (double(got[i]) - want[i]) * (double(got[i]) - want[i]), n += double(want[i]) * want[i];
    }
    const double e = std::sqrt(d) / std::max(std::sqrt(n), 1e-30);
    return std::isfinite(e) ? e : INFINITY;
}

template <class P, class A>
std::vector<float> outcome(const Variant<P, A>& v, const P& p, int device, cudaStream_t stream) {
    Operands o(device);
    A args = fill(p, A{}, o);
    if constexpr (requires { args.workspace; }) args.workspace = o.scratch(v.workspace_bytes(p));
    args.stream = stream;
    v.launch(p, args);
    WT_CUDA(cudaStreamSynchronize(stream));
    return o.read();
}

// Milliseconds of each timed launch, sorted. On a GPU the L2 cache is overwritten between launches.
template <class P, class A>
std::vector<float> time(const Variant<P, A>& v, const P& p, const Settings& s, const Stream& stream) {
    Operands o(s.device);
    A args = fill(p, A{}, o);
    if constexpr (requires { args.workspace; }) args.workspace = o.scratch(v.workspace_bytes(p));
    args.stream = stream.get();
#ifndef VGPU
    const DeviceBuffer<std::byte> flush(s.device, size_t(256) << 20, "cache flush");
#endif
    const Event start(s.device, true), stop(s.device, true);
    std::vector<float> ms;
    double total = 0;
    for (int i = 0; i < 500 && (i < 4 || total < s.seconds * 1e3); ++i) {
#ifndef VGPU
        WT_CUDA(cudaMemsetAsync(flush.data(), i, flush.bytes(), stream.get()));
#endif
        start.record(stream.get());
        v.launch(p, args);
        stop.record(stream.get());
        stop.synchronize();
        total += stop.since(start);
        if (i > 0) ms.push_back(stop.since(start));  // the first one warms up
    }
    std::sort(ms.begin(), ms.end());
    return ms;
}

template <class P, class A>
void compare(Report& report, const char* op, const std::string& layer, const P& problem, Table<P, A> table) {
    const Settings& s = report.settings;
    if (!s.op.empty() && s.op != op) return;
    if (!s.layer.empty() && s.layer != layer) return;
    ++report.problems;
    const int sm = device_sm(s.device);
    const Stream stream(s.device);
    const bool by_flops = flops(problem) > 0;
    std::printf("\n%s %s, batch %d, %s: %.3f GFLOP, %.1f MB\n", op, layer.c_str(), s.batch, s.precision.c_str(), flops(problem) / 1e9,
                bytes(problem, static_cast<const A*>(nullptr)) / 1e6);
    const P checked = small(problem);
    const std::vector<float> want = outcome(table[0], checked, s.device, stream.get());
    // Sums of up to 9216 products in another order: fp32 1e-4 with room for Winograd's transforms, bf16 results 2^-8 each.
    const double tolerance = s.precision == "bf16" ? 2e-2 : 1e-4;

    struct Row {
        std::string name;
        bool baseline;
        double median = 0, spread = 0, error = 0;
    };
    std::vector<Row> rows;
    double best_baseline = 0;
    for (const auto& v : table) {
        if (!s.variants.empty() && std::find(s.variants.begin(), s.variants.end(), v.name) == s.variants.end()) continue;
        std::string why = v.refuses(problem);
        if (why.empty()) why = v.refuses(checked);
        if (why.empty() && v.sm && v.sm != sm) why = "needs compute capability " + std::to_string(v.sm / 10);
        if (!why.empty()) {
            std::printf("  %-18s skipped: %s\n", v.name, why.c_str());
            continue;
        }
        Row r{v.name, v.baseline};
        r.error = error_of(outcome(v, checked, s.device, stream.get()), want);
        if (!(r.error <= tolerance)) {
            std::printf("  %-18s WRONG: differs from %s by %.3g in norm (%.0e allowed); not timed\n", v.name, table[0].name, r.error, tolerance);
            ++report.wrong;
            continue;
        }
        const bool slow = kAutomaticUsesBaselines && &v == &table[0] && flops(problem) > 4e9;  // the plain one on a CPU
        if (!s.check_only && !slow) {
            const auto ms = time(v, problem, s, stream);
            r.median = ms[ms.size() / 2];
            r.spread = (ms[ms.size() * 3 / 4] - ms[ms.size() / 4]) / r.median;
            if (v.baseline && (best_baseline == 0 || r.median < best_baseline)) best_baseline = r.median;
        }
        rows.push_back(r);
    }
    if (!s.check_only) std::printf("  %-18s %10s %7s %10s %12s %10s\n", "variant", "ms", "spread", by_flops ? "GFLOP/s" : "GB/s", "of baseline", "error");
    for (const Row& r : rows) {
        nlohmann::json j{{"op", op}, {"layer", layer}, {"batch", s.batch}, {"precision", s.precision}, {"variant", r.name}, {"baseline", r.baseline}, {"error", r.error}};
        if (r.median > 0) {
            const double rate = (by_flops ? flops(problem) : bytes(problem, static_cast<const A*>(nullptr))) / r.median / 1e6;
            std::printf("  %-18s %10.3f %6.1f%% %10.1f ", r.name.c_str(), r.median, 100 * r.spread, rate);
            best_baseline > 0 ? std::printf("%11.2fx", best_baseline / r.median) : std::printf("%12s", "-");
            std::printf(" %10.2g\n", r.error);
            j["ms"] = r.median, j["spread"] = r.spread, j[by_flops ? "gflop_per_s" : "gb_per_s"] = rate;
        } else {
            std::printf("  %-18s right, not timed%s (error %.2g)\n", r.name.c_str(), s.check_only ? "" : ": too slow here", r.error);
        }
        report.rows.push_back(j);
    }
    std::fflush(stdout);
}

const std::vector<std::string> kOperations = {"conv_fprop", "conv_dgrad", "conv_wgrad", "gemm", "lrn_forward", "lrn_backward", "pool_forward",
                                              "pool_backward", "activation_forward", "activation_backward", "dropout", "softmax", "augment",
                                              "sgd", "exchange_copy", "exchange_reduce"};

// Every operation of a training step, at the network's shapes.
void compare_network(Report& r, const Layout& l) {
    for (const TrunkOp& op : l.trunk) {
        const std::string& name = op.layer->name;
        switch (op.layer->kind) {
            case LayerKind::conv:
                compare(r, "conv_fprop", name, op.fprop.problem, conv_fprop_variants());
                if (op.needs_dx) compare(r, "conv_dgrad", name, op.dgrad.problem, conv_dgrad_variants());
                compare(r, "conv_wgrad", name, op.wgrad.problem, conv_wgrad_variants());
                break;
            case LayerKind::activation:
                compare(r, "activation_forward", name, op.act.problem, activation_forward_variants());
                compare(r, "activation_backward", name, op.act_back.problem, activation_backward_variants());
                break;
            case LayerKind::lrn:
                compare(r, "lrn_forward", name, op.lrn.problem, lrn_forward_variants());
                compare(r, "lrn_backward", name, op.lrn_back.problem, lrn_backward_variants());
                break;
            case LayerKind::pool:
                compare(r, "pool_forward", name, op.pool.problem, pool_forward_variants());
                compare(r, "pool_backward", name, op.pool_back.problem, pool_backward_variants());
                break;
            case LayerKind::dropout: compare(r, "dropout", name, op.drop.problem, dropout_variants()); break;
            case LayerKind::fc: break;
        }
    }
    for (const HeadOp& op : l.head) {
        compare(r, "gemm", op.layer->name + ".fprop", op.fprop.problem, gemm_variants());
        compare(r, "gemm", op.layer->name + ".dgrad", op.dgrad.problem, gemm_variants());
        compare(r, "gemm", op.layer->name + ".wgrad", op.wgrad.problem, gemm_variants());
        if (op.has_dropout) compare(r, "dropout", op.layer->name, op.drop.problem, dropout_variants());
    }
    compare(r, "softmax", "loss", l.softmax.problem, softmax_variants());
    compare(r, "augment", "input", l.augment.problem, augment_variants());
    SgdProblem update{static_cast<int>(l.params.size()), 0};
    for (size_t i = 0; i < l.params.size(); ++i) update.total += l.rows[i].count * l.params[i].row;
    compare(r, "sgd", "update", update, sgd_variants());
    // What two workers exchange after the trunk; here within one device.
    const int64_t rows = l.config.batch, cols = l.flat_cols;
    compare(r, "exchange_copy", "trunk.gather", CopyProblem{rows, cols, cols, cols, l.config.dtype}, exchange_copy_variants());
    compare(r, "exchange_reduce", "trunk.reduce", ReduceProblem{2, rows, cols, cols, cols, l.config.dtype}, exchange_reduce_variants());
}

// "m=512,n=512,k=512,layout=nt" and the like, by the fields' names in problem.h.
std::map<std::string, std::string> fields(const std::string& text, const std::vector<std::string>& allowed) {
    std::map<std::string, std::string> f;
    std::stringstream parts(text);
    for (std::string part; std::getline(parts, part, ',');) {
        const size_t eq = part.find('=');
        if (eq == std::string::npos || eq + 1 == part.size()) throw UsageError("--problem " + part + ": must be FIELD=VALUE");
        const std::string key = part.substr(0, eq);
        if (std::find(allowed.begin(), allowed.end(), key) == allowed.end()) throw UsageError("--problem: " + unknown_name("field", key, allowed));
        f[key] = part.substr(eq + 1);
    }
    return f;
}

int number(const std::map<std::string, std::string>& f, const char* key, int otherwise) {
    const auto at = f.find(key);
    if (at == f.end()) return otherwise;
    char* end = nullptr;
    const long v = std::strtol(at->second.c_str(), &end, 10);
    if (*end || v < 0 || v > 1 << 24) throw UsageError("--problem " + at->first + "=" + at->second + ": must be a whole number");
    return static_cast<int>(v);
}

void compare_problem(Report& r, Settings& s, const std::string& text) {
    const DType type = s.precision == "bf16" ? DType::bf16 : DType::f32;
    if (s.op == "gemm") {
        const auto f = fields(text, {"layout", "m", "n", "k", "bias", "relu"});
        GemmProblem p;
        const std::string layout = f.contains("layout") ? f.at("layout") : "nt";
        if (layout != "nt" && layout != "nn" && layout != "tn") throw UsageError("--problem layout=" + layout + ": must be nt, nn or tn");
        p.layout = layout == "nt" ? GemmLayout::nt : layout == "nn" ? GemmLayout::nn : GemmLayout::tn;
        p.m = number(f, "m", 512), p.n = number(f, "n", 512), p.k = number(f, "k", 512);
        p.lda = p.layout == GemmLayout::tn ? p.m : p.k, p.ldb = p.layout == GemmLayout::nt ? p.k : p.n, p.ldc = p.n;
        p.dtype = type, p.bias = number(f, "bias", 0), p.relu = number(f, "relu", 0);
        s.batch = p.m;
        return compare(r, "gemm", text, p, gemm_variants());
    }
    if (!s.op.starts_with("conv_")) throw UsageError("--problem needs OP gemm, conv_fprop, conv_dgrad or conv_wgrad; others take --net and --layer");
    const auto f = fields(text, {"n", "h", "w", "c", "k", "r", "s", "stride", "pad", "groups", "bias", "relu"});
    ConvProblem p;
    p.n = number(f, "n", 4), p.h = number(f, "h", 27), p.w = number(f, "w", p.h), p.c = number(f, "c", 96), p.k = number(f, "k", 256);
    p.r = number(f, "r", 5), p.s = number(f, "s", p.r), p.stride_h = p.stride_w = number(f, "stride", 1), p.pad_h = p.pad_w = number(f, "pad", 0);
    p.groups = number(f, "groups", 1), p.bias = number(f, "bias", 1), p.relu = number(f, "relu", 0), p.dtype = type;
    if (p.groups < 1 || p.c % p.groups || p.k % p.groups || p.stride_h < 1 || p.p() < 1 || p.q() < 1 || p.n < 1)
        throw UsageError("--problem " + text + ": no such convolution (groups divide c and k, the filter fits the padded input)");
    s.batch = p.n;
    if (s.op == "conv_fprop") compare(r, "conv_fprop", text, p, conv_fprop_variants());
    if (s.op == "conv_dgrad") compare(r, "conv_dgrad", text, p, conv_dgrad_variants());
    if (s.op == "conv_wgrad") compare(r, "conv_wgrad", text, p, conv_wgrad_variants());
}

int run(int argc, char** argv) {
    CLI::App app("Checks and times every variant of every operation, or of OP, at a network's layer shapes.");
    Settings s;
    std::string problem, variants;
    app.add_option("OP", s.op, "one operation: conv_fprop, gemm, lrn_forward, ...")->check(one_of("operation", kOperations));
    app.add_option("--net", s.net, "whose shapes")->check(one_of("net", net_names()));
    app.add_option("--layer", s.layer, "one layer: conv2, norm1, fc6.fprop");
    app.add_option("--problem", problem, "m=512,n=512,k=512,layout=nt (gemm) or n=4,h=27,c=96,k=256,r=5,pad=2 (conv_*)");
    app.add_option("--batch", s.batch, "images; default 128 on a GPU, 8 on virtual ones")->check(between(1, 1 << 16));
    app.add_option("--precision", s.precision, "fp32, bf16")->check(one_of("precision", {"fp32", "bf16"}));
    app.add_option("--variants", variants, "only these, with commas between");
    app.add_option("--gpu", s.device, "which device")->check(between(0, 63));
    app.add_option("--seconds", s.seconds, "of timing each variant")->check(between(0, 600));
    app.add_option("--json", s.json, "writes the rows to this file");
    app.add_flag("--check-only", s.check_only, "checks, does not time");
    parse_command_line(app, argc, argv);
    std::stringstream parts(variants);
    for (std::string v; std::getline(parts, v, ',');) s.variants.push_back(v);
    if (s.batch == 0) s.batch = kAutomaticUsesBaselines ? 8 : 128;
    if (s.device >= device_count()) throw UsageError("--gpu " + std::to_string(s.device) + ": there are " + std::to_string(device_count()));
    WT_CUDA(cudaSetDevice(s.device));
    std::printf("%s%s\n", device_name(s.device).c_str(), kAutomaticUsesBaselines ? ": times are CPU times, the check uses at most 2 images" : "");

    Report report{s};
    if (!problem.empty()) {
        compare_problem(report, s, problem);
    } else {
        WorkerConfig c;
        c.net = make_net(s.net, {});
        c.batch = s.batch;
        c.device = s.device;
        c.dtype = s.precision == "bf16" ? DType::bf16 : DType::f32;
        compare_network(report, Layout(c));
    }
    if (report.problems == 0) throw UsageError("nothing to compare: " + (s.op.empty() ? "" : s.op + " ") + "has no layer '" + s.layer + "' in " + s.net);
    if (!s.json.empty()) {
        std::ofstream f(s.json);
        f << report.rows.dump(1) << "\n";
        if (!f.flush()) throw Error("cannot write " + s.json + ": is there room, and may you write there?");
    }
    if (report.wrong) throw Error(std::to_string(report.wrong) + " variants are wrong");
    return 0;
}

}  // namespace

int main(int argc, char** argv) { return run_program(argc, argv, "compare", run); }
