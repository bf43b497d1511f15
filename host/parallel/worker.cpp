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
    compute_ = Stream(device);
    comm_ = Stream(device);
    copy_ = Stream(device);
    for (int i = 0; i < 2; ++i) {
        staged_[i] = Event(device);
        finished_[i] = Event(device);
    }
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
    t->lane("compute", compute_);
    if (exchange_) t->lane("exchange", comm_);
    t->lane("copy", copy_);
}

// ---- a step -----------------------------------------------------------------------------------

// A launch's operands in this worker's buffers.
class Worker::StepOperands : public Operands {
public:
    StepOperands(Worker& worker, const StepInputs& inputs) : worker_(worker), inputs_(inputs) {}
    const void* view(int transfer, int rank) override {
        return worker_.views_[transfer][rank].data;
    }
    void* workspace() override { return worker_.at(worker_.layout_.workspace); }
    cudaStream_t stream() override { return stream_; }
    const StepInputs& inputs() override { return inputs_; }
    void on(cudaStream_t stream) { stream_ = stream; }

private:
    void* resolve(BufferRef p, bool, bool) override { return worker_.at(p); }
    Worker& worker_;
    const StepInputs inputs_;
    cudaStream_t stream_ = nullptr;
};

long Worker::train(const HostBatch& batch, const StepState& state) {
    states_[submitted_ % 2] = state;
    return submit(batch, true);
}

long Worker::evaluate(const HostBatch& batch) { return submit(batch, false); }

long Worker::submit(const HostBatch& batch, bool training) {
    const int slot = submitted_ % 2;
    const Timeline::Recording on(timeline_);
    copy_batch(batch, slot);
    const int finished = layout_.ids.finished;
    if (finished >= 0 && submitted_ > 0) exchange_->collect(finished, compute_.get());
    graph_segments_.begin(training, slot, timeline_ != nullptr);
    StepOperands operands(*this, {.slot = slot,
                                  .state = &states_[slot],
                                  .stats = &stats_[slot * layout_.stats_count],
                                  .normalisation = normalisation_,
                                  .weight_decay = weight_decay_});
    run(training ? layout_.training_steps : layout_.evaluation_steps, operands);
    if (finished >= 0) exchange_->post(finished, nullptr, compute_.get());
    finished_[slot].record(compute_.get());
    return submitted_++;
}

// Launches in a row on one stream are a graph segment: it ends at what the peers or the other
// stream must see.
void Worker::run(const StepList& steps, StepOperands& operands) {
    const auto launches = [](const Step& s) { return std::holds_alternative<Launch>(s.action); };
    for (auto step = steps.begin(); step != steps.end();) {
        Stream& s = stream(step->stream);
        if (launches(*step)) {
            const auto end = std::find_if(step, steps.end(), [&](const Step& o) {
                return !launches(o) || o.stream != step->stream;
            });
            operands.on(s.get());
            graph_segments_.run(s, [&] { launch({step, end}, operands); });
            step = end;
            continue;
        }
        if (const auto* post = std::get_if<Post>(&step->action))
            exchange_->post(post->transfer, at(post->block), s.get());
        if (const auto* collect = std::get_if<Collect>(&step->action))
            views_[collect->transfer] = exchange_->collect(collect->transfer, s.get());
        if (const auto* record = std::get_if<Record>(&step->action))
            events_[record->event].record(s.get());
        if (const auto* await = std::get_if<Await>(&step->action))
            wait_for(s.get(), events_[await->event], {rank_, await->what, await->number});
        ++step;
    }
}

void Worker::launch(std::span<const Step> launches, StepOperands& operands) {
    std::optional<Range> range;
    const Launch* before = nullptr;
    for (const Step& step : launches) {
        const Launch& l = std::get<Launch>(step.action);
        if (!before || l.range != before->range || l.span != before->span) {
            range.reset();
            range.emplace(l.range.c_str(), operands.stream(), l.span);
        }
        l.run(operands);
        before = &l;
    }
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
    copy_.synchronize();
    compute_.synchronize();
    comm_.synchronize();
}

// Copies the batch to this slot's buffers, once the step that read them last has finished.
void Worker::copy_batch(const HostBatch& batch, int slot) {
    const Range range("loader", copy_.get(), SpanKind::copy);
    const Layout& l = layout_;
    const WorkerConfig& c = l.config;
    if (submitted_ >= 2) copy_.wait(finished_[slot]);
    const auto copy = [&](BufferRef to, const void* from, size_t bytes) {
        WT_CUDA(cudaMemcpyAsync(at(to), from, bytes, cudaMemcpyHostToDevice, copy_.get()));
    };
    copy(l.images[slot], batch.images, size_t(c.batch) * c.image_h * c.image_w * c.image_c);
    copy(l.draws[slot], batch.draws, c.batch * sizeof(AugmentParams));
    copy(l.labels[slot], batch.labels, c.batch * sizeof(int));
    staged_[slot].record(copy_.get());
    compute_.wait(staged_[slot]);
}

}  // namespace wt
