// The convolutional layers: whole layers on this worker's own samples, and the sum of their gradients over the workers.
#include "host/cuda/nvtx.h"
#include "host/parallel/worker.h"

namespace wt {

void Worker::trunk_forward(bool training) {
    const Layout& l = layout_;
    const cudaStream_t s = compute_.get();
    for (const TrunkOp& op : l.trunk) {
        if (op.forward_elsewhere) continue;
        const Range range(op.name_forward.c_str(), s);
        switch (op.layer->kind) {
            case LayerKind::conv: op.fprop({at(op.x), weight(op.weight), bias(op.weight), at(op.y), workspace(), s}); break;
            case LayerKind::activation: op.act({at(op.x), at(op.y), s}); break;
            case LayerKind::lrn: op.lrn({at(op.x), at(op.y), workspace(), s}); break;
            case LayerKind::pool:
                if (op.lrn_pool)
                    op.lrn_pool({at(op.x), at(op.y), at<uint8_t>(op.argmax), workspace(), s});
                else
                    op.pool({at(op.x), at(op.y), at<uint8_t>(op.argmax), workspace(), s});
                break;
            case LayerKind::dropout:
                if (training) op.drop({at(op.x), at(op.y), at<StepState>(l.state), op.dropout_layer, l.config.row0(), 0, s});
                break;
            case LayerKind::fc: break;
        }
    }
}

// From the top down to where the next gradient of weights is there, and so on: each is summed over the workers on a second
// stream while the layers below go on.
void Worker::trunk_backward() {
    const Layout& l = layout_;
    int next = static_cast<int>(l.trunk.size()) - 1;
    while (next >= 0) {
        int conv = next;  // the next one down, or none
        while (conv >= 0 && l.trunk[conv].layer->kind != LayerKind::conv) --conv;
        replay_.stretch(compute_, [&] {
            const int above = next + 1;
            if (above < static_cast<int>(l.trunk.size()) && l.trunk[above].layer->kind == LayerKind::conv) conv_dgrad(l.trunk[above]);
            for (int i = next; i > conv; --i) trunk_layer_backward(l.trunk[i]);
            if (conv >= 0) conv_wgrad(l.trunk[conv]);
        });
        if (conv >= 0 && workers_ > 1) sum_gradient(l.trunk[conv], conv);
        next = conv - 1;
    }
    if (workers_ == 1) return;
    joined_.record(comm_.get());
    const Range range("wait conv.reduce", compute_.get(), SpanKind::wait);
    compute_.wait(joined_);
}

void Worker::conv_dgrad(const TrunkOp& op) {
    if (!op.needs_dx) return;
    const Range range(op.name_dgrad.c_str(), compute_.get());
    op.dgrad({at(op.dy), weight(op.weight), at(op.dx), workspace(), compute_.get(), at(op.x)});
}

void Worker::conv_wgrad(const TrunkOp& op) {
    const Range range(op.name_wgrad.c_str(), compute_.get());
    op.wgrad({at(op.x), at(op.dy), at<float>(op.grad), at<float>(op.grad_bias), workspace(), compute_.get()});
}

void Worker::trunk_layer_backward(const TrunkOp& op) {
    if (op.backward_elsewhere) return;
    const cudaStream_t s = compute_.get();
    const Range range(op.name_dgrad.c_str(), s);
    switch (op.layer->kind) {
        case LayerKind::activation: op.act_back({at(op.y), at(op.dy), at(op.dx), s}); break;
        case LayerKind::lrn: op.lrn_back({at(op.x), at(op.dy), at(op.dx), workspace(), s}); break;
        case LayerKind::pool:
            if (op.lrn_pool_back)
                op.lrn_pool_back({at(op.x), at(op.y), at(op.dy), at<uint8_t>(op.argmax), at(op.dx), at<float>(op.grad_bias), workspace(), s});
            else
                op.pool_back({at(op.dy), at<uint8_t>(op.argmax), at(op.dx), workspace(), s});
            break;
        case LayerKind::dropout:
            op.drop({at(op.dy), at(op.dx), at<StepState>(layout_.state), op.dropout_layer, layout_.config.row0(), 0, s});
            break;
        case LayerKind::conv:
        case LayerKind::fc: break;
    }
}

void Worker::sum_gradient(const TrunkOp& op, int index) {
    const int where = slot::gradient(static_cast<int>(layout_.head.size()) + index);
    board_.post(rank_, where, at(op.grad), compute_.get());
    std::vector<const void*> grads;
    {
        const Range range("wait conv.reduce", comm_.get(), SpanKind::wait);
        grads = board_.collect(rank_, where, comm_.get());
    }
    const Range range("exchange conv.reduce", comm_.get(), SpanKind::exchange);
    ReduceArgs a{};
    for (int r = 0; r < workers_; ++r) a.src[r] = grads[r];
    a.dst = at(op.grad_sum);
    a.stream = comm_.get();
    op.reduce(a);
}

}  // namespace wt
