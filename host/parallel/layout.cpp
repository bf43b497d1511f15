#include "host/parallel/layout.h"

#include <algorithm>

#include "host/cuda/device.h"
#include "host/parallel/step_planner.h"
#include "kernels/softmax/row_result.h"

namespace wt {

Layout::Layout(const WorkerConfig& c) : config(c) {
    if (config.split == FcSplit::alternate && config.scheme == FcScheme::dp)
        throw UsageError(
            "--fc-split alternate: --fc-scheme dp splits no layer: give a, b or c, or leave --fc-split out");
    if (config.accumulate < 1) throw Error("a step has one micro-step or more");
    if (config.accumulate > 1 && config.per_microbatch)
        throw UsageError(
            "--fc-update per-pass updates in every pass of a batch, and --accumulate " +
            std::to_string(config.accumulate) + " once in as many batches: leave one away");
    if (config.workers == 1 && config.scheme == FcScheme::dp) config.scheme = FcScheme::a;
    if (config.batch % (config.workers == 1 ? config.microbatch_count() : 1))
        throw Error("a batch must divide into its passes");
    for (int r = 0; r < config.workers; ++r) blocks_of.push_back(row_blocks(config, r));
    params = params_of(config.net);
    find_bottom();
    choose_overlap();
    plan_params();
    plan_trunk();
    plan_head();
    plan_input();
    if (config.training) plan_update();
    if (config.training && config.accumulate > 1) plan_sums();
    if (config.training) plan_fc_update();
    if (config.training) check_names();
    if (config.workers > 1) plan_transfers();
    plan_steps();
    plan_workspaces();
}

void Layout::find_bottom() {
    std::vector<std::string> names;
    for (size_t i = 0; i < params.size(); i += 2)
        names.push_back(config.net.layers[params[i].layer].name);
    for (const std::string& name : config.frozen)
        if (std::find(names.begin(), names.end(), name) == names.end())
            throw UsageError("frozen: " + unknown_name("layer", name, names));
    bottom = static_cast<int>(config.net.layers.size());
    for (int i = static_cast<int>(params.size()) - 2; i >= 0; i -= 2)
        if (!frozen(i)) bottom = params[i].layer;
    if (config.training && bottom == static_cast<int>(config.net.layers.size()))
        throw UsageError("all layers are frozen: nothing is left to train");
}

// An operation that is named and not run was mistyped, or its layer is frozen.
void Layout::check_names() const {
    for (const auto& [layer_op, variant] : config.kernels.by_layer_op) {
        const std::string layer = layer_op.substr(0, layer_op.find('.'));
        std::vector<std::string> layers, ops;
        for (const auto& [name, v] : choices) {
            const std::string l = name.substr(0, name.find('.'));
            if (std::find(layers.begin(), layers.end(), l) == layers.end()) layers.push_back(l);
            if (l == layer && std::find(ops.begin(), ops.end(), name) == ops.end())
                ops.push_back(name);
        }
        const bool unknown = std::find(ops.begin(), ops.end(), layer_op) == ops.end();
        const bool of_backward = layer_op.ends_with(".wgrad") || layer_op.ends_with(".dgrad") ||
                                 layer_op.ends_with(".backward");
        if (unknown && !config.frozen.empty() && of_backward)
            throw UsageError("--kernels " + layer_op + "=" + variant +
                             ": this pass is not run, because of what is frozen");
        if (ops.empty())
            throw UsageError("--kernels " + layer_op + "=" + variant + ": " +
                             unknown_name("layer", layer, layers));
        if (unknown)
            throw UsageError("--kernels " + layer_op + "=" + variant + ": " +
                             unknown_name("pass", layer_op, ops));
    }
}

void Layout::plan_params() {
    rows.resize(params.size());
    columns.resize(params.size());
    own.resize(params.size());
    storage.resize(params.size());
    if (config.scheme == FcScheme::dp)
        for (Param& p : params) p.sharded = false;
    // Buckets from the top layer down, as gradients come.
    size_t bytes = 0;
    for (int i = static_cast<int>(params.size()) - 2; i >= 0; i -= 2) {
        if (params[i].sharded) {
            plan_sharded(i);
            plan_sharded(i + 1);
            continue;
        }
        const Layer& l = config.net.layers[params[i].layer];
        const bool head = l.kind == LayerKind::fc;
        const bool trained = !frozen(i);
        if (buckets.empty() || buckets.back().head != head || buckets.back().trained != trained ||
            (bytes >= config.bucket_bytes && config.workers > 1)) {
            buckets.emplace_back();
            buckets.back().head = head;
            buckets.back().trained = trained;
            bytes = 0;
        }
        Bucket& b = buckets.back();
        b.name += (b.name.empty() ? "" : "+") + l.name;
        b.weights.push_back(i);
        bytes += l.parameters() * 4;
    }
    for (Bucket& b : buckets) plan_bucket(b);
}

void Layout::plan_sharded(int i) {
    const Param& p = params[i];
    const Layer& l = config.net.layers[p.layer];
    const Shard units = shard_of(p.rows, config.rank, config.workers);
    if (units.count == 0)
        throw Error("layer " + l.name + " has " + std::to_string(p.rows) + " units, fewer than " +
                    std::to_string(config.workers) +
                    " workers: use fewer --gpus, or --fc-scheme dp");
    const bool row_parallel = config.row_parallel(p.layer);
    rows[i] = units;
    columns[i] = {0, p.row};
    if (row_parallel && !p.bias) {
        rows[i] = {0, p.rows};
        columns[i] = shard_of(p.row, config.rank, config.workers);
    }
    const size_t n = rows[i].count * columns[i].count;
    own[i] = {0, static_cast<int64_t>(n)};
    Storage& st = storage[i];
    if (row_parallel && p.bias)
        // HeadOp::bias
        st.value = st.w = plan.add(p.name, Use::weights, p.rows * 4).plus(units.first * 4);
    else
        st.value = st.w = plan.add(p.name, Use::weights, n * 4);
    if (config.training && !frozen(i)) st.v = plan.add(p.name + " momentum", Use::weights, n * 4);
    if (config.dtype != DType::f32 && !p.bias)
        st.value = st.w_bf16 = plan.add(p.name + " bf16", Use::weights, n * 2);
}

RowBlock Layout::block_in(int rank, int microbatch) const {
    for (const RowBlock& b : blocks_of[rank])
        if (b.microbatch == microbatch) return b;
    return {};
}

Shard Layout::segment(const Bucket& b, int rank) const {
    return shard_of(b.count, rank, config.workers);
}

// Every parameter starts at a multiple of 8 elements, 16 bytes in bf16. What that leaves free
// between two is summed and sent along; the networks' own layers leave nothing.
void Layout::plan_bucket(Bucket& b) {
    const int K = config.workers;
    const bool copies = config.dtype != DType::f32, trained = config.training && b.trained;
    const auto padded = [](int64_t n) { return (n + 7) / 8 * 8; };
    b.value_size = copies ? 2 : 4;
    for (const int i : b.weights) b.weight_count += padded(params[i].count());
    b.count = b.weight_count;
    for (const int i : b.weights) b.count += padded(params[i + 1].count());
    b.values = plan.add(b.name, Use::weights, b.value_offset(b.count));
    if (trained) b.grads = plan.add(b.name + " gradient", Use::gradients, b.count * 4);
    const Shard segment = this->segment(b, config.rank);
    int64_t at = 0;
    for (const int bias : {0, 1})
        for (const int weight : b.weights) {
            const int i = weight + bias;
            const Param& p = params[i];
            const int64_t first = std::clamp(segment.first - at, int64_t(0), p.count());
            const int64_t end =
                std::clamp(segment.first + segment.count - at, int64_t(0), p.count());
            rows[i] = {0, p.rows};
            columns[i] = {0, p.row};
            own[i] = {first, end - first};
            Storage& st = storage[i];
            st.value = b.values.plus(b.value_offset(at));
            st.w = st.value.plus(first * 4);
            if (trained) st.v = plan.add(p.name + " momentum", Use::weights, own[i].count * 4);
            if (copies && !bias) {
                st.w_bf16 = st.value.plus(first * 2);
                st.w = plan.add(p.name + " fp32", Use::weights, own[i].count * 4);
            }
            b.at.push_back(at);
            if (trained && own[i].count) b.updates.push_back({i, b.grads.plus((at + first) * 4)});
            at += padded(p.count());
        }
    if (K == 1) return;
    if (trained) {
        b.reduce = bind(b.name + ".reduce", exchange_reduce_variants(),
                        ReduceProblem{.sources = K,
                                      .rows = 1,
                                      .cols = segment.count,
                                      .ld_src = segment.count,
                                      .ld_dst = segment.count,
                                      .dtype = DType::f32});
        for (int r = 0; r < K; ++r) {
            const Shard s = this->segment(b, r);
            const int64_t halves =
                static_cast<int64_t>(b.value_offset(s.first + s.count) - b.value_offset(s.first)) /
                2;
            b.share.push_back(bind(b.name + ".share", exchange_copy_variants(),
                                   CopyProblem{.rows = 1,
                                               .cols = halves,
                                               .ld_src = halves,
                                               .ld_dst = halves,
                                               .dtype = DType::bf16}));
        }
    }
}

BufferRef Layout::gradient_of(int param) const {
    for (const Bucket& b : buckets)
        for (size_t w = 0; w < b.weights.size(); ++w)
            for (const int bias : {0, 1})
                if (b.weights[w] + bias == param)
                    return b.grads.plus(b.at[bias * b.weights.size() + w] * 4);
    throw Error("parameter " + std::to_string(param) + " is in no bucket");
}

std::vector<float> Layout::whole(int i, std::vector<float> by_worker) const {
    const int64_t row = params[i].row;
    if (columns[i].count == row) return by_worker;
    std::vector<float> values(by_worker.size());
    auto from = by_worker.begin();
    for (int r = 0; r < config.workers; ++r) {
        const Shard s = shard_of(row, r, config.workers);
        for (int64_t k = 0; k < params[i].rows; ++k, from += s.count)
            std::copy_n(from, s.count, values.begin() + k * row + s.first);
    }
    return values;
}

void Layout::plan_input() {
    const int b = config.batch;
    const NetSpec& net = config.net;
    for (int i = 0; i < 2; ++i) {
        images[i] = plan.add("images", Use::input,
                             size_t(b) * config.image_h * config.image_w * config.image_c);
        draws[i] = plan.add("augmentation draws", Use::input, b * sizeof(AugmentParams));
        labels[i] = plan.add("labels", Use::input, b * sizeof(int));
        if (config.training) state[i] = plan.add("step state", Use::input, sizeof(StepState));
    }
    if (!labels_stay())
        all_labels =
            plan.add("labels of the whole batch", Use::input, config.head_rows() * sizeof(int));
    stats_count = config.scheme == FcScheme::dp ? config.workers : config.microbatch_count();
    stats = plan.add("loss and counts", Use::input, stats_count * sizeof(SoftmaxStats));
    // With counts to exchange, everybody waits for them at once.
    if (config.training && (config.workers == 1 || config.head_workers() > 1) &&
        std::ranges::any_of(trunk, &TrunkOp::wgrad_beside))
        loss_rows =
            plan.add("loss of rows", Use::activations, config.head_rows() * sizeof(SoftmaxRow));
    // Gradients are means over the samples that one update of the fully connected layers is for.
    const int64_t samples =
        config.per_microbatch ? config.microbatch_rows() : config.rows() * config.accumulate;
    const float scale = 1.f / static_cast<float>(samples);
    softmax = bind("loss.softmax", softmax_variants(),
                   SoftmaxProblem{.rows = static_cast<int>(config.microbatch_rows()),
                                  .classes = net.classes(),
                                  .ld_logits = net.classes(),
                                  .ld_dlogits = net.classes(),
                                  .dtype = config.dtype,
                                  .scale = scale,
                                  .smoothing = config.label_smoothing});
}

void Layout::bind_update(Bound<SgdProblem, SgdArgs>& bound, const std::vector<Update>& list) {
    SgdProblem p{static_cast<int>(list.size()), 0};
    for (const Update& u : list) p.total += own[u.param].count;
    if (p.total) bound = bind("update.sgd", sgd_variants(), p);
}

// One worker updates everything in one go. Several update each bucket as soon as its gradients are
// summed, and their shards at the end of the step or of each microbatch.
void Layout::plan_update() {
    for (Bucket& b : buckets)
        if (config.workers > 1)
            bind_update(b.update, b.updates);
        else
            updates.insert(updates.end(), b.updates.begin(), b.updates.end());
    std::vector<Update>& sharded = config.per_microbatch ? microbatch_updates : updates;
    for (const HeadOp& op : head) {
        if (!op.sharded || !op.trained) continue;
        if (op.grad) sharded.push_back({op.weight, op.grad});
        sharded.push_back({op.weight + 1, op.grad_bias.plus(op.own_column() * 4)});
    }
    bind_update(update, updates);
    bind_update(microbatch_update, microbatch_updates);
}

// The first micro-step's gradients are made where the sums are, so that nothing is set to 0.
void Layout::plan_sums() {
    const auto add = [&](const std::string& name, BufferRef gradients, int64_t count) {
        sums.push_back({.gradients = gradients,
                        .sum = plan.add(name + " gradient sum", Use::gradients, count * 4),
                        .add = bind(name + ".accumulate", exchange_reduce_variants(),
                                    ReduceProblem{.sources = 2,
                                                  .rows = 1,
                                                  .cols = count,
                                                  .ld_src = count,
                                                  .ld_dst = count,
                                                  .dtype = DType::f32}),
                        .name = name + ".accumulate"});
    };
    for (const HeadOp& op : head)
        if (op.sharded && op.trained)
            add(op.layer->name, op.grad, op.units.count * (op.inputs.count + 1));
    for (const Bucket& b : buckets)
        if (b.trained) add(b.name, b.grads, b.count);
}

const GradientSum& Layout::sum_of(BufferRef gradient) const {
    for (const GradientSum& s : sums)
        if (s.gradients.buffer == gradient.buffer) return s;
    throw Error("a gradient that no sum is of");
}

void Layout::plan_steps() {
    evaluation_steps = StepPlanner(*this).plan();
    if (!config.training) return;
    const int n = config.accumulate;
    training_steps = StepPlanner(*this, micro_step_of(n - 1, n)).plan();
    if (n > 1) earlier_steps[0] = StepPlanner(*this, MicroStep::first).plan();
    if (n > 2) earlier_steps[1] = StepPlanner(*this, MicroStep::middle).plan();
}

size_t memory_needed(const WorkerConfig& config) { return Layout(config).plan.total(); }

}  // namespace wt
