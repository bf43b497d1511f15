#include "host/bench/jobs.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <set>

#include "host/cuda/nearest.h"
#include "host/parallel/layout.h"

namespace wt::bench {

namespace {

DType storage_of(Precision p) { return p == Precision::bf16 ? DType::bf16 : DType::f32; }

// ---- problems as text -----------------------------------------------------------------------------

// One field of a problem: a number, or one of a few words.
template <class P>
struct Field {
    const char* key;
    double least, most;
    std::function<void(P&, double)> set;
    std::function<double(const P&)> get;
    std::vector<std::string> words = {};
};

template <class P, class M>
Field<P> field(const char* key, M P::*member, double least, double most, std::vector<std::string> words = {}) {
    return {key, least, most, [=](P& p, double v) { p.*member = static_cast<M>(v); }, [=](const P& p) { return static_cast<double>(p.*member); },
            std::move(words)};
}
// One number for two members.
template <class P>
Field<P> both(const char* key, int P::*a, int P::*b, double least, double most) {
    return {key, least, most, [=](P& p, double v) { p.*a = p.*b = static_cast<int>(v); }, [=](const P& p) { return p.*a; }, {}};
}

constexpr double kBig = 1 << 24;

// A problem's fields, in the order they are printed; the problem that is meant when none is given; what depends on
// other fields, and "" or why there is no such problem.
template <class P>
struct Description {
    std::vector<Field<P>> fields;
    P defaults;
    std::function<std::string(P&)> finish = [](P&) { return std::string(); };
};

Description<ConvProblem> describe(const ConvProblem*) {
    using P = ConvProblem;
    P d{.n = 4, .h = 27, .w = 0, .c = 96, .k = 256, .r = 5, .s = 0};
    return {{field("n", &P::n, 1, kBig), field("h", &P::h, 1, 4096), field("w", &P::w, 0, 4096), field("c", &P::c, 1, kBig),
             field("k", &P::k, 1, kBig), field("r", &P::r, 1, 256), field("s", &P::s, 0, 256),
             both("stride", &P::stride_h, &P::stride_w, 1, 256), both("pad", &P::pad_h, &P::pad_w, 0, 256),
             field("groups", &P::groups, 1, kBig), field("bias", &P::bias, 0, 1), field("relu", &P::relu, 0, 1),
             field("drelu", &P::drelu, 0, 1), field("fold", &P::fold, 1, 16)},
            d,
            [](P& p) -> std::string {
                if (!p.w) p.w = p.h;
                if (!p.s) p.s = p.r;
                if (p.c % p.groups || p.k % p.groups) return "groups must divide c and k";
                if (p.r > p.h + 2 * p.pad_h || p.s > p.w + 2 * p.pad_w) return "the filter must fit the padded image";
                if (p.fold > 1 && (p.fold != p.stride_h || p.fold != p.stride_w)) return "fold must be 1 or the stride";
                return "";
            }};
}

Description<GemmProblem> describe(const GemmProblem*) {
    using P = GemmProblem;
    P d{.m = 512, .n = 512, .k = 512};
    return {{field("layout", &P::layout, 0, 2, {"nt", "nn", "tn"}), field("m", &P::m, 1, kBig), field("n", &P::n, 1, kBig),
             field("k", &P::k, 1, kBig), field("bias", &P::bias, 0, 1), field("relu", &P::relu, 0, 1), field("dropout", &P::dropout, 0, 0.99),
             field("drelu", &P::drelu, 0, 1), field("sgd", &P::sgd, 0, 1), field("aligned", &P::aligned, 0, 1)},
            d,
            [](P& p) -> std::string {
                p.lda = p.layout == GemmLayout::tn ? p.m : p.k, p.ldb = p.layout == GemmLayout::nt ? p.k : p.n, p.ldc = p.n;
                if ((p.relu || p.dropout > 0) && p.layout != GemmLayout::nt) return "relu and dropout need layout=nt";
                if (p.drelu && p.layout != GemmLayout::nn) return "drelu needs layout=nn";
                if (p.sgd && p.layout != GemmLayout::tn) return "sgd needs layout=tn";
                return "";
            }};
}

Description<LrnProblem> describe(const LrnProblem*) {
    using P = LrnProblem;
    return {{field("pixels", &P::pixels, 1, 1e9), field("c", &P::c, 1, kBig), field("size", &P::size, 1, 255),
             field("alpha", &P::alpha, 0, 1e3), field("beta", &P::beta, 0, 16), field("k", &P::k, 1e-6, 1e3),
             field("aligned", &P::aligned, 0, 1)},
            P{.pixels = 4 * 27 * 27, .c = 256},
            [](P& p) { return p.size % 2 ? std::string() : "size must be odd"; }};
}

Description<PoolProblem> describe(const PoolProblem*) {
    using P = PoolProblem;
    return {{field("n", &P::n, 1, kBig), field("h", &P::h, 1, 4096), field("w", &P::w, 0, 4096), field("c", &P::c, 1, kBig),
             field("window", &P::window, 1, 15), field("stride", &P::stride, 1, 256), field("pad", &P::pad, 0, 14),
             field("aligned", &P::aligned, 0, 1)},
            P{.n = 4, .h = 27, .w = 0, .c = 256},
            [](P& p) -> std::string {
                if (!p.w) p.w = p.h;
                if (p.pad >= p.window) return "pad must be less than the window";
                if (p.window > p.h + 2 * p.pad || p.window > p.w + 2 * p.pad) return "the window must fit the padded image";
                return "";
            }};
}

Description<LrnPoolProblem> describe(const LrnPoolProblem*) {
    using P = LrnPoolProblem;
    return {{field("n", &P::n, 1, kBig), field("h", &P::h, 1, 4096), field("w", &P::w, 0, 4096), field("c", &P::c, 1, kBig),
             field("window", &P::window, 1, 15), field("stride", &P::stride, 1, 256), field("pad", &P::pad, 0, 14), field("size", &P::size, 1, 255),
             field("alpha", &P::alpha, 0, 1e3), field("beta", &P::beta, 0, 16), field("k", &P::k, 1e-6, 1e3), field("lrn", &P::lrn, 0, 1),
             field("relu", &P::relu, 0, 1), field("bias", &P::bias, 0, 1), field("aligned", &P::aligned, 0, 1)},
            P{.n = 4, .h = 27, .w = 0, .c = 256},
            [](P& p) -> std::string {
                if (!p.w) p.w = p.h;
                if (p.window > p.h + 2 * p.pad || p.window > p.w + 2 * p.pad) return "the window must fit the padded image";
                return lrn_pool_refuses(p);
            }};
}

Description<ActivationProblem> describe(const ActivationProblem*) {
    using P = ActivationProblem;
    return {{field("rows", &P::rows, 1, 1e9), field("cols", &P::cols, 1, 1e9), field("kind", &P::kind, 0, 1, {"relu", "tanh"})},
            P{.rows = 128, .cols = 4096},
            [](P& p) { return p.ld_y = p.ld_dy = p.cols, std::string(); }};
}

Description<DropoutProblem> describe(const DropoutProblem*) {
    using P = DropoutProblem;
    return {{field("rows", &P::rows, 1, 1e9), field("cols", &P::cols, 1, 1e9), field("p", &P::p, 0, 0.99)},
            P{.rows = 128, .cols = 4096},
            [](P& p) { return p.ld_x = p.ld_y = p.cols, std::string(); }};
}

Description<SoftmaxProblem> describe(const SoftmaxProblem*) {
    using P = SoftmaxProblem;
    return {{field("rows", &P::rows, 1, kBig), field("classes", &P::classes, 2, kBig)},
            P{.rows = 128, .classes = 1000},
            [](P& p) { return p.ld_logits = p.ld_dlogits = p.classes, p.scale = 1.f / p.rows, std::string(); }};
}

Description<AugmentProblem> describe(const AugmentProblem*) {
    using P = AugmentProblem;
    return {{field("n", &P::n, 1, kBig), field("src_h", &P::src_h, 1, 4096), field("src_w", &P::src_w, 0, 4096), field("src_c", &P::src_c, 1, 3),
             field("out_h", &P::out_h, 1, 4096), field("out_w", &P::out_w, 0, 4096)},
            P{.n = 16, .src_h = 256, .src_w = 0, .out_h = 227, .out_w = 0},
            [](P& p) -> std::string {
                if (!p.src_w) p.src_w = p.src_h;
                if (!p.out_w) p.out_w = p.out_h;
                return p.out_h > p.src_h || p.out_w > p.src_w ? "the crop must fit the image" : "";
            }};
}

Description<SgdProblem> describe(const SgdProblem*) {
    using P = SgdProblem;
    return {{field("tensors", &P::tensors, 1, kSgdMaxTensors), field("total", &P::total, 1, 1e10)}, P{.tensors = 16, .total = 1 << 22}};
}

Description<CopyProblem> describe(const CopyProblem*) {
    using P = CopyProblem;
    return {{field("rows", &P::rows, 1, 1e9), field("cols", &P::cols, 1, 1e9)},
            P{.rows = 128, .cols = 4096},
            [](P& p) { return p.ld_src = p.ld_dst = p.cols, std::string(); }};
}

Description<ReduceProblem> describe(const ReduceProblem*) {
    using P = ReduceProblem;
    return {{field("sources", &P::sources, 1, kMaxRanks), field("rows", &P::rows, 1, 1e9), field("cols", &P::cols, 1, 1e9)},
            P{.sources = 2, .rows = 128, .cols = 4096},
            [](P& p) { return p.ld_src = p.ld_dst = p.cols, std::string(); }};
}

// Fields that everybody leaves alone (no padding, one group, ...) are left out unless `all` are asked for.
template <class P>
std::string fields_of(const P& p, bool all = false) {
    const Description<P> d = describe(static_cast<const P*>(nullptr));
    std::string text;
    for (const Field<P>& f : d.fields) {
        if (!all && f.words.empty() && f.get(p) == f.get(P{}) && f.get(d.defaults) == f.get(P{})) continue;
        char value[32];
        std::snprintf(value, sizeof value, "%.9g", f.get(p));
        text += (text.empty() ? "" : " ") + std::string(f.key) + "=" + (f.words.empty() ? value : f.words[static_cast<size_t>(f.get(p))]);
    }
    return text;
}

template <class P>
double value_of(const Field<P>& f, const std::string& given) {
    const std::string said = "--problem " + std::string(f.key) + "=" + given;
    if (!f.words.empty()) {
        const auto at = std::find(f.words.begin(), f.words.end(), given);
        if (at == f.words.end()) throw UsageError("--problem: " + unknown_name(f.key, given, f.words));
        return static_cast<double>(at - f.words.begin());
    }
    char* end = nullptr;
    const double v = std::strtod(given.c_str(), &end);
    P probe{};
    f.set(probe, v >= f.least && v <= f.most ? v : f.least);
    char range[64];
    std::snprintf(range, sizeof range, "from %.9g to %.9g", f.least, f.most);
    if (given.empty() || *end || !(v >= f.least && v <= f.most)) throw UsageError(said + ": must be a number " + range);
    if (std::abs(f.get(probe) - v) > 1e-6 * std::abs(v)) throw UsageError(said + ": must be a whole number " + range);
    return v;
}

template <class P>
P parse(const std::string& text, Precision precision) {
    const Description<P> d = describe(static_cast<const P*>(nullptr));
    P p = d.defaults;
    std::vector<std::string> keys;
    for (const auto& f : d.fields) keys.push_back(f.key);
    std::set<std::string> given;
    for (size_t at = 0; at < text.size();) {
        const size_t end = std::min(text.find_first_of(", ", at), text.size());
        const std::string part = text.substr(at, end - at);
        at = end + 1;
        if (part.empty()) continue;
        const size_t eq = part.find('=');
        if (eq == std::string::npos) throw UsageError("--problem " + part + ": must be FIELD=VALUE");
        const std::string key = part.substr(0, eq);
        const auto f = std::find_if(d.fields.begin(), d.fields.end(), [&](const auto& x) { return key == x.key; });
        if (f == d.fields.end()) throw UsageError("--problem: " + unknown_name("field", key, keys));
        if (!given.insert(key).second) throw UsageError("--problem: " + key + " is given twice, " + part + " the second time");
        f->set(p, value_of(*f, part.substr(eq + 1)));
    }
    if constexpr (requires { p.dtype; }) p.dtype = storage_of(precision);
    if constexpr (requires { p.tf32; }) p.tf32 = precision == Precision::tf32;
    if (const std::string why = d.finish(p); !why.empty()) throw UsageError("--problem " + text + ": " + why);
    return p;
}

// ---- operations -----------------------------------------------------------------------------------

// What can be done with an operation whose types are forgotten.
struct Operation {
    const char* name;
    std::function<Job(const std::string& text, Precision, int sm)> from_text;
    std::function<std::string()> defaults;
};

template <class P, class A>
Operation operation(const char* name, Table<P, A> (*table)()) {
    return {name,
            [=](const std::string& text, Precision precision, int sm) {
                const P p = parse<P>(text, precision);
                Job j = make_job(fields_of(p), name, p, table(), sm);
                j.problem = j.name;
                return j;
            },
            [] {
                P p = describe(static_cast<const P*>(nullptr)).defaults;
                describe(static_cast<const P*>(nullptr)).finish(p);
                return fields_of(p, true);
            }};
}

const std::vector<Operation>& operations() {
    static const std::vector<Operation> all = {
        operation("augment", augment_variants),
        operation("conv_fprop", conv_fprop_variants),
        operation("conv_dgrad", conv_dgrad_variants),
        operation("conv_wgrad", conv_wgrad_variants),
        operation("activation_forward", activation_forward_variants),
        operation("activation_backward", activation_backward_variants),
        operation("lrn_forward", lrn_forward_variants),
        operation("lrn_backward", lrn_backward_variants),
        operation("pool_forward", pool_forward_variants),
        operation("pool_backward", pool_backward_variants),
        operation("lrn_pool_forward", lrn_pool_forward_variants),
        operation("lrn_pool_backward", lrn_pool_backward_variants),
        operation("dropout", dropout_variants),
        operation("gemm", gemm_variants),
        operation("softmax", softmax_variants),
        operation("sgd", sgd_variants),
        operation("exchange_copy", exchange_copy_variants),
        operation("exchange_reduce", exchange_reduce_variants),
    };
    return all;
}

const Operation& operation_of(const std::string& name) {
    for (const Operation& o : operations())
        if (name == o.name) return o;
    throw UsageError(unknown_name("operation", name, operation_names()));
}

// ---- a network's -----------------------------------------------------------------------------------

class Jobs {
public:
    Jobs(Precision precision, int sm) : tf32_(precision == Precision::tf32), sm_(sm) {}

    template <class P, class A>
    void add(const std::string& name, const char* op, P problem, Table<P, A> table, std::vector<std::string> parts = {}) {
        if constexpr (requires { problem.tf32; }) problem.tf32 = tf32_;
        Job j = make_job(name, op, problem, table, sm_);
        j.problem = fields_of(problem);
        j.parts = std::move(parts);
        jobs.push_back(std::move(j));
    }
    std::vector<Job> jobs;

private:
    bool tf32_;
    int sm_;
};

// Pooling with the normalization and the ReLU before it, as far as they are there.
void add_lrn_pool(Jobs& j, const Layout& l, size_t i) {
    const PoolProblem& pool = l.trunk[i].pool.problem;
    const std::string& name = l.trunk[i].layer->name;
    LrnPoolProblem p{.n = pool.n, .h = pool.h, .w = pool.w, .c = pool.c, .window = pool.window, .stride = pool.stride, .pad = pool.pad, .dtype = pool.dtype};
    const Layer* norm = i > 0 && l.trunk[i - 1].layer->kind == LayerKind::lrn ? l.trunk[i - 1].layer : nullptr;
    const size_t below = norm ? i - 1 : i;
    const Layer* relu = below > 0 && l.trunk[below - 1].layer->kind == LayerKind::activation ? l.trunk[below - 1].layer : nullptr;
    p.lrn = norm != nullptr, p.relu = relu && relu->act == Activation::relu;
    if (!norm && !p.relu) return;
    std::string title = name + ".backward";
    std::vector<std::string> parts = {title};
    if (norm) {
        p.size = norm->lrn_size, p.alpha = norm->lrn_alpha, p.beta = norm->lrn_beta, p.k = norm->lrn_k;
        j.add(norm->name + ".forward+" + name, "lrn_pool_forward", p, lrn_pool_forward_variants(), {norm->name + ".forward", name + ".forward"});
        title += "+" + norm->name;
        parts.push_back(norm->name + ".backward");
    }
    if (p.relu) {
        title += "+" + relu->name;
        parts.push_back(relu->name + ".backward");
    }
    j.add(title, "lrn_pool_backward", p, lrn_pool_backward_variants(), parts);
}

void add_trunk(Jobs& j, const Layout& l) {
    for (size_t i = 0; i < l.trunk.size(); ++i) {
        const TrunkOp& op = l.trunk[i];
        const std::string& name = op.layer->name;
        const TrunkOp* before = i > 0 ? &l.trunk[i - 1] : nullptr;
        switch (op.layer->kind) {
            case LayerKind::conv: {
                j.add(name + ".fprop", "conv_fprop", op.fprop.problem, conv_fprop_variants());
                if (op.needs_dx) {
                    j.add(name + ".dgrad", "conv_dgrad", op.dgrad.problem, conv_dgrad_variants());
                    // Its input straight from a ReLU: that one's gradient can be taken along.
                    if (before && before->layer->kind == LayerKind::activation && before->layer->act == Activation::relu) {
                        ConvProblem p = op.dgrad.problem;
                        p.drelu = true;
                        j.add(name + ".dgrad+drelu", "conv_dgrad", p, conv_dgrad_variants(), {name + ".dgrad", before->layer->name + ".backward"});
                    }
                }
                j.add(name + ".wgrad", "conv_wgrad", op.wgrad.problem, conv_wgrad_variants());
                // Channels that no vector holds, and a stride: the augmentation can store the image folded.
                if (!op.needs_dx && op.layer->stride > 1) {
                    ConvProblem f = op.fprop.problem, w = op.wgrad.problem;
                    f.fold = w.fold = op.layer->stride;
                    j.add(name + ".fprop+folded", "conv_fprop", f, conv_fprop_variants(), {name + ".fprop"});
                    j.add(name + ".wgrad+folded", "conv_wgrad", w, conv_wgrad_variants(), {name + ".wgrad"});
                }
                break;
            }
            case LayerKind::activation:
                j.add(name + ".forward", "activation_forward", op.act.problem, activation_forward_variants());
                j.add(name + ".backward", "activation_backward", op.act_back.problem, activation_backward_variants());
                break;
            case LayerKind::lrn:
                j.add(name + ".forward", "lrn_forward", op.lrn.problem, lrn_forward_variants());
                j.add(name + ".backward", "lrn_backward", op.lrn_back.problem, lrn_backward_variants());
                break;
            case LayerKind::pool:
                j.add(name + ".forward", "pool_forward", op.pool.problem, pool_forward_variants());
                j.add(name + ".backward", "pool_backward", op.pool_back.problem, pool_backward_variants());
                add_lrn_pool(j, l, i);
                break;
            case LayerKind::dropout: j.add(name + ".forward", "dropout", op.drop.problem, dropout_variants()); break;
            case LayerKind::fc: break;
        }
    }
}

void add_head(Jobs& j, const Layout& l) {
    for (size_t i = 0; i < l.head.size(); ++i) {
        const HeadOp& op = l.head[i];
        const std::string& name = op.layer->name;
        j.add(name + ".fprop", "gemm", op.fprop.problem, gemm_variants());
        j.add(name + ".dgrad", "gemm", op.dgrad.problem, gemm_variants());
        j.add(name + ".wgrad", "gemm", op.wgrad.problem, gemm_variants());
        if (op.has_dropout) {
            const std::string drop = l.config.net.layers[op.dropout_layer].name + ".forward";
            j.add(drop, "dropout", op.drop.problem, dropout_variants());
            GemmProblem p = op.fprop.problem;
            p.dropout = op.drop.problem.p;
            j.add(name + ".fprop+dropout", "gemm", p, gemm_variants(), {name + ".fprop", drop});
        }
        if (i > 0 && l.head[i - 1].relu) {  // the gradients of the ReLU and the dropout below
            const HeadOp& below = l.head[i - 1];
            GemmProblem p = op.dgrad.problem;
            p.drelu = true;
            std::vector<std::string> parts = {name + ".dgrad"};
            if (below.has_dropout) parts.push_back(l.config.net.layers[below.dropout_layer].name + ".forward");
            parts.push_back(below.layer->name + ".act_backward");
            j.add(parts.back(), "activation_backward", below.act_back.problem, activation_backward_variants());
            j.add(name + ".dgrad+drelu", "gemm", p, gemm_variants(), parts);
        }
        // The update of the layer's weights: alone, and in the epilogue of their gradient.
        const int64_t count = int64_t(op.wgrad.problem.m) * op.wgrad.problem.n;
        j.add(name + ".update", "sgd", SgdProblem{.tensors = 1, .total = count}, sgd_variants());
        GemmProblem w = op.wgrad.problem;
        w.sgd = true;
        j.add(name + ".wgrad+sgd", "gemm", w, gemm_variants(), {name + ".wgrad", name + ".update"});
    }
}

}  // namespace

const std::vector<std::string>& operation_names() {
    static const std::vector<std::string> names = [] {
        std::vector<std::string> n;
        for (const Operation& o : operations()) n.push_back(o.name);
        return n;
    }();
    return names;
}

const std::vector<std::string>& precision_names() {
    static const std::vector<std::string> names = {"fp32", "tf32", "bf16"};
    return names;
}

Precision precision_of(const std::string& name) {
    return name == "bf16" ? Precision::bf16 : name == "tf32" ? Precision::tf32 : Precision::fp32;
}

std::vector<Job> network_jobs(const std::string& net, int batch, Precision precision, int device) {
    WorkerConfig c;
    c.net = make_net(net, {});
    c.batch = batch;
    c.device = device;
    c.dtype = storage_of(precision);
    c.kernels.fuse = Fuse::off;  // the parts; the fused ones are made from them
    const Layout l(c);
    Jobs j(precision, device_sm(device));
    j.add("input.augment", "augment", l.augment.problem, augment_variants());
    add_trunk(j, l);
    add_head(j, l);
    j.add("loss.softmax", "softmax", l.softmax.problem, softmax_variants());
    SgdProblem update{static_cast<int>(l.params.size()), 0};
    for (size_t i = 0; i < l.params.size(); ++i) update.total += l.rows[i].count * l.params[i].row;
    j.add("update.sgd", "sgd", update, sgd_variants());
    // What two workers exchange after the trunk; here within one device.
    const int64_t cols = l.flat_cols;
    j.add("trunk.gather", "exchange_copy", CopyProblem{batch, cols, cols, cols, c.dtype}, exchange_copy_variants());
    j.add("trunk.reduce", "exchange_reduce", ReduceProblem{2, batch, cols, cols, cols, c.dtype}, exchange_reduce_variants());
    return std::move(j.jobs);
}

Job problem_job(const std::string& op, const std::string& text, Precision precision, int device) {
    return operation_of(op).from_text(text, precision, device_sm(device));
}

std::string problem_defaults(const std::string& op) { return operation_of(op).defaults(); }

std::vector<Job> select(std::vector<Job> jobs, const std::string& op, const std::string& layer) {
    std::vector<std::string> names;
    std::vector<Job> chosen;
    for (Job& j : jobs) {
        if (!op.empty() && j.op != op) continue;
        for (const std::string& n : {j.layer(), j.name})
            if (std::find(names.begin(), names.end(), n) == names.end()) names.push_back(n);
        if (layer.empty() || j.layer() == layer || j.name == layer) chosen.push_back(std::move(j));
    }
    if (chosen.empty() && !names.empty()) {
        const std::string near = nearest(layer, names);
        std::vector<std::string> layers;  // all passes of all layers would be too many to list
        for (const std::string& n : names)
            if (n.find('.') == std::string::npos) layers.push_back(n);
        throw UsageError(unknown_name("layer", layer, layers) + (near.find('.') != std::string::npos ? "; nearest is " + near : ""));
    }
    if (chosen.empty()) throw UsageError("this network has no " + op);
    return chosen;
}

}  // namespace wt::bench
