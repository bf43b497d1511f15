// The convolutional layers: whole layers on this worker's own samples.
#include <algorithm>
#include <utility>

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
                   [&op, &l = layout_, w = weight(op.weight),
                    bias = weight(op.weight + 1)](Operands& o) {
                       return ConvFpropArgs{.x = o.in(l.x_of(op, o.inputs().slot)),
                                            .w = o.in(w),
                                            .bias = o.in<float>(bias),
                                            .y = o.out(op.y),
                                            .workspace = nullptr,
                                            .stream = nullptr};
                   });
            break;
        case LayerKind::pool:
            if (op.conv_pool)
                launch(name, op.conv_pool,
                       [&op, &l = layout_, w = weight(op.conv_weight),
                        bias = weight(op.conv_weight + 1)](Operands& o) {
                           return ConvPoolForwardArgs{.x = o.in(l.x_of(op, o.inputs().slot)),
                                                      .w = o.in(w),
                                                      .bias = o.in<float>(bias),
                                                      .y = o.out(op.y),
                                                      .argmax = o.out<uint8_t>(op.argmax),
                                                      .workspace = nullptr,
                                                      .stream = nullptr};
                       });
            else if (op.lrn_pool)
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
                                      .state = o.in<StepState>(l.state[o.inputs().slot]),
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
        const TrunkOp& op = l.trunk[conv];
        if (op.wgrad_beside) begin_beside(op);
        if (op.trained) conv_wgrad(op);
        if (op.wgrad_beside) put(Record{Events::gradient_read(buffer_of(op.dy))});
        const StreamName stream = std::exchange(stream_, StreamName::compute);
        bucket_free(false);  // the weights of the layer above are read no more
        stream_ = stream;
        if (op.trained) bucket_ready(op.weight);
        stream_ = StreamName::compute;
        next = conv - 1;
    }
    bucket_free(true);  // nobody reads the lowest layer's weights any more
    finish_buckets();
    join_wgrads();
}

// What is put on the list from here on is on the stream of weight gradients, behind all that makes
// the gradient of the convolution's output.
void StepPlanner::begin_beside(const TrunkOp& op) {
    put(Record{Events::gradient_ready});
    stream_ = StreamName::wgrad;
    put(Await{Events::gradient_ready, "gradient ready", op.weight});
    reading_.push_back({buffer_of(op.dy), op.weight});
}

int StepPlanner::buffer_of(BufferRef gradient) const {
    const std::vector<int>& all = layout_.trunk_gradients;
    return static_cast<int>(std::find(all.begin(), all.end(), gradient.buffer) - all.begin());
}

// Waits for the wgrad that still reads it, and with that for those before.
void StepPlanner::before_writing(BufferRef gradient) {
    const int buffer = buffer_of(gradient);
    for (size_t i = reading_.size(); i-- > 0;) {
        if (reading_[i].buffer != buffer) continue;
        put(Await{Events::gradient_read(buffer), "gradient read", reading_[i].weight});
        reading_.erase(reading_.begin(), reading_.begin() + static_cast<int>(i) + 1);
        return;
    }
}

// One worker's update is behind all of them, and so are the sums of micro-steps. Several workers'
// buckets are posted on their stream.
void StepPlanner::join_wgrads() {
    if ((workers_ > 1 && updates()) || reading_.empty()) return;
    const auto [buffer, weight] = reading_.back();
    put(Await{Events::gradient_read(buffer), "gradient read", weight});
    reading_.clear();
}

void StepPlanner::conv_dgrad(const TrunkOp& op) {
    if (!op.needs_dx) return;
    before_writing(op.dx);
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
    launch(op.name_wgrad, op.wgrad,
           [&op, &l = layout_, dw = gradient(op.grad), db = gradient(op.grad_bias)](Operands& o) {
               return ConvWgradArgs{.x = o.in(l.x_of(op, o.inputs().slot)),
                                    .dy = o.in(op.dy),
                                    .dw = o.out<float>(dw),
                                    .db = op.wgrad.problem.bias ? o.out<float>(db) : nullptr,
                                    .workspace = nullptr,
                                    .stream = nullptr};
           });
}

void StepPlanner::trunk_layer_backward(const TrunkOp& op) {
    if (op.fused_away_backward) return;
    before_writing(op.dx);
    const std::string& name = op.name_dgrad;
    switch (op.layer->kind) {
        case LayerKind::pool:
            if (op.lrn_pool_back)
                launch(
                    name, op.lrn_pool_back,
                    [&op, &p = op.lrn_pool_back.problem, db = gradient(op.grad_bias)](Operands& o) {
                        return LrnPoolBackwardArgs{.x = p.lrn ? o.in(op.x) : nullptr,
                                                   .y = !p.lrn && p.relu ? o.in(op.y) : nullptr,
                                                   .dy = o.in(op.dy),
                                                   .argmax = o.in<uint8_t>(op.argmax),
                                                   .dx = o.out(op.dx),
                                                   .db = p.bias ? o.out<float>(db) : nullptr,
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
