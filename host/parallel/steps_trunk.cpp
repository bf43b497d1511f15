// The convolutional layers: whole layers on this worker's own samples.
#include "host/parallel/step_planner.h"

namespace wt {

void StepPlanner::trunk_forward() {
    for (const TrunkOp& op : layout_.trunk)
        if (!op.fused_away_forward) trunk_layer_forward(op);
}

void StepPlanner::trunk_layer_forward(const TrunkOp& op) {
    const std::string& name = op.name_forward;
    switch (op.layer->kind) {
        case LayerKind::conv:
            launch(name, op.fprop,
                   [&op, w = weight(op.weight), bias = weight(op.weight + 1)](Operands& o) {
                       return ConvFpropArgs{.x = o.in(op.x),
                                            .w = o.in(w),
                                            .bias = o.in<float>(bias),
                                            .y = o.out(op.y),
                                            .workspace = nullptr,
                                            .stream = nullptr};
                   });
            break;
        case LayerKind::pool:
            if (op.lrn_pool)
                launch(name, op.lrn_pool, [&op](Operands& o) {
                    return LrnPoolForwardArgs{.x = o.in(op.x),
                                              .y = o.out(op.y),
                                              .argmax = o.out<uint8_t>(op.argmax),
                                              .workspace = nullptr,
                                              .stream = nullptr};
                });
            else
                launch(name, op.pool, [&op](Operands& o) {
                    return PoolForwardArgs{.x = o.in(op.x),
                                           .y = o.out(op.y),
                                           .argmax = o.out<uint8_t>(op.argmax),
                                           .workspace = nullptr,
                                           .stream = nullptr};
                });
            break;
        case LayerKind::dropout:
            if (training_) trunk_dropout(op, op.x, op.y);
            break;
        default: op.forward(*this, name, op);
    }
}

// A mask depends on the sample's index in the whole batch, so each block of samples has its launch.
void StepPlanner::trunk_dropout(const TrunkOp& op, BufferRef from, BufferRef to) {
    range_ = stage_ == Stage::trunk_forward ? op.name_forward : op.name_dgrad;
    for (const RowBlock& b : layout_.blocks()) {
        auto drop = op.drop;
        drop.problem.rows = b.count;
        const size_t offset = b.local * drop.problem.cols * layout_.element_size();
        launch(range_, drop,
               [&op, &l = layout_, b, x = from.plus(offset), y = to.plus(offset)](Operands& o) {
                   return DropoutArgs{.x = o.in(x),
                                      .y = o.out(y),
                                      .state = o.in<StepState>(l.state),
                                      .layer = op.dropout_layer,
                                      .row0 = b.row + l.config.head_row0(),
                                      .col0 = 0,
                                      .stream = nullptr};
               });
    }
    range_.clear();
}

// Goes from the top down to the lowest layer that is trained, convolution by convolution: the
// buckets of gradients are summed, updated and shared on a second stream while the layers below go
// on.
void StepPlanner::trunk_backward() {
    const Layout& l = layout_;
    // Sums are made in the order of microbatches: whoever has waited for one of a later one need
    // not wait for this.
    const bool goes_back = l.bottom < static_cast<int>(l.trunk.size());
    bool waited = false;
    for (size_t i = 1; shared_ && i < l.head.size(); ++i)
        waited = waited || l.ids.down[i].back() >= 0;
    waited =
        !goes_back || (waited && l.blocks().back().microbatch + 1 < config_.microbatch_count());
    if (shared_ && !waited) put(Await{Events::returned, "returned"});
    int next = static_cast<int>(l.trunk.size()) - 1;
    while (next >= l.bottom) {
        int conv = next;  // the next one down
        while (l.trunk[conv].layer->kind != LayerKind::conv) --conv;
        const int above = next + 1;
        if (above < static_cast<int>(l.trunk.size()) &&
            l.trunk[above].layer->kind == LayerKind::conv)
            conv_dgrad(l.trunk[above]);
        for (int i = next; i > conv; --i) trunk_layer_backward(l.trunk[i]);
        if (l.trunk[conv].trained) conv_wgrad(l.trunk[conv]);
        bucket_free(false);  // the weights of the layer above are read no more
        if (l.trunk[conv].trained) bucket_ready(l.trunk[conv].weight);
        next = conv - 1;
    }
    bucket_free(true);  // nobody reads the lowest layer's weights any more
    finish_buckets();
}

void StepPlanner::conv_dgrad(const TrunkOp& op) {
    if (!op.needs_dx) return;
    launch(op.name_dgrad, op.dgrad, [&op, w = weight(op.weight)](Operands& o) {
        return ConvDgradArgs{.dy = o.in(op.dy),
                             .w = o.in(w),
                             .dx = o.out(op.dx),
                             .workspace = nullptr,
                             .stream = nullptr,
                             .x = op.dgrad.problem.drelu ? o.in(op.x) : nullptr};
    });
}

void StepPlanner::conv_wgrad(const TrunkOp& op) {
    launch(op.name_wgrad, op.wgrad, [&op](Operands& o) {
        return ConvWgradArgs{.x = o.in(op.x),
                             .dy = o.in(op.dy),
                             .dw = o.out<float>(op.grad),
                             .db = op.wgrad.problem.bias ? o.out<float>(op.grad_bias) : nullptr,
                             .workspace = nullptr,
                             .stream = nullptr};
    });
}

void StepPlanner::trunk_layer_backward(const TrunkOp& op) {
    if (op.fused_away_backward) return;
    const std::string& name = op.name_dgrad;
    switch (op.layer->kind) {
        case LayerKind::pool:
            if (op.lrn_pool_back)
                launch(name, op.lrn_pool_back, [&op, &p = op.lrn_pool_back.problem](Operands& o) {
                    return LrnPoolBackwardArgs{.x = p.lrn ? o.in(op.x) : nullptr,
                                               .y = !p.lrn && p.relu ? o.in(op.y) : nullptr,
                                               .dy = o.in(op.dy),
                                               .argmax = o.in<uint8_t>(op.argmax),
                                               .dx = o.out(op.dx),
                                               .db = p.bias ? o.out<float>(op.grad_bias) : nullptr,
                                               .workspace = nullptr,
                                               .stream = nullptr};
                });
            else
                launch(name, op.pool_back, [&op](Operands& o) {
                    return PoolBackwardArgs{.dy = o.in(op.dy),
                                            .argmax = o.in<uint8_t>(op.argmax),
                                            .dx = o.out(op.dx),
                                            .workspace = nullptr,
                                            .stream = nullptr};
                });
            break;
        case LayerKind::dropout: trunk_dropout(op, op.dy, op.dx); break;
        case LayerKind::conv: break;
        default: op.backward(*this, name, op);
    }
}

}  // namespace wt
