#include "host/parallel/layout.h"

#include <algorithm>

#include "host/cuda/device.h"

namespace wt {

size_t MemoryPlan::total() const {
    size_t n = 0;
    for (const Entry& e : entries_) n += e.bytes;
    return n;
}

std::string MemoryPlan::text() const {
    static const char* names[] = {"weights", "activations", "gradients", "workspace", "input"};
    std::string s;
    for (int u = 0; u < 5; ++u) {
        size_t n = 0;
        for (const Entry& e : entries_)
            if (static_cast<int>(e.use) == u) n += e.bytes;
        if (n) s += (s.empty() ? "" : ", ") + std::string(names[u]) + " " + human_bytes(n);
    }
    return s;
}

Layout::Layout(const WorkerConfig& c) : config(c) {
    params = params_of(config.net);
    plan_params();
    plan_trunk();
    plan_head();
    plan_input();
    if (config.training) plan_update();
    if (config.training) check_names();
    if (need_workspace_) workspace = plan.add("workspace", Use::workspace, need_workspace_);
}

// Who names a pass that is not run has mistyped it.
void Layout::check_names() const {
    for (const auto& [pass, variant] : config.kernels.by_pass) {
        const std::string layer = pass.substr(0, pass.find('.'));
        std::vector<std::string> layers, passes;
        for (const auto& [name, v] : choices) {
            const std::string l = name.substr(0, name.find('.'));
            if (std::find(layers.begin(), layers.end(), l) == layers.end()) layers.push_back(l);
            if (l == layer && std::find(passes.begin(), passes.end(), name) == passes.end()) passes.push_back(name);
        }
        if (passes.empty()) throw UsageError("--kernels " + pass + "=" + variant + ": " + unknown_name("layer", layer, layers));
        if (std::find(passes.begin(), passes.end(), pass) == passes.end())
            throw UsageError("--kernels " + pass + "=" + variant + ": " + unknown_name("pass", pass, passes));
    }
}

void Layout::plan_params() {
    for (const Param& p : params) {
        const Shard s = p.sharded ? shard_of(p.rows, config.rank, config.workers) : Shard{0, p.rows};
        if (s.count == 0)
            throw Error("layer " + config.net.layers[p.layer].name + " has " + std::to_string(p.rows) + " units, fewer than " +
                        std::to_string(config.workers) + " workers: use fewer --gpus");
        rows.push_back(s);
        const size_t n = s.count * p.row;
        Storage st;
        st.w = plan.add(p.name, Use::weights, n * 4);
        if (config.training) st.v = plan.add(p.name + " momentum", Use::weights, n * 4);
        if (config.dtype != DType::f32 && !p.bias) st.low = plan.add(p.name + " bf16", Use::weights, n * 2);
        storage.push_back(st);
    }
}

void Layout::plan_input() {
    const int b = config.batch;
    const NetSpec& net = config.net;
    for (int i = 0; i < 2; ++i) {
        images[i] = plan.add("images", Use::input, size_t(b) * config.image_h * config.image_w * config.image_c);
        draws[i] = plan.add("augmentation draws", Use::input, b * sizeof(AugmentParams));
        labels[i] = plan.add("labels", Use::input, b * sizeof(int));
    }
    all_labels = plan.add("labels of the whole batch", Use::input, config.rows() * sizeof(int));
    state = plan.add("step state", Use::input, sizeof(StepState));
    stats = plan.add("loss and counts", Use::input, sizeof(SoftmaxStats));
    const int B = static_cast<int>(config.rows());
    softmax = bind("loss.softmax", softmax_variants(), SoftmaxProblem{B, net.classes(), net.classes(), net.classes(), config.dtype, 1.f / B});
    if (config.workers > 1)
        gather_flat = bind("trunk.gather", exchange_copy_variants(), CopyProblem{b, flat_cols, flat_cols, flat_cols, config.dtype});
}

void Layout::plan_update() {
    for (const TrunkOp& op : trunk)
        if (op.layer->kind == LayerKind::conv) {
            updates.push_back({op.weight, op.grad_sum});
            updates.push_back({op.weight + 1, op.grad_sum.plus(op.layer->weights() * 4)});
        }
    for (const HeadOp& op : head) {
        if (op.grad) updates.push_back({op.weight, op.grad});
        updates.push_back({op.weight + 1, op.grad_bias});
    }
    SgdProblem p{static_cast<int>(updates.size()), 0};
    for (const Update& u : updates) p.total += own_count(u.param);
    update = bind("update.sgd", sgd_variants(), p);
}

size_t memory_needed(const WorkerConfig& config) { return Layout(config).plan.total(); }

}  // namespace wt
