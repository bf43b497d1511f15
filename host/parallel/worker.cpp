#include "host/parallel/worker.h"

#include "host/cuda/nvtx.h"
#include "host/parallel/waits.h"

namespace wt {

Worker::Worker(const WorkerConfig& config, std::unique_ptr<Exchange> exchange)
    : layout_(config), exchange_(std::move(exchange)), rank_(config.rank), workers_(config.workers), head_shared_(config.head_workers() > 1),
      replay_(config.graph) {
    const int device = config.device;
    WT_CUDA(cudaSetDevice(device));
    for (const MemoryPlan::Entry& e : layout_.plan.entries()) buffers_.emplace_back(device, e.bytes, e.what.c_str());
    compute_ = Stream(device), comm_ = Stream(device), copy_ = Stream(device);
    for (int i = 0; i < 2; ++i) staged_[i] = Event(device), finished_[i] = Event(device);
    for (Event* e : {&started_, &summed_, &returned_, &released_, &joined_}) *e = Event(device);
    for (int j = 0; j < config.pass_count(); ++j) gathered_.emplace_back(device);
    stats_ = PinnedBuffer<SoftmaxStats>(2 * layout_.stats_count);
    states_ = PinnedBuffer<StepState>(2);
    for (const HeadOp& op : layout_.head)
        if (op.by_inputs) WT_CUDA(cudaMemset(at(op.bias), 0, op.layer->out * 4));
    WT_CUDA(cudaStreamSynchronize(nullptr));  // for which our streams do not wait
    if (exchange_) exchange_->open(device, layout_.transfers, at(layout_.staging));
}

void Worker::wait(cudaStream_t stream, const Event& e, const char* what, int number) const { wait_for(stream, e, {rank_, what, number}); }

void Worker::set_normalisation(const Normalisation& n) {
    normalisation_ = n;
    replay_.forget();
}

void Worker::set_weight_decay(float d) {
    weight_decay_ = d;
    replay_.forget();
}

void Worker::set_timeline(Timeline* t) {
    timeline_ = t;
    if (!t) return;
    t->lane("compute", compute_);
    if (exchange_) t->lane("exchange", comm_);
    t->lane("copy", copy_);
}

// ---- a pass -----------------------------------------------------------------------------------

long Worker::train(const HostBatch& batch, const StepState& state) {
    states_[passes_ % 2] = state;
    return submit(batch, true);
}

long Worker::evaluate(const HostBatch& batch) { return submit(batch, false); }

long Worker::submit(const HostBatch& batch, bool training) {
    const int turn = passes_ % 2;
    const Timeline::Recording on(timeline_);
    stage(batch, turn);
    const int finished = layout_.ids.finished;
    if (finished >= 0 && passes_ > 0) exchange_->collect(finished, compute_.get());
    replay_.begin(training, turn, timeline_ != nullptr);
    if (workers_ == 1)
        replay_.stretch(compute_, [&] { pass(training, turn); });
    else
        pass(training, turn);
    if (finished >= 0) exchange_->post(finished, nullptr, compute_.get());
    finished_[turn].record(compute_.get());
    return passes_++;
}

void Worker::pass(bool training, int turn) {
    const int passes = layout_.config.pass_count();
    if (head_shared_) started_.record(compute_.get());
    replay_.stretch(compute_, [&] {
        take_input(training, turn);
        trunk_forward(training);
    });
    if (head_shared_) {
        wait(comm_.get(), started_, "start");  // the pass before may still read the rows and labels that are gathered anew
        post_rows();
        gather_rows(0);
    }
    for (int j = 0; j < passes; ++j) {
        head_forward(training, j);
        if (training) head_backward(j);
    }
    if (exchange_ && !head_shared_) gather_stats();
    if (training) trunk_backward();
    replay_.stretch(compute_, [&] {
        if (training) update(layout_.update, layout_.updates, compute_.get());
        const int n = layout_.stats_count;
        WT_CUDA(cudaMemcpyAsync(&stats_[turn * n], at(layout_.stats), n * sizeof(SoftmaxStats), cudaMemcpyDeviceToHost, compute_.get()));
    });
    if (!exchange_) return;
    joined_.record(comm_.get());
    wait(compute_.get(), joined_, "joined");
}

SoftmaxStats Worker::wait(long ticket) {
    finished_[ticket % 2].synchronize();
    SoftmaxStats sum{};
    for (int i = 0; i < layout_.stats_count; ++i) {
        const SoftmaxStats& s = stats_[ticket % 2 * layout_.stats_count + i];
        sum.loss_sum += s.loss_sum, sum.rows += s.rows, sum.top1 += s.top1, sum.top5 += s.top5;
    }
    return sum;
}

void Worker::synchronize() {
    copy_.synchronize();
    compute_.synchronize();
    comm_.synchronize();
}

// Copies the batch to this turn's buffers, once the pass that read them last has finished.
void Worker::stage(const HostBatch& batch, int turn) {
    const Range range("loader", copy_.get(), SpanKind::copy);
    const Layout& l = layout_;
    const WorkerConfig& c = l.config;
    if (passes_ >= 2) copy_.wait(finished_[turn]);
    const auto copy = [&](Place to, const void* from, size_t bytes) {
        WT_CUDA(cudaMemcpyAsync(at(to), from, bytes, cudaMemcpyHostToDevice, copy_.get()));
    };
    copy(l.images[turn], batch.images, size_t(c.batch) * c.image_h * c.image_w * c.image_c);
    copy(l.draws[turn], batch.draws, c.batch * sizeof(AugmentParams));
    copy(l.labels[turn], batch.labels, c.batch * sizeof(int));
    staged_[turn].record(copy_.get());
    compute_.wait(staged_[turn]);
}

void Worker::take_input(bool training, int turn) {
    const Range range("input.augment", compute_.get());
    const Layout& l = layout_;
    const cudaStream_t s = compute_.get();
    if (training) WT_CUDA(cudaMemcpyAsync(at(l.state), &states_[turn], sizeof(StepState), cudaMemcpyHostToDevice, s));
    for (const RowBlock& b : l.blocks())
        WT_CUDA(cudaMemcpyAsync(at<int>(l.all_labels) + b.row, at<int>(l.labels[turn]) + b.local, b.count * sizeof(int), cudaMemcpyDeviceToDevice, s));
    AugmentArgs a{};
    a.images = at<uint8_t>(l.images[turn]);
    a.params = at<AugmentParams>(l.draws[turn]);
    for (int i = 0; i < 3; ++i) a.mean[i] = normalisation_.mean[i], a.inv_std[i] = normalisation_.inv_std[i];
    a.y = at(l.input);
    a.stream = s;
    l.augment(a);
}

void Worker::update(const Bound<SgdProblem, SgdArgs>& sgd, const std::vector<Update>& list, cudaStream_t stream) {
    if (!sgd) return;
    const Range range("update", stream);
    const WorkerConfig& c = layout_.config;
    std::vector<SgdTensor> tensors;
    for (const Update& u : list) {
        const Layout::Storage& st = layout_.storage[u.param];
        const Param& p = layout_.params[u.param];
        const bool fc = c.net.layers[p.layer].kind == LayerKind::fc;
        SgdTensor t{at<float>(st.w), at<float>(st.v), at<float>(u.grad), at<bf16>(st.low), layout_.own[u.param].count, p.bias ? 0.f : weight_decay_,
                    fc ? c.fc_lr_scale : c.conv_lr_scale};
        if (c.per_pass && !fc) {
            // Its gradient is a sum over the passes of means over a pass: a mean over the batch is 1 / passes of it. The factor goes
            // to the rate, and out of the weight decay.
            t.lr_scale /= static_cast<float>(c.pass_count());
            t.weight_decay *= static_cast<float>(c.pass_count());
        }
        tensors.push_back(t);
    }
    sgd({tensors.data(), at<StepState>(layout_.state), stream});
}

}  // namespace wt
