#include "host/bench/jobs.h"

#include <algorithm>
#include <functional>
#include <optional>

#include "host/cuda/nearest.h"
#include "host/parallel/layout.h"
#include "kernels/operations.h"

namespace wt::bench {

namespace {

DType storage_of(Precision p) { return p == Precision::bf16 ? DType::bf16 : DType::f32; }

// ---- operations -----------------------------------------------------------------------------------

// What can be done with an operation whose types are forgotten.
struct Operation {
    const char* name;
    const ProblemFields* fields;
    // Without a precision the text says which.
    std::function<Job(const std::string& text, std::optional<Precision>, int sm)> from_text;
};

const std::vector<Operation>& operations() {
    static const std::vector<Operation> all = [] {
        std::vector<Operation> list;
        for_each_operation([&]<class P, class A>(Table<P, A> (*table)()) {
            const auto from_text = [table](const std::string& text, std::optional<Precision> precision, int sm) {
                P p = problem_of<P>(text, precision ? FieldSet::without_precision : FieldSet::all);
                if constexpr (requires { p.dtype; })
                    if (precision) p.dtype = storage_of(*precision);
                if constexpr (requires { p.tf32; })
                    if (precision) p.tf32 = *precision == Precision::tf32;
                Job j = make_job("", p, table(), sm);
                j.name = j.problem;
                return j;
            };
            list.push_back({A::operation, &fields_of(P{}), from_text});
        });
        return list;
    }();
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
    void add(const std::string& name, P problem, Table<P, A> table, std::vector<std::string> parts = {}) {
        if constexpr (requires { problem.tf32; }) problem.tf32 = tf32_;
        Job j = make_job(name, problem, table, sm_);
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
        j.add(norm->name + ".forward+" + name, p, lrn_pool_forward_variants(), {norm->name + ".forward", name + ".forward"});
        title += "+" + norm->name;
        parts.push_back(norm->name + ".backward");
    }
    if (p.relu) {
        title += "+" + relu->name;
        parts.push_back(relu->name + ".backward");
    }
    j.add(title, p, lrn_pool_backward_variants(), parts);
}

void add_trunk(Jobs& j, const Layout& l) {
    for (size_t i = 0; i < l.trunk.size(); ++i) {
        const TrunkOp& op = l.trunk[i];
        const std::string& name = op.layer->name;
        const TrunkOp* before = i > 0 ? &l.trunk[i - 1] : nullptr;
        switch (op.layer->kind) {
            case LayerKind::conv: {
                j.add(name + ".fprop", op.fprop.problem, conv_fprop_variants());
                if (op.needs_dx) {
                    j.add(name + ".dgrad", op.dgrad.problem, conv_dgrad_variants());
                    // Its input straight from a ReLU: that one's gradient can be taken along.
                    if (before && before->layer->kind == LayerKind::activation && before->layer->act == Activation::relu) {
                        ConvProblem p = op.dgrad.problem;
                        p.drelu = true;
                        j.add(name + ".dgrad+drelu", p, conv_dgrad_variants(), {name + ".dgrad", before->layer->name + ".backward"});
                    }
                }
                j.add(name + ".wgrad", op.wgrad.problem, conv_wgrad_variants());
                // Channels that no vector holds, and a stride: the augmentation can store the image folded.
                if (!op.needs_dx && op.layer->stride > 1) {
                    ConvProblem f = op.fprop.problem, w = op.wgrad.problem;
                    f.fold = w.fold = op.layer->stride;
                    j.add(name + ".fprop+folded", f, conv_fprop_variants(), {name + ".fprop"});
                    j.add(name + ".wgrad+folded", w, conv_wgrad_variants(), {name + ".wgrad"});
                }
                break;
            }
            case LayerKind::activation:
                j.add(name + ".forward", op.act.problem, activation_forward_variants());
                j.add(name + ".backward", op.act_back.problem, activation_backward_variants());
                break;
            case LayerKind::lrn:
                j.add(name + ".forward", op.lrn.problem, lrn_forward_variants());
                j.add(name + ".backward", op.lrn_back.problem, lrn_backward_variants());
                break;
            case LayerKind::pool:
                j.add(name + ".forward", op.pool.problem, pool_forward_variants());
                j.add(name + ".backward", op.pool_back.problem, pool_backward_variants());
                add_lrn_pool(j, l, i);
                break;
            case LayerKind::dropout: j.add(name + ".forward", op.drop.problem, dropout_variants()); break;
            case LayerKind::fc: break;
        }
    }
}

void add_head(Jobs& j, const Layout& l) {
    for (size_t i = 0; i < l.head.size(); ++i) {
        const HeadOp& op = l.head[i];
        const std::string& name = op.layer->name;
        j.add(name + ".fprop", op.fprop.problem, gemm_variants());
        j.add(name + ".dgrad", op.dgrad.problem, gemm_variants());
        j.add(name + ".wgrad", op.wgrad.problem, gemm_variants());
        if (op.has_dropout) {
            const std::string drop = l.config.net.layers[op.dropout_layer].name + ".forward";
            j.add(drop, op.drop.problem, dropout_variants());
            GemmProblem p = op.fprop.problem;
            p.dropout = op.drop.problem.p;
            j.add(name + ".fprop+dropout", p, gemm_variants(), {name + ".fprop", drop});
        }
        if (i > 0 && l.head[i - 1].relu) {  // the gradients of the ReLU and the dropout below
            const HeadOp& below = l.head[i - 1];
            GemmProblem p = op.dgrad.problem;
            p.drelu = true;
            std::vector<std::string> parts = {name + ".dgrad"};
            if (below.has_dropout) parts.push_back(l.config.net.layers[below.dropout_layer].name + ".forward");
            parts.push_back(below.layer->name + ".act_backward");
            j.add(parts.back(), below.act_back.problem, activation_backward_variants());
            j.add(name + ".dgrad+drelu", p, gemm_variants(), parts);
        }
        // The update of the layer's weights: alone, and in the epilogue of their gradient.
        const int64_t count = int64_t(op.wgrad.problem.m) * op.wgrad.problem.n;
        j.add(name + ".update", SgdProblem{.tensors = 1, .total = count}, sgd_variants());
        GemmProblem w = op.wgrad.problem;
        w.sgd = true;
        j.add(name + ".wgrad+sgd", w, gemm_variants(), {name + ".wgrad", name + ".update"});
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
    j.add("input.augment", l.augment.problem, augment_variants());
    add_trunk(j, l);
    add_head(j, l);
    j.add("loss.softmax", l.softmax.problem, softmax_variants());
    SgdProblem update{static_cast<int>(l.params.size()), 0};
    for (size_t i = 0; i < l.params.size(); ++i) update.total += l.rows[i].count * l.params[i].row;
    j.add("update.sgd", update, sgd_variants());
    // What two workers exchange after the trunk; here within one device.
    const int64_t cols = l.flat_cols;
    j.add("trunk.gather", CopyProblem{batch, cols, cols, cols, c.dtype}, exchange_copy_variants());
    j.add("trunk.reduce", ReduceProblem{2, batch, cols, cols, cols, c.dtype}, exchange_reduce_variants());
    return std::move(j.jobs);
}

Job problem_job(const std::string& op, const std::string& text, Precision precision, int device) {
    return operation_of(op).from_text(text, precision, device_sm(device));
}

Job problem_job(const std::string& op, const std::string& text, int device) { return operation_of(op).from_text(text, {}, device_sm(device)); }

std::string problem_help(const std::string& op) { return wt::problem_help(*operation_of(op).fields); }

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
