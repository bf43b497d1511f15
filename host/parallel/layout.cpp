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
    for (const auto& [pass, variant] : config.kernels.by_pass) {
        const std::string layer = pass.substr(0, pass.find('.'));
        std::vector<std::string> names;
        for (const Layer& l : config.net.layers) names.push_back(l.name);
        if (std::find(names.begin(), names.end(), layer) == names.end())
            throw UsageError("--kernels " + pass + "=" + variant + ": " + unknown_name("layer", layer, names));
    }
    plan_params();
    plan_trunk();
    plan_head();
    plan_input();
    if (need_workspace_) workspace = plan.add("workspace", Use::workspace, need_workspace_);
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

void Layout::plan_trunk() {
    const NetSpec& net = config.net;
    const int sm = device_sm(config.device), b = config.batch;
    const size_t es = size_of(config.dtype);
    const KernelSettings& k = config.kernels;
    const int end = net.first_fc();
    flat_cols = net.layers[end].x.count();
    flat = plan.add("trunk output", Use::activations, config.rows() * flat_cols * es);
    const Place own_rows{flat.buffer, config.row0() * flat_cols * es};
    input = plan.add("input", Use::activations, b * net.input.count() * es);

    int last_writer = -1;  // the last layer that is not in place: writes this worker's rows of `flat`
    for (int i = 0; i < end; ++i)
        if (net.layers[i].kind != LayerKind::activation && net.layers[i].kind != LayerKind::dropout) last_writer = i;

    Place x = input;
    int param = 0;
    bool first_conv = true;
    for (int i = 0; i < end; ++i) {
        const Layer& l = net.layers[i];
        TrunkOp op;
        op.layer = &l;
        op.x = x;
        op.name_forward = l.name + ".forward";
        op.name_dgrad = l.name + ".backward";
        const bool in_place = l.kind == LayerKind::activation || l.kind == LayerKind::dropout;
        op.y = in_place ? x : i == last_writer ? own_rows : plan.add(l.name, Use::activations, b * l.y.count() * es);
        switch (l.kind) {
            case LayerKind::conv: {
                op.name_forward = l.name + ".fprop", op.name_dgrad = l.name + ".dgrad", op.name_wgrad = l.name + ".wgrad";
                op.weight = param;
                param += 2;
                op.relu_fused = i + 1 < end && net.layers[i + 1].kind == LayerKind::activation && net.layers[i + 1].act == Activation::relu;
                op.needs_dx = !first_conv;
                first_conv = false;
                ConvProblem p{b, l.x.h, l.x.w, l.x.c, l.out, l.size, l.size, l.stride, l.stride, l.pad, l.pad, l.groups, config.dtype};
                p.relu = op.relu_fused;
                op.fprop = k.bind(op.name_forward, conv_fprop_variants(), p, sm);
                claim(op.fprop);
                p.relu = false;
                if (config.training) {
                    if (op.needs_dx) {
                        op.dgrad = k.bind(op.name_dgrad, conv_dgrad_variants(), p, sm);
                        claim(op.dgrad);
                    }
                    op.wgrad = k.bind(op.name_wgrad, conv_wgrad_variants(), p, sm);
                    claim(op.wgrad);
                    op.grad_count = l.parameters();
                    op.grad = plan.add(l.name + " gradient", Use::gradients, op.grad_count * 4);
                    op.grad_sum = op.grad;
                    if (config.workers > 1) {
                        op.grad_sum = plan.add(l.name + " summed gradient", Use::gradients, op.grad_count * 4);
                        const ReduceProblem r{config.workers, 1, op.grad_count, op.grad_count, op.grad_count, DType::f32};
                        op.reduce = k.bind(l.name + ".reduce", exchange_reduce_variants(), r, sm);
                    }
                }
                break;
            }
            case LayerKind::activation: {
                op.relu_fused = i > 0 && net.layers[i - 1].kind == LayerKind::conv && l.act == Activation::relu;
                const ActivationProblem p{b, l.y.count(), l.y.count(), l.y.count(), l.act, config.dtype};
                op.act = k.bind(op.name_forward, activation_forward_variants(), p, sm);
                op.act_back = k.bind(op.name_dgrad, activation_backward_variants(), p, sm);
                break;
            }
            case LayerKind::lrn: {
                const LrnProblem p{int64_t(b) * l.x.h * l.x.w, l.x.c, l.lrn_size, l.lrn_alpha, l.lrn_beta, l.lrn_k, config.dtype};
                op.lrn = k.bind(op.name_forward, lrn_forward_variants(), p, sm);
                claim(op.lrn);
                if (config.training) {
                    op.lrn_back = k.bind(op.name_dgrad, lrn_backward_variants(), p, sm);
                    claim(op.lrn_back);
                }
                break;
            }
            case LayerKind::pool: {
                const PoolProblem p{b, l.x.h, l.x.w, l.x.c, l.size, l.stride, l.pad, config.dtype};
                op.argmax = plan.add(l.name + " argmax", Use::activations, p.y_count());
                op.pool = k.bind(op.name_forward, pool_forward_variants(), p, sm);
                claim(op.pool);
                if (config.training) {
                    op.pool_back = k.bind(op.name_dgrad, pool_backward_variants(), p, sm);
                    claim(op.pool_back);
                }
                break;
            }
            case LayerKind::dropout: {
                if (i > 0 && net.layers[i - 1].kind == LayerKind::activation && net.layers[i - 1].act == Activation::tanh)
                    throw Error("layer " + l.name + ": dropout right after tanh is supported between fully connected layers only");
                const DropoutProblem p{b, l.y.count(), l.y.count(), l.y.count(), l.p, config.dtype};
                op.drop = k.bind(op.name_forward, dropout_variants(), p, sm);
                break;
            }
            case LayerKind::fc: break;
        }
        x = op.y;
        trunk.push_back(op);
    }
    if (!config.training) return;

    // Gradients flow through two buffers in turn; in-place layers keep theirs.
    int64_t largest = flat_cols;
    for (int i = 1; i < end; ++i) largest = std::max(largest, net.layers[i].x.count());
    const Place turns[2] = {plan.add("trunk gradient A", Use::gradients, b * largest * es),
                            plan.add("trunk gradient B", Use::gradients, b * largest * es)};
    int turn = 0;
    trunk_dy = turns[0];
    for (int i = end - 1; i >= 0; --i) {
        TrunkOp& op = trunk[i];
        op.dy = turns[turn];
        if (!(op.y.buffer == op.x.buffer && op.y.offset == op.x.offset)) turn ^= 1;
        op.dx = turns[turn];
    }
}

void Layout::plan_head() {
    const NetSpec& net = config.net;
    const int sm = device_sm(config.device), K = config.workers;
    const int B = static_cast<int>(config.rows());
    const size_t es = size_of(config.dtype);
    const KernelSettings& k = config.kernels;
    Place x = flat;
    int param = 0;
    while (!params[param].sharded) ++param;

    for (int i = net.first_fc(); i < static_cast<int>(net.layers.size()); ++i) {
        const Layer& l = net.layers[i];
        if (l.kind == LayerKind::activation || l.kind == LayerKind::dropout) continue;  // taken with the layer before
        if (l.kind != LayerKind::fc) throw Error("layer " + l.name + " cannot follow a fully connected layer");
        HeadOp op;
        op.layer = &l;
        op.name_fprop = l.name + ".fprop", op.name_dgrad = l.name + ".dgrad", op.name_wgrad = l.name + ".wgrad";
        op.weight = param;
        op.shard = rows[param];
        param += 2;
        op.last = i + 1 == static_cast<int>(net.layers.size());
        const Layer *act = nullptr, *drop = nullptr;
        int next = i + 1;
        if (next < static_cast<int>(net.layers.size()) && net.layers[next].kind == LayerKind::activation) act = &net.layers[next++];
        if (next < static_cast<int>(net.layers.size()) && net.layers[next].kind == LayerKind::dropout) drop = &net.layers[next], op.dropout_layer = next;

        const int in = static_cast<int>(l.x.count()), units = l.out, cols = static_cast<int>(op.shard.count);
        const DType out = op.last ? DType::f32 : config.dtype;
        op.x = x;
        op.y = plan.add(l.name, Use::activations, int64_t(B) * units * size_of(out));
        const Place own{op.y.buffer, op.shard.first * size_of(out)};
        op.kept = own;
        op.ld_kept = units;
        op.has_act = act != nullptr;
        op.has_dropout = drop != nullptr;
        op.relu_fused = act && act->act == Activation::relu;
        if (act && drop && act->act == Activation::tanh) {  // its gradient needs tanh's own output
            op.kept = plan.add(act->name, Use::activations, int64_t(B) * cols * es);
            op.ld_kept = cols;
        }
        GemmProblem f{GemmLayout::nt, B, cols, in, in, in, static_cast<int>(op.ld_kept), config.dtype, out, true, op.relu_fused};
        op.fprop = k.bind(op.name_fprop, gemm_variants(), f, sm);
        claim(op.fprop);
        if (act) {
            op.act = k.bind(act->name + ".forward", activation_forward_variants(),
                            ActivationProblem{B, cols, op.ld_kept, cols, act->act, config.dtype}, sm);
        }
        if (drop) {
            const DropoutProblem p{B, cols, op.ld_kept, units, drop->p, config.dtype};
            op.drop = k.bind(drop->name + ".forward", dropout_variants(), p, sm);
        }
        for (int r = 0; r < K; ++r) {
            const CopyProblem p{B, shard_of(units, r, K).count, units, units, out};
            op.gather.push_back(k.bind(l.name + ".gather", exchange_copy_variants(), p, sm));
        }
        if (config.training) {
            op.grad_count = int64_t(cols) * in + cols;
            op.grad = plan.add(l.name + " gradient", Use::gradients, op.grad_count * 4);
            op.partial = plan.add(l.name + " input gradient", Use::gradients, int64_t(B) * in * es);
        }
        x = op.y;
        head.push_back(op);
    }
    HeadOp& last = head.back();
    if (!last.last || last.has_act) throw Error("network " + net.name + ": the last layer must be fully connected");
    if (!config.training) return;

    dlogits = plan.add("logits gradient", Use::gradients, int64_t(B) * net.classes() * es);
    last.dy = {dlogits.buffer, last.shard.first * es};
    last.ld_dy = net.classes();
    for (int i = static_cast<int>(head.size()) - 1; i >= 0; --i) {
        HeadOp& op = head[i];
        const int in = static_cast<int>(op.layer->x.count()), cols = static_cast<int>(op.shard.count);
        if (!op.last) {  // own columns of the sum over the workers of the layer above's partial gradients
            if (K == 1) {
                op.dy = head[i + 1].partial;
                op.ld_dy = op.layer->out;
            } else {
                op.dy = plan.add(op.layer->name + " output gradient", Use::gradients, int64_t(B) * cols * es);
                op.ld_dy = cols;
                const ReduceProblem r{K, B, cols, op.layer->out, cols, config.dtype};
                op.reduce = k.bind(op.layer->name + ".reduce", exchange_reduce_variants(), r, sm);
            }
            if (op.has_act) {
                const Activation kind = op.relu_fused ? Activation::relu : Activation::tanh;
                op.act_back = k.bind(op.layer->name + ".act_backward", activation_backward_variants(),
                                     ActivationProblem{B, cols, op.ld_kept, op.ld_dy, kind, config.dtype}, sm);
            }
            if (op.has_dropout) {
                DropoutProblem p = op.drop.problem;
                p.ld_x = p.ld_y = op.ld_dy;
                op.drop_back = k.bind(op.layer->name + ".drop_backward", dropout_variants(), p, sm);
            }
        }
        const int ld_dy = static_cast<int>(op.ld_dy);
        op.dgrad = k.bind(op.name_dgrad, gemm_variants(), GemmProblem{GemmLayout::nn, B, in, cols, ld_dy, in, in, config.dtype, config.dtype}, sm);
        op.wgrad = k.bind(op.name_wgrad, gemm_variants(),
                          GemmProblem{GemmLayout::tn, cols, in, B, ld_dy, in, in, config.dtype, DType::f32, true}, sm);
        claim(op.dgrad), claim(op.wgrad);
    }
    if (K == 1) {
        trunk_dy = head.front().partial;
        if (!trunk.empty()) {  // the trunk's top in-place layers, and the one that reads their gradient, use it too
            const int old = trunk.back().dy.buffer;
            for (int i = static_cast<int>(trunk.size()) - 1; i >= 0 && trunk[i].dy.buffer == old; --i) {
                trunk[i].dy = trunk_dy;
                if (trunk[i].dx.buffer != old) break;
                trunk[i].dx = trunk_dy;
            }
        }
    } else {
        const ReduceProblem r{K, config.batch, flat_cols, flat_cols, flat_cols, config.dtype};
        flat_reduce = k.bind("trunk.reduce", exchange_reduce_variants(), r, sm);
    }
}

void Layout::plan_input() {
    const int sm = device_sm(config.device), b = config.batch;
    const NetSpec& net = config.net;
    for (int i = 0; i < 2; ++i) {
        images[i] = plan.add("images", Use::input, size_t(b) * config.image_h * config.image_w * config.image_c);
        draws[i] = plan.add("augmentation draws", Use::input, b * sizeof(AugmentParams));
        labels[i] = plan.add("labels", Use::input, b * sizeof(int));
    }
    all_labels = plan.add("labels of the whole batch", Use::input, config.rows() * sizeof(int));
    state = plan.add("step state", Use::input, sizeof(StepState));
    stats = plan.add("loss and counts", Use::input, sizeof(SoftmaxStats));
    augment = config.kernels.bind("input.augment", augment_variants(),
                                  AugmentProblem{b, config.image_h, config.image_w, config.image_c, net.input.h, net.input.w, config.dtype}, sm);
    const int B = static_cast<int>(config.rows());
    softmax = config.kernels.bind("loss.softmax", softmax_variants(),
                                  SoftmaxProblem{B, net.classes(), net.classes(), net.classes(), config.dtype, 1.f / B}, sm);
    claim(softmax);
    gather_flat = config.kernels.bind("trunk.gather", exchange_copy_variants(),
                                      CopyProblem{b, flat_cols, flat_cols, flat_cols, config.dtype}, sm);
}

size_t memory_needed(const WorkerConfig& config) { return Layout(config).plan.total(); }

}  // namespace wt
