#include "host/parallel/worker.h"

#include "host/cuda/nvtx.h"

namespace wt {

Worker::Worker(const WorkerConfig& config, Board& board)
    : layout_(config), board_(board), rank_(config.rank), workers_(config.workers), replay_(config.graph) {
    const int device = config.device;
    WT_CUDA(cudaSetDevice(device));
    for (const MemoryPlan::Entry& e : layout_.plan.entries()) buffers_.emplace_back(device, e.bytes, e.what.c_str());
    compute_ = Stream(device), comm_ = Stream(device), copy_ = Stream(device);
    for (int i = 0; i < 2; ++i) staged_[i] = Event(device), finished_[i] = Event(device);
    joined_ = Event(device);
    stats_ = PinnedBuffer<SoftmaxStats>(2);
    states_ = PinnedBuffer<StepState>(2);
    board_.join(rank_, device);
}

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
    if (workers_ > 1) t->lane("exchange", comm_);
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
    // Peers may still be reading what the pass before has left; nobody overwrites it before everybody finished.
    if (workers_ > 1 && passes_ > 0) {
        const Range range("wait for last pass", compute_.get(), SpanKind::wait);
        board_.collect(rank_, slot::finished, compute_.get());
    }
    replay_.begin(training, turn, timeline_ != nullptr);
    if (workers_ == 1)
        replay_.stretch(compute_, [&] { pass(training, turn); });
    else
        pass(training, turn);
    if (workers_ > 1) board_.post(rank_, slot::finished, nullptr, compute_.get());
    finished_[turn].record(compute_.get());
    return passes_++;
}

void Worker::pass(bool training, int turn) {
    replay_.stretch(compute_, [&] {
        take_input(training, turn);
        trunk_forward(training);
    });
    head_forward(training);
    if (training) {
        head_backward();
        trunk_backward();
    }
    replay_.stretch(compute_, [&] {
        if (training) update();
        WT_CUDA(cudaMemcpyAsync(&stats_[turn], at(layout_.stats), sizeof(SoftmaxStats), cudaMemcpyDeviceToHost, compute_.get()));
    });
}

SoftmaxStats Worker::wait(long ticket) {
    finished_[ticket % 2].synchronize();
    return stats_[ticket % 2];
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
    const WorkerConfig& c = l.config;
    const cudaStream_t s = compute_.get();
    if (training) WT_CUDA(cudaMemcpyAsync(at(l.state), &states_[turn], sizeof(StepState), cudaMemcpyHostToDevice, s));
    WT_CUDA(cudaMemcpyAsync(at<int>(l.all_labels) + c.row0(), at(l.labels[turn]), c.batch * sizeof(int), cudaMemcpyDeviceToDevice, s));
    AugmentArgs a{};
    a.images = at<uint8_t>(l.images[turn]);
    a.params = at<AugmentParams>(l.draws[turn]);
    for (int i = 0; i < 3; ++i) a.mean[i] = normalisation_.mean[i], a.inv_std[i] = normalisation_.inv_std[i];
    a.y = at(l.input);
    a.stream = s;
    l.augment(a);
}

void Worker::update() {
    const Range range("update", compute_.get());
    std::vector<SgdTensor> tensors;
    for (const Layout::Update& u : layout_.updates) {
        const Layout::Storage& st = layout_.storage[u.param];
        const Param& p = layout_.params[u.param];
        tensors.push_back({at<float>(st.w), at<float>(st.v), at<float>(u.grad), st.low ? at<bf16>(st.low) : nullptr, layout_.own_count(u.param),
                           p.bias ? 0.f : weight_decay_, 1.f});
    }
    layout_.update({tensors.data(), at<StepState>(layout_.state), compute_.get()});
}

}  // namespace wt
