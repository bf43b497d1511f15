// The convolutional layers: whole layers on this worker's own samples.
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
                if (training) trunk_dropout(op, op.x, op.y);
                break;
            case LayerKind::fc: break;
        }
    }
}

// Masks are of a sample's place in the whole batch, so each block of samples has its launch.
void Worker::trunk_dropout(const TrunkOp& op, Place from, Place to) {
    for (const RowBlock& b : layout_.blocks()) {
        auto drop = op.drop;
        drop.problem.rows = b.count;
        const size_t offset = b.local * drop.problem.cols * layout_.element_size();
        drop({at(from.plus(offset)), at(to.plus(offset)), at<StepState>(layout_.state), op.dropout_layer, b.row + layout_.config.head_row0(), 0, compute_.get()});
    }
}

// From the top down to where the next gradient of weights is there, and so on to the lowest layer that is trained: the
// buckets of gradients are summed, updated and shared on a second stream while the layers below go on.
void Worker::trunk_backward() {
    const Layout& l = layout_;
    // Sums are made in the order of passes: whoever has waited for one of a later pass need not wait for this.
    const bool goes_back = l.bottom < static_cast<int>(l.trunk.size());
    bool waited = false;
    for (size_t i = 1; head_shared_ && i < l.head.size(); ++i) waited = waited || l.ids.partials[i].back() >= 0;
    waited = !goes_back || (waited && l.blocks().back().pass + 1 < l.config.pass_count());
    if (head_shared_ && !waited) wait(compute_.get(), returned_, "returned");
    int next = static_cast<int>(l.trunk.size()) - 1;
    while (next >= l.bottom) {
        int conv = next;  // the next one down
        while (l.trunk[conv].layer->kind != LayerKind::conv) --conv;
        replay_.stretch(compute_, [&] {
            const int above = next + 1;
            if (above < static_cast<int>(l.trunk.size()) && l.trunk[above].layer->kind == LayerKind::conv) conv_dgrad(l.trunk[above]);
            for (int i = next; i > conv; --i) trunk_layer_backward(l.trunk[i]);
            if (l.trunk[conv].trained) conv_wgrad(l.trunk[conv]);
        });
        bucket_free(false);  // the weights of the layer above are read no more
        if (l.trunk[conv].trained) bucket_ready(l.trunk[conv].weight);
        next = conv - 1;
    }
    bucket_free(true);  // nobody reads the lowest layer's weights any more
    finish_buckets();
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
    const Range range(op.name_dgrad.c_str(), compute_.get());
    const cudaStream_t s = compute_.get();
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
            trunk_dropout(op, op.dy, op.dx);
            break;
        case LayerKind::conv:
        case LayerKind::fc: break;
    }
}

}  // namespace wt
