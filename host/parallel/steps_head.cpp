// The fully connected layers: this worker's shard of each layer on everybody's samples, microbatch
// by microbatch.
#include "host/parallel/step_planner.h"
#include "kernels/softmax/row_result.h"

namespace wt {

void StepPlanner::post_rows() {
    for (const int t : layout_.ids.labels) put(Post{t, layout_.all_labels});
    for (const int t : layout_.ids.flat) put(Post{t, layout_.trunk_y});
}

// The rows of a microbatch, on the exchange stream. Buffers stay where they are as long as the
// workers live, so addresses of a peer's may be captured.
void StepPlanner::gather_rows(int microbatch) {
    const Layout& l = layout_;
    const int labels = l.ids.labels[microbatch], flat = l.ids.flat[microbatch];
    const StreamName before = std::exchange(stream_, StreamName::exchange);
    put(Collect{labels});
    put(Collect{flat});
    range_ = "exchange trunk.gather";
    span_ = SpanKind::exchange;
    for (int r = 0; r < workers_; ++r) {
        if (!l.transfers[flat].moves(r, rank_)) continue;
        const RowBlock block = l.block_in(r, microbatch);
        copy("labels", [&l, labels, r, block](Operands& o) {
            return MemoryCopy{.to = o.out(l.all_labels.plus(block.row * sizeof(int))),
                              .from = o.view(labels, r),
                              .row_bytes = block.count * sizeof(int)};
        });
        launch("trunk.gather", l.gather_flat[microbatch * workers_ + r],
               [&l, flat, r, block](Operands& o) {
                   return CopyArgs{
                       .src = o.view(flat, r),
                       .dst = o.out(l.flat.plus(block.row * l.flat_cols * l.element_size())),
                       .stream = nullptr};
               });
    }
    range_.clear();
    span_ = SpanKind::compute;
    put(Record{Events::gathered(microbatch)});
    stream_ = before;
}

void StepPlanner::head_forward() {
    const Layout& l = layout_;
    stage_ = Stage::head_forward;
    if (shared_ && (config_.scheme != FcScheme::b || microbatch_ != rank_))
        put(Await{Events::gathered(microbatch_), "gathered", microbatch_});
    // the transfer by which every worker has posted something for the next layer
    int posted = -1;
    for (size_t i = 0; i < l.head.size(); ++i) {
        const HeadOp& op = l.head[i];
        if (i == 0)
            for (const RowBlock& b :
                 l.blocks())  // own rows, where the trunk has not put them in their place
                if (b.microbatch == microbatch_ && l.trunk_y.buffer != l.flat.buffer) {
                    const size_t row = l.flat_cols * l.element_size();
                    copy("trunk rows", [to = l.flat.plus(b.row * row),
                                        from = l.trunk_y.plus(b.local * row),
                                        bytes = b.count * row](Operands& o) {
                        return MemoryCopy{.to = o.out(to), .from = o.in(from), .row_bytes = bytes};
                    });
                }
        if (i > 0) finish_units(l.head[i - 1], posted);
        fc_forward(op);
        if (!shared_) continue;
        const int t = l.ids.up[i][microbatch_];
        const size_t size = size_of(op.fprop.problem.out);
        if (t >= 0)
            put(Post{t, rows(op.row_parallel ? op.partial_sums : op.y, op.layer->out, size)});
        if (i == 0 && microbatch_ + 1 < config_.microbatch_count())
            gather_rows(microbatch_ + 1);  // the host has given the device something to do
        if (t >= 0) put(Collect{t});
        posted = t;
    }
    finish_units(l.head.back(), posted);
    stage_ = Stage::loss;
    loss();
}

// Copies everybody's columns to where they belong in `to`.
void StepPlanner::gather_columns(const HeadOp& op, int transfer, BufferRef to, size_t size) {
    range_ = "exchange fc.gather";
    span_ = SpanKind::exchange;
    for (int r = 0; r < workers_; ++r) {
        if (!layout_.transfers[transfer].moves(r, rank_)) continue;
        const Shard columns = shard_of(op.layer->out, r, workers_);
        launch(op.layer->name + ".gather", op.gather[r],
               [transfer, r,
                dst = rows(to.plus(columns.first * size), op.layer->out, size)](Operands& o) {
                   return CopyArgs{
                       .src = o.view(transfer, r), .dst = o.out(dst), .stream = nullptr};
               });
    }
    range_.clear();
    span_ = SpanKind::compute;
}

// Makes the layer's output as the next one reads it from what everybody has posted (`transfer` -1:
// nobody anything).
void StepPlanner::finish_units(const HeadOp& op, int transfer) {
    const size_t size = size_of(op.fprop.problem.out);
    if (!op.row_parallel) {
        if (transfer >= 0) gather_columns(op, transfer, op.y, size);
        return;
    }
    range_ = "exchange fc.reduce";
    span_ = SpanKind::exchange;
    const BufferRef to =
        op.last ? rows(op.y, op.layer->out, size) : rows(op.act_y, op.ld_act_y, size);
    launch(op.layer->name + ".reduce", op.reduce, [transfer, to, workers = workers_](Operands& o) {
        ReduceArgs a{.src = {}, .dst = o.out(to), .stream = nullptr};
        for (int r = 0; r < workers; ++r) a.src[r] = o.view(transfer, r);
        return a;
    });
    span_ = SpanKind::compute;
    range_ = op.name_fprop;
    activate(op);
    range_.clear();
}

void StepPlanner::fc_forward(const HeadOp& op) {
    const Layout& l = layout_;
    const size_t size = size_of(op.fprop.problem.out);
    const BufferRef x = rows(op.x, op.layer->x.count(), l.element_size());
    const BufferRef y = op.row_parallel ? rows(op.partial_sums, op.layer->out, size)
                                        : rows(op.act_y, op.ld_act_y, size);
    range_ = op.name_fprop;
    const auto& product = training_ ? op.fprop : op.fprop_eval;
    launch(op.name_fprop, product,
           [&op, &l, x, y, drops = product.problem.dropout > 0, w = weight(op.weight),
            row0 = config_.head_row0() + l.first_row(microbatch_)](Operands& o) {
               return GemmArgs{.a = o.in(x),
                               .b = o.in(w),
                               .bias = o.in<float>(op.bias),
                               .c = o.out(y),
                               .bias_grad = nullptr,
                               .workspace = nullptr,
                               .stream = nullptr,
                               .state = drops ? o.in<StepState>(l.state[o.inputs().slot]) : nullptr,
                               .layer = op.dropout_layer,
                               .row0 = row0,
                               .col0 = op.own.first};
           });
    if (!op.row_parallel) activate(op);
    range_.clear();
}

// Activation and dropout of own units, unless the product has done them.
void StepPlanner::activate(const HeadOp& op) {
    const Layout& l = layout_;
    const size_t size = size_of(op.fprop.problem.out);
    const BufferRef own = rows(op.y.plus(op.own.first * size), op.layer->out, size),
                    act_y = rows(op.act_y, op.ld_act_y, size);
    if (op.act)
        launch(op.name_act, op.act, [act_y](Operands& o) {
            return ActivationForwardArgs{.x = o.in(act_y), .y = o.out(act_y), .stream = nullptr};
        });
    if (!op.has_dropout) return;
    if (training_) {
        if (op.drop)
            launch(op.name_drop, op.drop,
                   [&op, &l, own, act_y,
                    row0 = config_.head_row0() + l.first_row(microbatch_)](Operands& o) {
                       return DropoutArgs{.x = o.in(act_y),
                                          .y = o.out(own),
                                          .state = o.in<StepState>(l.state[o.inputs().slot]),
                                          .layer = op.dropout_layer,
                                          .row0 = row0,
                                          .col0 = op.own.first,
                                          .stream = nullptr};
                   });
    } else if (op.act_y.buffer !=
               op.y.buffer) {  // nothing is dropped: to where the next layer reads
        copy("undropped", [&op, own, act_y, size, rows = l.config.microbatch_rows()](Operands& o) {
            return MemoryCopy{.to = o.out(own),
                              .from = o.in(act_y),
                              .row_bytes = op.own.count * size,
                              .rows = static_cast<size_t>(rows),
                              .to_pitch = op.layer->out * size,
                              .from_pitch = op.ld_act_y * size};
        });
    }
}

void StepPlanner::loss() {
    const Layout& l = layout_;
    const int classes = config_.net.classes();
    // Every microbatch has its own counts; with a replicated head this worker's have their place
    // among everybody's.
    const int entry = config_.scheme == FcScheme::dp ? rank_ : microbatch_;
    const BufferRef logits = rows(l.head.back().y, classes, 4),
                    dlogits = rows(l.dlogits, classes, l.element_size());
    const size_t first_label = l.first_row(microbatch_) * sizeof(int);
    // Several workers' micro-steps before the last end in a graph that has its own wgrads, and so
    // does not wait for what was put on their stream before it.
    const bool beside = training_ && (workers_ == 1 || updates());
    const BufferRef results = beside && l.loss_rows
                                  ? l.loss_rows.plus(l.first_row(microbatch_) * sizeof(SoftmaxRow))
                                  : BufferRef{};
    auto softmax = l.softmax;
    if (!training_) softmax.problem.smoothing = 0;  // what is evaluated is compared with others
    launch("loss.softmax", softmax,
           [=, &l, training = training_, to_host = stats_to_host()](Operands& o) {
               const BufferRef labels = l.labels_stay() ? l.labels[o.inputs().slot] : l.all_labels;
               SoftmaxArgs a{.logits = o.in<float>(logits),
                             .labels = o.in<int>(labels.plus(first_label)),
                             .dlogits = training ? o.out(dlogits) : nullptr,
                             .stats = nullptr,
                             .workspace = o.out(results),
                             .stream = nullptr};
               if (!results)
                   a.stats = to_host
                                 ? o.to_host(o.inputs().stats + entry)
                                 : o.out<SoftmaxStats>(l.stats.plus(entry * sizeof(SoftmaxStats)));
               return a;
           });
    if (results) sum_rows(results, entry);
}

// Adds up the rows' losses and counts, beside the backward pass.
void StepPlanner::sum_rows(BufferRef results, int entry) {
    put(Record{Events::rows_ready});
    stream_ = StreamName::wgrad;
    put(Await{Events::rows_ready, "rows ready", microbatch_});
    Launch l{.name = kSumOfRows};
    const auto arguments = [=](Operands& o) {
        return std::pair(o.in<SoftmaxRow>(results), o.to_host(o.inputs().stats + entry));
    };
    OperandNotes notes(l);
    (void)arguments(notes);
    l.run = [arguments, p = layout_.softmax.problem](Operands& o) {
        const auto [rows, stats] = arguments(o);
        launch_softmax_stats(p, rows, stats, o.stream());
    };
    emit(std::move(l));
    stream_ = StreamName::compute;
}

// A replicated head counts its own samples only: here everybody gets all counts.
void StepPlanner::gather_stats() {
    const int t = layout_.ids.stats;
    const BufferRef stats = layout_.stats;
    put(Post{t, stats.plus(rank_ * sizeof(SoftmaxStats))});
    put(Collect{t});
    for (int r = 0; r < workers_; ++r)
        if (layout_.transfers[t].moves(r, rank_))
            copy("loss and counts", [to = stats.plus(r * sizeof(SoftmaxStats)), t, r](Operands& o) {
                return MemoryCopy{
                    .to = o.out(to), .from = o.view(t, r), .row_bytes = sizeof(SoftmaxStats)};
            });
}

void StepPlanner::head_backward() {
    const Layout& l = layout_;
    stage_ = Stage::head_backward;
    const bool last = microbatch_ + 1 == config_.microbatch_count(),
               makes_gradients = config_.per_microbatch || last;
    for (int i = static_cast<int>(l.head.size()) - 1; i >= 0; --i) {
        const HeadOp& op = l.head[i];
        const int partials = shared_ ? l.ids.down[i][microbatch_] : -1;
        fc_dgrad(i);
        if (partials >= 0)
            put(Post{partials, rows(op.row_parallel ? l.head[i - 1].dy : op.dx, op.layer->x.count(),
                                    l.element_size())});
        if (makes_gradients && op.trained && op.update_beside && last)
            beside_.push_back(&op);
        else if (makes_gradients && op.trained)
            fc_wgrad(op);
        if (i == 0 || !op.needs_dx) update_beside();
        if (partials >= 0) pass_down(i);  // behind the weight gradient
        if (!op.sharded && op.trained) {
            bucket_ready(op.weight);
            bucket_free(true);
        }
        if (!op.needs_dx) break;  // nothing below is trained
    }
    if (!updating_beside_ && updates()) update(l.microbatch_update, l.microbatch_updates);
}

// The updates that go beside the trunk's backward pass, once no product of this step reads these
// weights any more.
void StepPlanner::update_beside() {
    if (beside_.empty()) return;
    put(Record{Events::fc_ready});
    stream_ = StreamName::update;
    put(Await{Events::fc_ready, "fc ready"});
    for (const HeadOp* op : beside_) fc_wgrad(*op);
    update(layout_.microbatch_update, layout_.microbatch_updates);
    put(Record{Events::fc_updated});
    stream_ = StreamName::compute;
    updating_beside_ = true;
    beside_.clear();
}

// Makes the gradient of the layer's input from that of its product. Column-parallel, it is this
// shard's partial sum; row-parallel, it is own columns, which need no sum, so that the gradients of
// activation and dropout below follow at once.
void StepPlanner::fc_dgrad(int i) {
    const Layout& l = layout_;
    const HeadOp& op = l.head[i];
    const size_t es = l.element_size();
    range_ = op.name_dgrad;
    if (op.last || !l.head[i + 1].row_parallel) activate_backward(op);
    if (op.needs_dx) {
        const int64_t in = op.layer->x.count();
        launch(op.name_dgrad, op.dgrad,
               [&op, in, dy = rows(op.dy, op.ld_dy, es), w = weight(op.weight),
                dx = rows(op.dx, op.ld_dx, es), x = rows(op.x, in, es)](Operands& o) {
                   GemmArgs a{.a = o.in(dy),
                              .b = o.in(w),
                              .bias = nullptr,
                              .c = o.out(dx),
                              .bias_grad = nullptr,
                              .workspace = nullptr,
                              .stream = nullptr};
                   if (op.dgrad.problem.drelu) {
                       a.mask = o.in(x);
                       a.ld_mask = in;
                       a.mask_scale = op.mask_scale;
                   }
                   return a;
               });
        if (op.row_parallel) activate_backward(l.head[i - 1]);
    }
    range_.clear();
}

// Makes the gradient of the layer's product from that of its output, in own columns, unless the
// layer above's dgrad has done that.
void StepPlanner::activate_backward(const HeadOp& op) {
    const Layout& l = layout_;
    const size_t es = l.element_size();
    const BufferRef dy = rows(op.dy.plus(op.own_column() * es), op.ld_dy, es),
                    act_y = rows(op.act_y, op.ld_act_y, es);
    if (op.drop_back)
        launch(op.layer->name + ".drop_backward", op.drop_back,
               [&op, &l, dy, row0 = config_.head_row0() + l.first_row(microbatch_)](Operands& o) {
                   return DropoutArgs{.x = o.in(dy),
                                      .y = o.out(dy),
                                      .state = o.in<StepState>(l.state[o.inputs().slot]),
                                      .layer = op.dropout_layer,
                                      .row0 = row0,
                                      .col0 = op.own.first,
                                      .stream = nullptr};
               });
    if (op.act_back)
        launch(op.layer->name + ".act_backward", op.act_back, [dy, act_y](Operands& o) {
            return ActivationBackwardArgs{
                .y = o.in(act_y), .dy = o.in(dy), .dx = o.out(dy), .stream = nullptr};
        });
}

// The gradient of the weights, or their update, over this microbatch or, once, over all.
void StepPlanner::fc_wgrad(const HeadOp& op) {
    const Layout& l = layout_;
    const size_t es = l.element_size();
    const int first = config_.per_microbatch ? microbatch_ : 0;
    launch(op.name_wgrad, op.wgrad,
           [&op, &l, dy = rows(op.dy, op.ld_dy, es, first),
            x = rows(op.x, op.layer->x.count(), es, first), dw = gradient(op.grad),
            db = gradient(op.grad_bias)](Operands& o) {
               GemmArgs a{.a = o.in(dy),
                          .b = o.in(x),
                          .bias = nullptr,
                          .c = nullptr,
                          .bias_grad = o.out<float>(db),
                          .workspace = nullptr,
                          .stream = nullptr};
               if (!op.wgrad.problem.sgd) {
                   a.c = o.out(dw);
                   return a;
               }
               const Layout::Storage& st = l.storage[op.weight];
               a.c = o.in_out(st.w);
               a.momentum = o.in_out<float>(st.v);
               a.w_bf16 = o.out<bf16>(st.w_bf16);
               a.state = o.in<StepState>(l.state[o.inputs().slot]);
               a.weight_decay = o.inputs().weight_decay;
               a.lr_scale = l.config.fc_lr_scale;
               return a;
           });
    if (op.sharded) add_up(op.grad);
}

// Adds up everybody's partial sums of what is read here: own columns of the layer below, or own
// rows of the trunk's output. Row-parallel, everybody's columns are gathered instead.
void StepPlanner::pass_down(int i) {
    const Layout& l = layout_;
    const HeadOp& op = l.head[i];
    const size_t es = l.element_size();
    const int partials = l.ids.down[i][microbatch_];
    const HeadOp* const below = i > 0 ? &l.head[i - 1] : nullptr;
    size_t block = 0;  // the one of own rows that is in this microbatch
    while (!below && block < l.blocks().size() && l.blocks()[block].microbatch != microbatch_)
        ++block;
    stream_ = StreamName::exchange;
    put(Collect{partials});
    if (!below && block == l.blocks().size()) {
        stream_ = StreamName::compute;
        return;
    }
    if (op.row_parallel) {
        gather_columns(*below, partials, below->dy, es);
    } else {
        range_ = below ? "exchange fc.reduce" : "exchange trunk.reduce";
        span_ = SpanKind::exchange;
        const BufferRef to = below ? rows(below->dy, below->ld_dy, es)
                                   : l.trunk_dy.plus(l.blocks()[block].local * l.flat_cols * es);
        launch(below ? below->layer->name + ".reduce" : "trunk.reduce",
               below ? below->reduce : l.flat_reduce[block],
               [partials, to, workers = workers_](Operands& o) {
                   ReduceArgs a{.src = {}, .dst = o.out(to), .stream = nullptr};
                   for (int r = 0; r < workers; ++r) a.src[r] = o.view(partials, r);
                   return a;
               });
        range_.clear();
        span_ = SpanKind::compute;
    }
    put(Record{below ? Events::summed : Events::returned});
    stream_ = StreamName::compute;
    if (below)
        put(Await{Events::summed, "summed", microbatch_ * static_cast<int>(l.head.size()) + i});
}

}  // namespace wt
