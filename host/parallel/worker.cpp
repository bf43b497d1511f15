#include "host/parallel/worker.h"

#include <algorithm>
#include <optional>

#include "host/cuda/nvtx.h"
#include "host/parallel/waits.h"

namespace wt {

Worker::Worker(const WorkerConfig& config, std::unique_ptr<Exchange> exchange)
    : layout_(config),
      exchange_(std::move(exchange)),
      rank_(config.rank),
      graph_segments_(config.graph) {
    const int device = config.device;
    WT_CUDA(cudaSetDevice(device));
    for (const MemoryPlan::Entry& e : layout_.plan.entries())
        buffers_.emplace_back(device, e.bytes, e.what.c_str());
    for (Stream& s : streams_) s = Stream(device);
    for (Event& e : finished_) e = Event(device);
    for (int kind = 0; kind < kStepKinds; ++kind) segments_[kind] = segments_of(steps_of(kind));
    for (int e = 0; e < Events::count(config.microbatch_count()); ++e) events_.emplace_back(device);
    views_.resize(layout_.transfers.size());
    stats_ = PinnedBuffer<SoftmaxStats>(2 * layout_.stats_count);
    states_ = PinnedBuffer<StepState>(2);
    for (const HeadOp& op : layout_.head)
        if (op.row_parallel) WT_CUDA(cudaMemset(at(op.bias), 0, op.layer->out * 4));
    WT_CUDA(cudaStreamSynchronize(nullptr));  // for which our streams do not wait
    if (exchange_) exchange_->open(device, layout_.transfers, at(layout_.staging));
}

void Worker::set_normalisation(const Normalisation& n) {
    normalisation_ = n;
    graph_segments_.forget();
}

void Worker::set_weight_decay(float d) {
    weight_decay_ = d;
    graph_segments_.forget();
}

void Worker::set_timeline(Timeline* t) {
    timeline_ = t;
    if (!t) return;
    const Overlap& o = layout_.overlap;
    t->lane("compute", stream(StreamName::compute));
    if (o.wgrad) t->lane("wgrad", stream(StreamName::wgrad));
    if (o.fc_update) t->lane("update", stream(StreamName::update));
    if (exchange_) t->lane("exchange", stream(StreamName::exchange));
    t->lane("copy", stream(StreamName::input));
}

// ---- a step -----------------------------------------------------------------------------------

// A launch's operands in this worker's buffers.
class Worker::StepOperands : public Operands {
public:
    StepOperands(Worker& worker, const StepInputs& inputs) : worker_(worker), inputs_(inputs) {}
    const void* view(int transfer, int rank) override {
        return worker_.views_[transfer][rank].data;
    }
    void* workspace() override {
        return worker_.at(worker_.layout_.workspaces[static_cast<int>(stream_)]);
    }
    cudaStream_t stream() override { return worker_.stream(stream_).get(); }
    const StepInputs& inputs() override { return inputs_; }
    void on(StreamName stream) { stream_ = stream; }

private:
    void* resolve(BufferRef p, bool, bool) override { return worker_.at(p); }
    Worker& worker_;
    const StepInputs inputs_;
    StreamName stream_ = StreamName::compute;
};

// Kinds of lists: 0 is the evaluation's, the others are those of the parts of a training step.
static constexpr int kEvaluation = 0;
static int kind_of(MicroStep part) { return 1 + static_cast<int>(part); }

const StepList& Worker::steps_of(int kind) const {
    if (kind == kEvaluation) return layout_.evaluation_steps;
    return layout_.training_list(static_cast<MicroStep>(kind - 1));
}

long Worker::train(const HostBatch& batch, const StepState& state, int micro) {
    return submit(batch, &state, kind_of(micro_step_of(micro, layout_.config.accumulate)));
}

long Worker::evaluate(const HostBatch& batch) { return submit(batch, nullptr, kEvaluation); }

// `state`: of a training step; null: an evaluation.
long Worker::submit(const HostBatch& batch, const StepState* state, int kind) {
    const int slot = submitted_ % 2;
    const Timeline::Recording on(timeline_);
    copy_batch(batch, state, slot);
    const int finished = layout_.ids.finished;
    const cudaStream_t compute = stream(StreamName::compute).get();
    if (finished >= 0 && submitted_ > 0) exchange_->collect(finished, compute);
    graph_segments_.begin(kind, slot, timeline_ != nullptr);
    StepOperands operands(*this, {.slot = slot,
                                  .stats = &stats_[slot * layout_.stats_count],
                                  .normalisation = normalisation_,
                                  .weight_decay = weight_decay_});
    run(kind, operands);
    if (finished >= 0) exchange_->post(finished, nullptr, compute);
    finished_[slot].record(compute);
    return submitted_++;
}

void Worker::run(int kind, StepOperands& operands) {
    const StepList& steps = steps_of(kind);
    for (const StepSegment& segment : segments_[kind]) {
        const std::span<const Step> part(&steps[segment.begin], segment.end - segment.begin);
        if (segment.graph)
            graph_segments_.run(stream(part[0].stream), [&] { run(part, operands); });
        else
            act(part[0]);
    }
}

// Launches in a row on a stream that have one range are one span of it.
void Worker::run(std::span<const Step> steps, StepOperands& operands) {
    std::optional<Range> range;
    const Launch* before = nullptr;
    StreamName on = steps[0].stream;
    for (const Step& step : steps) {
        const Launch* l = std::get_if<Launch>(&step.action);
        if (!l || !before || step.stream != on || l->range != before->range ||
            l->span != before->span) {
            range.reset();
            operands.on(on = step.stream);
            if (l) range.emplace(l->range.c_str(), operands.stream(), l->span);
        }
        before = l;
        if (l)
            l->run(operands);
        else
            act(step);
    }
}

void Worker::act(const Step& step) {
    const Stream& s = stream(step.stream);
    if (const auto* post = std::get_if<Post>(&step.action))
        exchange_->post(post->transfer, at(post->block), s.get());
    if (const auto* collect = std::get_if<Collect>(&step.action))
        views_[collect->transfer] = exchange_->collect(collect->transfer, s.get());
    if (const auto* record = std::get_if<Record>(&step.action))
        events_[record->event].record(s.get());
    if (const auto* await = std::get_if<Await>(&step.action))
        wait_for(s.get(), events_[await->event], {rank_, await->what, await->number});
}

SoftmaxStats Worker::wait(long ticket) {
    finished_[ticket % 2].synchronize();
    SoftmaxStats sum{};
    for (int i = 0; i < layout_.stats_count; ++i) {
        const SoftmaxStats& s = stats_[ticket % 2 * layout_.stats_count + i];
        sum.loss_sum += s.loss_sum;
        sum.rows += s.rows;
        sum.top1 += s.top1;
        sum.top5 += s.top5;
    }
    return sum;
}

void Worker::synchronize() {
    for (const Stream& s : streams_) s.synchronize();
}

// Copies the batch to this slot's buffers, once the step that read them last has finished. The
// steps themselves then wait for it (Events::staged).
void Worker::copy_batch(const HostBatch& batch, const StepState* state, int slot) {
    const Stream& input = stream(StreamName::input);
    const Range range("loader", input.get(), SpanKind::copy);
    const Layout& l = layout_;
    const WorkerConfig& c = l.config;
    if (submitted_ >= 2) input.wait(finished_[slot]);
    const auto copy = [&](BufferRef to, const void* from, size_t bytes) {
        WT_CUDA(cudaMemcpyAsync(at(to), from, bytes, cudaMemcpyHostToDevice, input.get()));
    };
    copy(l.images[slot], batch.images, size_t(c.batch) * c.image_h * c.image_w * c.image_c);
    copy(l.draws[slot], batch.draws, c.batch * sizeof(AugmentParams));
    copy(l.labels[slot], batch.labels, c.batch * sizeof(int));
    if (!state) return;
    states_[slot] = *state;
    copy(l.state[slot], &states_[slot], sizeof(StepState));
}

}  // namespace wt
