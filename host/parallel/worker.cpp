#include "host/parallel/worker.h"

#include "host/cuda/nvtx.h"

namespace wt {

namespace {

// Slots of the board: what is exchanged in a step.
enum Slot { kFinished, kLabels, kFlat, kPerLayer };
int slot_activation(int layer) { return kPerLayer + 2 * layer; }      // head: columns of y
int slot_gradient(int layer) { return kPerLayer + 2 * layer + 1; }    // head: partial sums; trunk: weight gradient

template <class T>
void* shifted(T* p, int64_t elements, DType t) {
    return const_cast<std::byte*>(reinterpret_cast<const std::byte*>(p)) + elements * static_cast<int64_t>(size_of(t));
}

}  // namespace

int Worker::slots(const NetSpec& net) { return kPerLayer + 2 * static_cast<int>(net.layers.size()); }

Worker::Worker(const WorkerConfig& config, Board& board)
    : layout_(config), board_(board), rank_(config.rank), workers_(config.workers) {
    const int device = config.device;
    WT_CUDA(cudaSetDevice(device));
    for (const MemoryPlan::Entry& e : layout_.plan.entries()) buffers_.emplace_back(device, e.bytes, e.what.c_str());
    compute_ = Stream(device), comm_ = Stream(device), copy_ = Stream(device);
    for (int i = 0; i < 2; ++i) staged_[i] = Event(device), consumed_[i] = Event(device), finished_[i] = Event(device);
    joined_ = Event(device);
    stats_ = PinnedBuffer<SoftmaxStats>(2);
    states_ = PinnedBuffer<StepState>(2);
    board_.join(rank_, device);
}

// ---- parameters -------------------------------------------------------------------------------

const void* Worker::weight(int param) const {
    const Layout::Storage& s = layout_.storage[param];
    return s.low ? at(s.low) : at(s.w);
}

// cudaMemcpy from pageable memory may return before the last bytes have arrived, and our streams do not wait for
// the default stream: hence the wait.
static void write_blocking(int device, void* to, const void* from, size_t bytes) {
    const DeviceGuard guard(device);
    WT_CUDA(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
    WT_CUDA(cudaStreamSynchronize(nullptr));
}

void Worker::set_param(int i, const std::vector<float>& v) {
    const Layout::Storage& s = layout_.storage[i];
    write_blocking(layout_.config.device, at(s.w), v.data(), v.size() * 4);
    if (!s.low) return;
    std::vector<bf16> low(v.size());
    for (size_t j = 0; j < v.size(); ++j) low[j] = __float2bfloat16(v[j]);
    write_blocking(layout_.config.device, at(s.low), low.data(), low.size() * 2);
}

void Worker::set_momentum(int i, const std::vector<float>& v) {
    write_blocking(layout_.config.device, at(layout_.storage[i].v), v.data(), v.size() * 4);
}

static std::vector<float> read_floats(const void* device, int64_t count) {
    std::vector<float> v(count);
    WT_CUDA(cudaMemcpy(v.data(), device, count * 4, cudaMemcpyDeviceToHost));
    return v;
}

std::vector<float> Worker::get_param(int i) const {
    return read_floats(at(layout_.storage[i].w), layout_.rows[i].count * layout_.params[i].row);
}

std::vector<float> Worker::get_momentum(int i) const {
    return read_floats(at(layout_.storage[i].v), layout_.rows[i].count * layout_.params[i].row);
}

std::vector<float> Worker::get_gradient(int i) const {
    const Param& p = layout_.params[i];
    const int64_t count = layout_.rows[i].count * p.row;
    for (const TrunkOp& op : layout_.trunk)
        if (op.layer->kind == LayerKind::conv && (op.weight == i || op.weight + 1 == i))
            return read_floats(at<float>(op.grad_sum) + (p.bias ? op.layer->weights() : 0), count);
    for (const HeadOp& op : layout_.head)
        if (op.weight == i || op.weight + 1 == i)
            return read_floats(at<float>(op.grad) + (p.bias ? op.grad_count - count : 0), count);
    throw Error("no gradient of " + p.name);
}

// ---- a pass -----------------------------------------------------------------------------------

long Worker::train(const HostBatch& batch, const StepState& state) { return submit(batch, &state); }
long Worker::evaluate(const HostBatch& batch) { return submit(batch, nullptr); }

long Worker::submit(const HostBatch& batch, const StepState* state) {
    const bool training = state != nullptr;
    const int turn = passes_ % 2;
    if (training) {
        states_[turn] = *state;
        WT_CUDA(cudaMemcpyAsync(at(layout_.state), &states_[turn], sizeof(StepState), cudaMemcpyHostToDevice, compute_.get()));
    }
    load(batch);
    trunk_forward(training);
    head_forward(training);
    loss(training);
    if (training) {
        head_backward();
        trunk_backward();
        update();
    }
    WT_CUDA(cudaMemcpyAsync(&stats_[turn], at(layout_.stats), sizeof(SoftmaxStats), cudaMemcpyDeviceToHost, compute_.get()));
    // Peers may still be reading what this pass has left; nobody overwrites it before everybody finished.
    if (workers_ > 1) board_.post(rank_, kFinished, nullptr, compute_.get());
    finished_[turn].record(compute_.get());
    return passes_++;
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

void Worker::load(const HostBatch& batch) {
    const Range range("loader");
    const Layout& l = layout_;
    const WorkerConfig& c = l.config;
    const int turn = passes_ % 2;
    if (passes_ >= 2) copy_.wait(consumed_[turn]);
    const auto stage = [&](Place to, const void* from, size_t bytes) {
        WT_CUDA(cudaMemcpyAsync(at(to), from, bytes, cudaMemcpyHostToDevice, copy_.get()));
    };
    stage(l.images[turn], batch.images, size_t(c.batch) * c.image_h * c.image_w * c.image_c);
    stage(l.draws[turn], batch.draws, c.batch * sizeof(AugmentParams));
    stage(l.labels[turn], batch.labels, c.batch * sizeof(int));
    staged_[turn].record(copy_.get());
    compute_.wait(staged_[turn]);

    AugmentArgs a{};
    a.images = at<uint8_t>(l.images[turn]);
    a.params = at<AugmentParams>(l.draws[turn]);
    for (int i = 0; i < 3; ++i) a.mean[i] = normalisation_.mean[i], a.inv_std[i] = normalisation_.inv_std[i];
    a.y = at(l.input);
    a.stream = compute_.get();
    l.augment(a);

    // Peers are reading this worker's labels of the pass before until they finished it.
    if (workers_ > 1 && passes_ > 0) board_.collect(rank_, kFinished, compute_.get());
    int* all = at<int>(l.all_labels);
    WT_CUDA(cudaMemcpyAsync(all + c.row0(), at(l.labels[turn]), c.batch * sizeof(int), cudaMemcpyDeviceToDevice, compute_.get()));
    consumed_[turn].record(compute_.get());
    if (workers_ == 1) return;
    board_.post(rank_, kLabels, all, compute_.get());
}

void Worker::trunk_forward(bool training) {
    const Layout& l = layout_;
    const cudaStream_t s = compute_.get();
    void* const workspace = l.workspace ? at(l.workspace) : nullptr;
    for (const TrunkOp& op : l.trunk) {
        const Range range(op.name_forward.c_str());
        switch (op.layer->kind) {
            case LayerKind::conv: op.fprop({at(op.x), weight(op.weight), bias(op.weight), at(op.y), workspace, s}); break;
            case LayerKind::activation:
                if (!op.relu_fused) op.act({at(op.x), at(op.y), s});
                break;
            case LayerKind::lrn: op.lrn({at(op.x), at(op.y), workspace, s}); break;
            case LayerKind::pool: op.pool({at(op.x), at(op.y), at<uint8_t>(op.argmax), workspace, s}); break;
            case LayerKind::dropout:
                if (training)
                    op.drop({at(op.x), at(op.y), at<StepState>(l.state), static_cast<uint32_t>(op.layer - l.config.net.layers.data()),
                             l.config.row0(), 0, s});
                break;
            case LayerKind::fc: break;
        }
    }
}

void Worker::head_forward(bool training) {
    const Layout& l = layout_;
    const cudaStream_t s = compute_.get();
    void* const workspace = l.workspace ? at(l.workspace) : nullptr;
    if (workers_ > 1) {
        const Range range("exchange trunk.gather");
        board_.post(rank_, kFlat, at(l.flat), s);
        const auto labels = board_.collect(rank_, kLabels, s);
        const auto flats = board_.collect(rank_, kFlat, s);
        for (int r = 0; r < workers_; ++r) {
            if (r == rank_) continue;
            const int64_t row = int64_t(r) * l.config.batch, element = row * l.flat_cols;
            WT_CUDA(cudaMemcpyAsync(at<int>(l.all_labels) + row, static_cast<const int*>(labels[r]) + row,
                                    l.config.batch * sizeof(int), cudaMemcpyDefault, s));
            l.gather_flat({shifted(flats[r], element, l.config.dtype), shifted(at(l.flat), element, l.config.dtype), s});
        }
    }
    for (size_t i = 0; i < l.head.size(); ++i) {
        const HeadOp& op = l.head[i];
        const DType out = op.fprop.problem.out;
        void* const own = shifted(at(op.y), op.shard.first, out);
        // Without training there is no dropout: the activation goes straight to its place.
        const bool apart = op.has_dropout && op.kept.buffer != op.y.buffer;
        {
            const Range range(op.name_fprop.c_str());
            op.fprop({at(op.x), weight(op.weight), bias(op.weight), at(op.kept), nullptr, workspace, s});
            if (op.has_act && !op.relu_fused) op.act({at(op.kept), at(op.kept), s});
            if (op.has_dropout && training)
                op.drop({at(op.kept), own, at<StepState>(l.state), op.dropout_layer, 0, op.shard.first, s});
            else if (apart)
                WT_CUDA(cudaMemcpy2DAsync(own, op.layer->out * size_of(out), at(op.kept), op.ld_kept * size_of(out),
                                          op.shard.count * size_of(out), l.config.rows(), cudaMemcpyDeviceToDevice, s));
        }
        if (workers_ == 1) continue;
        const Range range("exchange fc.gather");
        board_.post(rank_, slot_activation(static_cast<int>(i)), at(op.y), s);
        const auto ys = board_.collect(rank_, slot_activation(static_cast<int>(i)), s);
        for (int r = 0; r < workers_; ++r) {
            if (r == rank_) continue;
            const int64_t col = shard_of(op.layer->out, r, workers_).first;
            op.gather[r]({shifted(ys[r], col, out), shifted(at(op.y), col, out), s});
        }
    }
}

void Worker::loss(bool training) {
    const Layout& l = layout_;
    const Range range("loss.softmax");
    l.softmax({at<float>(l.head.back().y), at<int>(l.all_labels), training ? at(l.dlogits) : nullptr, at<SoftmaxStats>(l.stats),
               l.workspace ? at(l.workspace) : nullptr, compute_.get()});
}

void Worker::head_backward() {
    const Layout& l = layout_;
    const cudaStream_t s = compute_.get();
    void* const workspace = l.workspace ? at(l.workspace) : nullptr;
    for (int i = static_cast<int>(l.head.size()) - 1; i >= 0; --i) {
        const HeadOp& op = l.head[i];
        {
            const Range range(op.name_dgrad.c_str());
            if (op.has_dropout && !op.last)
                op.drop_back({at(op.dy), at(op.dy), at<StepState>(l.state), op.dropout_layer, 0, op.shard.first, s});
            if (op.has_act) op.act_back({at(op.kept), at(op.dy), at(op.dy), s});
            op.dgrad({at(op.dy), weight(op.weight), nullptr, at(op.partial), nullptr, workspace, s});
        }
        // The exchange of the input's gradient runs behind the weight gradient.
        if (workers_ > 1) {
            const Range range("exchange fc.reduce");
            board_.post(rank_, slot_gradient(static_cast<int>(i)), at(op.partial), s);
            const auto partials = board_.collect(rank_, slot_gradient(static_cast<int>(i)), comm_.get());
            ReduceArgs a{};
            a.stream = comm_.get();
            const int64_t offset = i > 0 ? l.head[i - 1].shard.first : l.config.row0() * l.flat_cols;
            for (int r = 0; r < workers_; ++r) a.src[r] = shifted(partials[r], offset, l.config.dtype);
            a.dst = i > 0 ? at(l.head[i - 1].dy) : at(l.trunk_dy);
            (i > 0 ? l.head[i - 1].reduce : l.flat_reduce)(a);
            joined_.record(comm_.get());
        }
        {
            const Range range(op.name_wgrad.c_str());
            float* const dw = at<float>(op.grad);
            op.wgrad({at(op.dy), at(op.x), nullptr, dw, dw + op.grad_count - op.shard.count, workspace, s});
        }
        if (workers_ > 1) compute_.wait(joined_);
    }
}

void Worker::trunk_backward() {
    const Layout& l = layout_;
    const cudaStream_t s = compute_.get();
    void* const workspace = l.workspace ? at(l.workspace) : nullptr;
    for (int i = static_cast<int>(l.trunk.size()) - 1; i >= 0; --i) {
        const TrunkOp& op = l.trunk[i];
        switch (op.layer->kind) {
            case LayerKind::conv: {
                float* const dw = at<float>(op.grad);
                {
                    const Range range(op.name_wgrad.c_str());
                    op.wgrad({at(op.x), at(op.dy), dw, dw + op.layer->weights(), workspace, s});
                }
                if (workers_ > 1) {
                    const Range range("exchange conv.reduce");  // on the second stream, while the layers below go on
                    const int slot = slot_gradient(static_cast<int>(l.head.size()) + i);
                    board_.post(rank_, slot, dw, s);
                    const auto grads = board_.collect(rank_, slot, comm_.get());
                    ReduceArgs a{};
                    for (int r = 0; r < workers_; ++r) a.src[r] = grads[r];
                    a.dst = at(op.grad_sum);
                    a.stream = comm_.get();
                    op.reduce(a);
                }
                const Range range(op.name_dgrad.c_str());
                if (op.needs_dx) op.dgrad({at(op.dy), weight(op.weight), at(op.dx), workspace, s});
                break;
            }
            case LayerKind::activation: {
                const Range range(op.name_dgrad.c_str());
                op.act_back({at(op.y), at(op.dy), at(op.dx), s});
                break;
            }
            case LayerKind::lrn: {
                const Range range(op.name_dgrad.c_str());
                op.lrn_back({at(op.x), at(op.dy), at(op.dx), workspace, s});
                break;
            }
            case LayerKind::pool: {
                const Range range(op.name_dgrad.c_str());
                op.pool_back({at(op.dy), at<uint8_t>(op.argmax), at(op.dx), workspace, s});
                break;
            }
            case LayerKind::dropout:
                op.drop({at(op.dy), at(op.dx), at<StepState>(l.state), static_cast<uint32_t>(op.layer - l.config.net.layers.data()),
                         l.config.row0(), 0, s});
                break;
            case LayerKind::fc: break;
        }
    }
    if (workers_ > 1) {
        joined_.record(comm_.get());
        compute_.wait(joined_);
    }
}

void Worker::update() {
    const Range range("update");
    const Layout& l = layout_;
    std::vector<SgdTensor> tensors;
    const auto add = [&](int param, const float* g) {
        const Layout::Storage& st = l.storage[param];
        const Param& p = l.params[param];
        tensors.push_back({at<float>(st.w), at<float>(st.v), g, st.low ? at<bf16>(st.low) : nullptr, l.rows[param].count * p.row,
                           p.bias ? 0.f : weight_decay_, 1.f});
    };
    for (const TrunkOp& op : l.trunk)
        if (op.layer->kind == LayerKind::conv) {
            add(op.weight, at<float>(op.grad_sum));
            add(op.weight + 1, at<float>(op.grad_sum) + op.layer->weights());
        }
    for (const HeadOp& op : l.head) {
        add(op.weight, at<float>(op.grad));
        add(op.weight + 1, at<float>(op.grad) + op.grad_count - op.shard.count);
    }
    SgdProblem p{static_cast<int>(tensors.size()), 0};
    for (const SgdTensor& t : tensors) p.total += t.count;
    l.config.kernels.bind("update.sgd", sgd_variants(), p, device_sm(l.config.device))({tensors.data(), at<StepState>(l.state), compute_.get()});
}

}  // namespace wt
