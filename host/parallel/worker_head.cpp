// The fully connected layers: this worker's shard of each layer on everybody's samples, pass by pass.
#include "host/cuda/nvtx.h"
#include "host/parallel/waits.h"
#include "host/parallel/worker.h"

namespace wt {

void Worker::post_rows() {
    for (const int t : layout_.ids.labels) exchange_->post(t, at(layout_.all_labels), compute_.get());
    for (const int t : layout_.ids.flat) exchange_->post(t, at(layout_.trunk_y), compute_.get());
}

// The rows of a pass, on the second stream. Buffers stay where they are as long as the workers live, so addresses of a peer's
// may be captured.
void Worker::gather_rows(int pass) {
    const Layout& l = layout_;
    const cudaStream_t s = comm_.get();
    const auto labels = exchange_->collect(l.ids.labels[pass], s), rows = exchange_->collect(l.ids.flat[pass], s);
    replay_.stretch(comm_, [&] {
        const Range range("exchange trunk.gather", s, SpanKind::exchange);
        for (int r = 0; r < workers_; ++r) {
            if (!rows[r].data) continue;
            const RowBlock block = l.block_in(r, pass);
            WT_CUDA(cudaMemcpyAsync(at<int>(l.all_labels) + block.row, labels[r].data, block.count * sizeof(int), cudaMemcpyDefault, s));
            l.gather_flat[pass * workers_ + r]({rows[r].data, at(l.flat.plus(block.row * l.flat_cols * l.element_size())), s});
        }
    });
    gathered_[pass].record(s);
}

void Worker::head_forward(bool training, int pass) {
    const Layout& l = layout_;
    const cudaStream_t s = compute_.get();
    if (head_shared_ && (l.config.scheme != FcScheme::b || pass != rank_)) wait(s, gathered_[pass], "gathered", pass);
    std::vector<View> blocks;  // of every worker: what it has left for the next layer, where that needs it
    for (size_t i = 0; i < l.head.size(); ++i) {
        const HeadOp& op = l.head[i];
        replay_.stretch(compute_, [&] {
            if (i == 0)
                for (const RowBlock& b : l.blocks())  // own rows, where the trunk has not put them in their place
                    if (b.pass == pass && l.trunk_y.buffer != l.flat.buffer)
                        WT_CUDA(cudaMemcpyAsync(at(l.flat.plus(b.row * l.flat_cols * l.element_size())), at(l.trunk_y.plus(b.local * l.flat_cols * l.element_size())),
                                                b.count * l.flat_cols * l.element_size(), cudaMemcpyDeviceToDevice, s));
            if (i > 0) finish_units(l.head[i - 1], pass, blocks, training);
            fc_forward(op, pass, training);
        });
        if (!head_shared_) continue;
        const int t = l.ids.units[i][pass];
        const size_t size = size_of(op.fprop.problem.out);
        if (t >= 0) exchange_->post(t, rows_at(op.by_inputs ? op.shares : op.y, pass, op.layer->out, size), s);
        if (i == 0 && pass + 1 < l.config.pass_count()) gather_rows(pass + 1);  // the host has given the device something to do
        blocks = t >= 0 ? exchange_->collect(t, s) : std::vector<View>{};
    }
    replay_.stretch(compute_, [&] {
        finish_units(l.head.back(), pass, blocks, training);
        loss(pass, training);
    });
}

// Everybody's columns, to their place in `to`.
void Worker::gather_columns(const HeadOp& op, const std::vector<View>& from, Place to, int pass, size_t size, cudaStream_t stream) {
    const Range range("exchange fc.gather", stream, SpanKind::exchange);
    for (size_t r = 0; r < from.size(); ++r) {
        if (!from[r].data) continue;
        const Shard columns = shard_of(op.layer->out, static_cast<int>(r), workers_);
        op.gather[r]({from[r].data, rows_at(to.plus(columns.first * size), pass, op.layer->out, size), stream});
    }
}

// The layer's output as the next one reads it, from what everybody has left.
void Worker::finish_units(const HeadOp& op, int pass, const std::vector<View>& ys, bool training) {
    const cudaStream_t s = compute_.get();
    const size_t size = size_of(op.fprop.problem.out);
    if (!op.by_inputs) return gather_columns(op, ys, op.y, pass, size, s);
    {
        const Range range("exchange fc.reduce", s, SpanKind::exchange);
        ReduceArgs a{};
        for (int r = 0; r < workers_; ++r) a.src[r] = ys[r].data;
        a.dst = op.last ? rows_at(op.y, pass, op.layer->out, size) : rows_at(op.kept, pass, op.ld_kept, size);
        a.stream = s;
        op.reduce(a);
    }
    const Range range(op.name_fprop.c_str(), s);
    activate(op, pass, training);
}

void Worker::fc_forward(const HeadOp& op, int pass, bool training) {
    const Layout& l = layout_;
    const cudaStream_t s = compute_.get();
    const size_t size = size_of(op.fprop.problem.out);
    void* const y = op.by_inputs ? rows_at(op.shares, pass, op.layer->out, size) : rows_at(op.kept, pass, op.ld_kept, size);
    const Range range(op.name_fprop.c_str(), s);
    GemmArgs a{rows_at(op.x, pass, op.layer->x.count(), l.element_size()), weight(op.weight), at<float>(op.bias), y, nullptr, workspace(), s};
    a.state = at<StepState>(l.state), a.layer = op.dropout_layer, a.row0 = l.config.head_row0() + l.pass_row(pass), a.col0 = op.own.first;
    (training ? op.fprop : op.fprop_eval)(a);
    if (!op.by_inputs) activate(op, pass, training);
}

// Activation and dropout of own units, where the product has not done them.
void Worker::activate(const HeadOp& op, int pass, bool training) {
    const Layout& l = layout_;
    const cudaStream_t s = compute_.get();
    const size_t size = size_of(op.fprop.problem.out);
    void *const own = rows_at(op.y.plus(op.own.first * size), pass, op.layer->out, size), *const kept = rows_at(op.kept, pass, op.ld_kept, size);
    if (op.act) op.act({kept, kept, s});
    if (!op.has_dropout) return;
    if (training) {
        if (op.drop) op.drop({kept, own, at<StepState>(l.state), op.dropout_layer, l.config.head_row0() + l.pass_row(pass), op.own.first, s});
    } else if (op.kept.buffer != op.y.buffer) {  // nothing is dropped: to where the next layer reads
        WT_CUDA(cudaMemcpy2DAsync(own, op.layer->out * size, kept, op.ld_kept * size, op.own.count * size, l.config.pass_rows(), cudaMemcpyDeviceToDevice, s));
    }
}

void Worker::loss(int pass, bool training) {
    const Layout& l = layout_;
    const Range range("loss.softmax", compute_.get());
    const int classes = l.config.net.classes();
    // Every pass has its own counts; with a replicated head this worker's have their place among everybody's.
    const int entry = l.config.scheme == FcScheme::dp ? rank_ : pass;
    l.softmax({rows_at<float>(l.head.back().y, pass, classes, 4), at<int>(l.all_labels) + l.pass_row(pass),
               training ? rows_at(l.dlogits, pass, classes, l.element_size()) : nullptr, at<SoftmaxStats>(l.stats) + entry, workspace(), compute_.get()});
}

// With a replicated head every worker counts its own samples.
void Worker::gather_stats() {
    const cudaStream_t s = compute_.get();
    SoftmaxStats* const stats = at<SoftmaxStats>(layout_.stats);
    exchange_->post(layout_.ids.stats, stats + rank_, s);
    const auto all = exchange_->collect(layout_.ids.stats, s);
    for (int r = 0; r < workers_; ++r)
        if (all[r].data) WT_CUDA(cudaMemcpyAsync(stats + r, all[r].data, sizeof(SoftmaxStats), cudaMemcpyDefault, s));
}

void Worker::head_backward(int pass) {
    const Layout& l = layout_;
    const bool last = pass + 1 == l.config.pass_count(), wgrad = l.config.per_pass || last;
    for (int i = static_cast<int>(l.head.size()) - 1; i >= 0; --i) {
        const HeadOp& op = l.head[i];
        replay_.stretch(compute_, [&] { fc_dgrad(i, pass); });
        if (head_shared_ && l.ids.partials[i][pass] >= 0)
            exchange_->post(l.ids.partials[i][pass], rows_at(op.by_inputs ? l.head[i - 1].dy : op.dx, pass, op.layer->x.count(), l.element_size()), compute_.get());
        if (wgrad) replay_.stretch(compute_, [&] { fc_wgrad(op, pass); });
        if (head_shared_ && l.ids.partials[i][pass] >= 0) pass_down(i, pass);  // behind the weight gradient
        if (!op.sharded) {
            bucket_ready(op.weight);
            bucket_free(true);
        }
    }
    if (l.pass_update) replay_.stretch(compute_, [&] { update(l.pass_update, l.pass_updates, compute_.get()); });
}

// The gradient of the layer's product is turned into that of its input: this shard's share of it, or by inputs own columns,
// which need no sum, so that activation and dropout below have their turn at once.
void Worker::fc_dgrad(int i, int pass) {
    const Layout& l = layout_;
    const HeadOp& op = l.head[i];
    const size_t es = l.element_size();
    const Range range(op.name_dgrad.c_str(), compute_.get());
    if (op.last || !l.head[i + 1].by_inputs) activate_backward(op, pass);
    const int64_t in = op.layer->x.count();
    GemmArgs a{rows_at(op.dy, pass, op.ld_dy, es), weight(op.weight), nullptr, rows_at(op.dx, pass, op.ld_dx, es), nullptr, workspace(), compute_.get()};
    a.mask = rows_at(op.x, pass, in, es), a.ld_mask = in, a.mask_scale = op.mask_scale;  // with drelu
    op.dgrad(a);
    if (op.by_inputs) activate_backward(l.head[i - 1], pass);
}

// From the gradient of the layer's output to that of its product, in own columns, unless the layer above's dgrad has done that.
void Worker::activate_backward(const HeadOp& op, int pass) {
    const Layout& l = layout_;
    const cudaStream_t s = compute_.get();
    const size_t es = l.element_size();
    void *const dy = rows_at(op.dy.plus(op.own_column() * es), pass, op.ld_dy, es), *const kept = rows_at(op.kept, pass, op.ld_kept, es);
    if (op.drop_back)
        op.drop_back({dy, dy, at<StepState>(l.state), op.dropout_layer, l.config.head_row0() + l.pass_row(pass), op.own.first, s});
    if (op.act_back) op.act_back({kept, dy, dy, s});
}

// Of this pass, or of all.
void Worker::fc_wgrad(const HeadOp& op, int pass) {
    const Layout& l = layout_;
    const size_t es = l.element_size();
    const int first = l.config.per_pass ? pass : 0;
    const Range range(op.name_wgrad.c_str(), compute_.get());
    GemmArgs a{rows_at(op.dy, first, op.ld_dy, es), rows_at(op.x, first, op.layer->x.count(), es), nullptr, at(op.grad), at<float>(op.grad_bias), workspace(),
               compute_.get()};
    if (op.wgrad.problem.sgd) {
        const Layout::Storage& st = l.storage[op.weight];
        a.c = at(st.w), a.momentum = at<float>(st.v), a.w_bf16 = at<bf16>(st.low);
        a.state = at<StepState>(l.state), a.weight_decay = weight_decay_, a.lr_scale = l.config.fc_lr_scale;
    }
    op.wgrad(a);
}

// Everybody's shares, added up where they are needed: own columns of the layer below, or own rows of the trunk's output. By inputs,
// everybody's columns.
void Worker::pass_down(int i, int pass) {
    const Layout& l = layout_;
    const HeadOp& op = l.head[i];
    const size_t es = l.element_size();
    const auto partials = exchange_->collect(l.ids.partials[i][pass], comm_.get());
    const HeadOp* const below = i > 0 ? &l.head[i - 1] : nullptr;
    size_t block = 0;  // of own rows, in this pass
    while (!below && block < l.blocks().size() && l.blocks()[block].pass != pass) ++block;
    if (!below && block == l.blocks().size()) return;
    replay_.stretch(comm_, [&] {
        if (op.by_inputs) return gather_columns(*below, partials, below->dy, pass, es, comm_.get());
        const Range range(below ? "exchange fc.reduce" : "exchange trunk.reduce", comm_.get(), SpanKind::exchange);
        ReduceArgs a{};
        a.stream = comm_.get();
        for (int r = 0; r < workers_; ++r) a.src[r] = partials[r].data;
        a.dst = below ? rows_at(below->dy, pass, below->ld_dy, es) : at(l.trunk_dy.plus(l.blocks()[block].local * l.flat_cols * es));
        (below ? below->reduce : l.flat_reduce[block])(a);
    });
    if (!below) {
        returned_.record(comm_.get());
        return;
    }
    summed_.record(comm_.get());
    wait(compute_.get(), summed_, "summed", pass * static_cast<int>(l.head.size()) + i);
}

}  // namespace wt
