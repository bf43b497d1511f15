// The order of a step.
#include "host/cuda/check.h"
#include "host/parallel/step_planner.h"

namespace wt {

const char* name_of(Stage s) {
    static const char* names[] = {"input",         "trunk forward",  "head forward", "loss",
                                  "head backward", "trunk backward", "update"};
    return names[static_cast<int>(s)];
}

const char* name_of(StreamName s) {
    static const char* names[] = {"compute", "exchange", "wgrad", "update", "input"};
    return names[static_cast<int>(s)];
}

void MemoryCopy::run(cudaStream_t stream) const {
    if (rows == 1)
        WT_CUDA(cudaMemcpyAsync(to, from, row_bytes, cudaMemcpyDefault, stream));
    else
        WT_CUDA(cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, row_bytes, rows,
                                  cudaMemcpyDefault, stream));
}

StepPlanner::StepPlanner(const Layout& layout)
    : layout_(layout),
      config_(layout.config),
      training_(false),
      shared_(layout.config.head_workers() > 1),
      part_(MicroStep::whole),
      rank_(layout.config.rank),
      workers_(layout.config.workers) {}

StepPlanner::StepPlanner(const Layout& layout, MicroStep part)
    : layout_(layout),
      config_(layout.config),
      training_(true),
      shared_(layout.config.head_workers() > 1),
      part_(part),
      rank_(layout.config.rank),
      workers_(layout.config.workers) {}

void StepPlanner::emit(Launch l) {
    l.range = range_.empty() ? l.name : range_;
    l.span = span_;
    put(std::move(l));
}

StepList StepPlanner::plan() {
    if (shared_) put(Record{Events::started});
    take_input();
    stage_ = Stage::trunk_forward;
    trunk_forward();
    if (shared_) {
        stage_ = Stage::head_forward;
        stream_ = StreamName::exchange;
        put(Await{Events::started,
                  // the step before may still read the rows and labels that are gathered anew
                  "start"});
        stream_ = StreamName::compute;
        post_rows();
        gather_rows(0);
    }
    for (microbatch_ = 0; microbatch_ < config_.microbatch_count(); ++microbatch_) {
        head_forward();
        if (training_) head_backward();
    }
    microbatch_ = 0;
    stage_ = Stage::loss;
    if (workers_ > 1 && !shared_) gather_stats();
    stage_ = Stage::trunk_backward;
    if (training_) trunk_backward();
    if (training_) add_up_buckets();
    stage_ = Stage::update;
    if (updating_beside_) put(Await{Events::fc_updated, "fc updated"});
    if (training_ && updates()) update(layout_.update, layout_.updates);
    if (!stats_to_host()) read_stats();
    if (workers_ > 1) {
        stream_ = StreamName::exchange;
        put(Record{Events::joined});
        stream_ = StreamName::compute;
        put(Await{Events::joined, "joined"});
    }
    return std::move(steps_);
}

// Where this micro-step leaves a gradient.
BufferRef StepPlanner::gradient(BufferRef of) const {
    if (!of || part_ != MicroStep::first) return of;
    return layout_.sum_of(of).sum.plus(of.offset);
}

// Adds the gradients of the micro-steps before to those of this one: in the sums, or, in the last,
// where they are exchanged and used up.
void StepPlanner::add_up(BufferRef gradients) {
    if (part_ != MicroStep::middle && part_ != MicroStep::last) return;
    const GradientSum& s = layout_.sum_of(gradients);
    launch(s.name, s.add, [&s, last = part_ == MicroStep::last](Operands& o) {
        ReduceArgs a{.src = {}, .dst = o.out(last ? s.gradients : s.sum), .stream = nullptr};
        a.src[0] = o.in(s.sum);
        a.src[1] = o.in(s.gradients);
        return a;
    });
}

// Those buckets that were not added up when they were posted.
void StepPlanner::add_up_buckets() {
    if (workers_ > 1 && updates()) return;
    for (const Bucket& b : layout_.buckets)
        if (b.trained) add_up(b.grads);
}

// The batch has been put on its way to the device (Worker::copy_batch).
void StepPlanner::take_input() {
    const Layout& l = layout_;
    stream_ = StreamName::input;
    if (l.overlap.input) augment();
    put(Record{Events::staged});
    stream_ = StreamName::compute;
    put(Await{Events::staged, "staged"});
    range_ = "input.augment";
    for (const RowBlock& b : l.blocks()) {
        if (l.labels_stay()) break;
        copy("labels", [&l, b](Operands& o) {
            return MemoryCopy{.to = o.out(l.all_labels.plus(b.row * sizeof(int))),
                              .from = o.in(l.labels[o.inputs().slot].plus(b.local * sizeof(int))),
                              .row_bytes = b.count * sizeof(int)};
        });
    }
    range_.clear();
    if (!l.overlap.input) augment();
}

void StepPlanner::augment() {
    const Layout& l = layout_;
    launch("input.augment", l.augment, [&l](Operands& o) {
        const StepInputs& in = o.inputs();
        AugmentArgs a{.images = o.in<uint8_t>(l.images[in.slot]),
                      .params = o.in<AugmentParams>(l.draws[in.slot]),
                      .mean = {},
                      .inv_std = {},
                      .y = o.out(l.input[in.slot]),
                      .stream = nullptr};
        for (int i = 0; i < 3; ++i) {
            a.mean[i] = in.normalisation.mean[i];
            a.inv_std[i] = in.normalisation.inv_std[i];
        }
        return a;
    });
}

void StepPlanner::read_stats() {
    copy("loss and counts", [&l = layout_](Operands& o) {
        return MemoryCopy{.to = o.to_host(o.inputs().stats),
                          .from = o.in(l.stats),
                          .row_bytes = l.stats_count * sizeof(SoftmaxStats)};
    });
}

void StepPlanner::update(const Bound<SgdProblem, SgdArgs>& sgd, const std::vector<Update>& list) {
    if (!sgd) return;
    const Layout& l = layout_;
    range_ = "update";
    // The problem's list of tensors is read when the kernel is launched: it must live until then.
    launch("update.sgd", sgd, [&l, &list, tensors = std::vector<SgdTensor>()](Operands& o) mutable {
        const WorkerConfig& c = l.config;
        tensors.clear();
        for (const Update& u : list) {
            const Layout::Storage& st = l.storage[u.param];
            const Param& p = l.params[u.param];
            const bool fc = c.net.layers[p.layer].kind == LayerKind::fc;
            SgdTensor t{.w = o.in_out<float>(st.w),
                        .v = o.in_out<float>(st.v),
                        .g = o.in<float>(u.grad),
                        .w_bf16 = o.out<bf16>(st.w_bf16),
                        .count = l.own[u.param].count,
                        .weight_decay = p.bias ? 0.f : o.inputs().weight_decay,
                        .lr_scale = fc ? c.fc_lr_scale : c.conv_lr_scale};
            if (c.per_microbatch && !fc) {
                // Its gradient is a sum over the microbatches of means over one: a mean over the
                // batch is 1 / their number of it. The factor goes to the rate, and out of the
                // weight decay.
                t.lr_scale /= static_cast<float>(c.microbatch_count());
                t.weight_decay *= static_cast<float>(c.microbatch_count());
            }
            tensors.push_back(t);
        }
        return SgdArgs{.tensors = tensors.data(),
                       .state = o.in<StepState>(l.state[o.inputs().slot]),
                       .stream = nullptr};
    });
    range_.clear();
}

}  // namespace wt
