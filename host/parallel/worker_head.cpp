// The fully connected layers, scheme (a): this worker's shard of each layer's units on everybody's samples.
#include "host/cuda/nvtx.h"
#include "host/parallel/worker.h"

namespace wt {

namespace {

template <class T>
void* shifted(T* p, int64_t elements, DType t) {
    return const_cast<std::byte*>(reinterpret_cast<const std::byte*>(p)) + elements * static_cast<int64_t>(size_of(t));
}

}  // namespace

void Worker::head_forward(bool training) {
    const Layout& l = layout_;
    const cudaStream_t s = compute_.get();
    std::vector<const void*> labels, blocks;  // of every worker: what it has left for the next layer
    if (workers_ > 1) {
        const Range range("wait trunk.gather", s, SpanKind::wait);
        board_.post(rank_, slot::labels, at(l.all_labels), s);
        board_.post(rank_, slot::flat, at(l.flat), s);
        labels = board_.collect(rank_, slot::labels, s);
        blocks = board_.collect(rank_, slot::flat, s);
    }
    for (size_t i = 0; i < l.head.size(); ++i) {
        const HeadOp& op = l.head[i];
        replay_.stretch(compute_, [&] {
            i == 0 ? gather_flat(labels, blocks) : gather_units(l.head[i - 1], blocks);
            fc_forward(op, training);
        });
        if (workers_ == 1) continue;
        const Range range("wait fc.gather", s, SpanKind::wait);
        board_.post(rank_, slot::activation(static_cast<int>(i)), at(op.y), s);
        blocks = board_.collect(rank_, slot::activation(static_cast<int>(i)), s);
    }
    replay_.stretch(compute_, [&] {
        gather_units(l.head.back(), blocks);
        loss(training);
    });
}

// Buffers stay where they are as long as the workers live, so addresses of a peer's may be captured.
void Worker::gather_flat(const std::vector<const void*>& labels, const std::vector<const void*>& flats) {
    const Layout& l = layout_;
    const Range range("exchange trunk.gather", compute_.get(), SpanKind::exchange);
    for (int r = 0; r < workers_; ++r) {
        if (r == rank_) continue;
        const int64_t row = int64_t(r) * l.config.batch, element = row * l.flat_cols;
        WT_CUDA(cudaMemcpyAsync(at<int>(l.all_labels) + row, static_cast<const int*>(labels[r]) + row, l.config.batch * sizeof(int),
                                cudaMemcpyDefault, compute_.get()));
        l.gather_flat({shifted(flats[r], element, l.config.dtype), shifted(at(l.flat), element, l.config.dtype), compute_.get()});
    }
}

void Worker::gather_units(const HeadOp& op, const std::vector<const void*>& ys) {
    const Range range("exchange fc.gather", compute_.get(), SpanKind::exchange);
    const DType t = op.fprop.problem.out;
    for (int r = 0; r < workers_; ++r) {
        if (r == rank_) continue;
        const int64_t col = shard_of(op.layer->out, r, workers_).first;
        op.gather[r]({shifted(ys[r], col, t), shifted(at(op.y), col, t), compute_.get()});
    }
}

void Worker::fc_forward(const HeadOp& op, bool training) {
    const cudaStream_t s = compute_.get();
    const DType out = op.fprop.problem.out;
    void* const own = shifted(at(op.y), op.shard.first, out);
    const Range range(op.name_fprop.c_str(), s);
    GemmArgs a{at(op.x), weight(op.weight), bias(op.weight), at(op.kept), nullptr, workspace(), s};
    a.state = at<StepState>(layout_.state), a.layer = op.dropout_layer, a.col0 = op.shard.first;
    (training ? op.fprop : op.fprop_eval)(a);
    if (op.act) op.act({at(op.kept), at(op.kept), s});
    if (!op.drop) return;
    if (training)
        op.drop({at(op.kept), own, a.state, op.dropout_layer, 0, op.shard.first, s});
    else if (op.kept.buffer != op.y.buffer)  // nothing is dropped: to where the next layer reads
        WT_CUDA(cudaMemcpy2DAsync(own, op.layer->out * size_of(out), at(op.kept), op.ld_kept * size_of(out), op.shard.count * size_of(out),
                                  layout_.config.rows(), cudaMemcpyDeviceToDevice, s));
}

void Worker::loss(bool training) {
    const Layout& l = layout_;
    const Range range("loss.softmax", compute_.get());
    l.softmax({at<float>(l.head.back().y), at<int>(l.all_labels), training ? at(l.dlogits) : nullptr, at<SoftmaxStats>(l.stats), workspace(),
               compute_.get()});
}

void Worker::head_backward() {
    const Layout& l = layout_;
    for (int i = static_cast<int>(l.head.size()) - 1; i >= 0; --i) {
        const HeadOp& op = l.head[i];
        replay_.stretch(compute_, [&] { fc_dgrad(op); });
        if (workers_ > 1) sum_partials(op, i);  // behind the weight gradient
        fc_wgrad(op);
        if (workers_ > 1) {
            const Range range("wait fc.reduce", compute_.get(), SpanKind::wait);
            compute_.wait(joined_);
        }
    }
}

// The gradient of the layer's output is turned into that of its product, unless the layer above has done so, then into this
// shard's share of its input's.
void Worker::fc_dgrad(const HeadOp& op) {
    const cudaStream_t s = compute_.get();
    const Range range(op.name_dgrad.c_str(), s);
    if (op.drop_back) op.drop_back({at(op.dy), at(op.dy), at<StepState>(layout_.state), op.dropout_layer, 0, op.shard.first, s});
    if (op.act_back) op.act_back({at(op.kept), at(op.dy), at(op.dy), s});
    GemmArgs a{at(op.dy), weight(op.weight), nullptr, at(op.partial), nullptr, workspace(), s};
    a.mask = at(op.x), a.ld_mask = op.layer->x.count(), a.mask_scale = op.mask_scale;  // with drelu
    op.dgrad(a);
}

void Worker::fc_wgrad(const HeadOp& op) {
    const Range range(op.name_wgrad.c_str(), compute_.get());
    GemmArgs a{at(op.dy), at(op.x), nullptr, at(op.grad), at<float>(op.grad_bias), workspace(), compute_.get()};
    if (op.wgrad.problem.sgd) {
        const Layout::Storage& st = layout_.storage[op.weight];
        a.c = at(st.w), a.momentum = at<float>(st.v), a.w_low = at<bf16>(st.low);
        a.state = at<StepState>(layout_.state), a.weight_decay = weight_decay_;
    }
    op.wgrad(a);
}

// Everybody's shares, added up where they are needed: own columns of the layer below, or own rows of the trunk's output.
void Worker::sum_partials(const HeadOp& op, int i) {
    const Layout& l = layout_;
    board_.post(rank_, slot::gradient(i), at(op.partial), compute_.get());
    std::vector<const void*> partials;
    {
        const Range range("wait fc.reduce", comm_.get(), SpanKind::wait);
        partials = board_.collect(rank_, slot::gradient(i), comm_.get());
    }
    const Range range("exchange fc.reduce", comm_.get(), SpanKind::exchange);
    ReduceArgs a{};
    a.stream = comm_.get();
    const int64_t offset = i > 0 ? l.head[i - 1].shard.first : l.config.row0() * l.flat_cols;
    for (int r = 0; r < workers_; ++r) a.src[r] = shifted(partials[r], offset, l.config.dtype);
    a.dst = i > 0 ? at(l.head[i - 1].dy) : at(l.trunk_dy);
    (i > 0 ? l.head[i - 1].reduce : l.flat_reduce)(a);
    joined_.record(comm_.get());
}

}  // namespace wt
