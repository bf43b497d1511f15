// One worker: a device, its streams, its replica of the convolutional layers and its shard of the
// fully connected ones. It runs the steps that Layout has planned (step.h; step_planner.h tells
// their order).
//
// Everything is submitted without waiting for the device; only posts of peers are waited for.
// Nearly all of it goes out as graphs (graph_segments.h).
//
// worker.cpp runs steps, worker_params.cpp has what the host asks for.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "host/cuda/buffer.h"
#include "host/cuda/stream.h"
#include "host/cuda/timeline.h"
#include "host/parallel/exchange.h"
#include "host/parallel/layout.h"
#include "host/parallel/graph_segments.h"
#include "host/parallel/step_segments.h"

namespace wt {

// Stored images of this worker's samples, in host memory (pinned, to be asynchronous).
struct HostBatch {
    const uint8_t* images;  // batch x image_h x image_w x image_c
    const AugmentParams* draws;
    const int* labels;  // -1: not counted
};

class Worker {
public:
    // Allocates everything; throws Error saying what did not fit. Runs on the worker's own thread.
    // `exchange`: null with one worker.
    Worker(const WorkerConfig& config, std::unique_ptr<Exchange> exchange);

    const Layout& layout() const { return layout_; }

    // Parameter i (Layout::params): the rows that this worker holds (Layout::rows), whole, in
    // memory order. Between steps only. Frozen parameters have neither momentum nor gradient: to
    // ask for them throws Error.
    void set_param(int i, const std::vector<float>& rows);
    void set_momentum(int i, const std::vector<float>& rows);
    // The elements that it updates (Layout::own); the gradient is the whole batch's in the last
    // step, or that of the last microbatch.
    std::vector<float> get_param(int i) const;
    std::vector<float> get_momentum(int i) const;
    std::vector<float> get_gradient(int i) const;
    // The block of parameter i that it holds, as the layers read it.
    std::vector<float> get_values(int i) const;
    // A row of logits for each sample that its head saw in the last step (WorkerConfig::head_rows,
    // in the order of the whole batch). To be called once that step is over, and before the next is
    // submitted.
    std::vector<float> get_logits() const;
    // Likewise of another fully connected layer: its output with its activation, all units. With
    // one worker.
    std::vector<float> get_fc_output(const std::string& layer) const;
    // What this worker computed of a layer's output in the last step, with what follows in place
    // (activation, dropout): of a layer of the trunk batch x height x width x channels, of a fully
    // connected one own units alone, a row for each of the head's samples. `rows`: the first so
    // many, 0 for all. Empty where another layer's kernel takes the layer along: it is stored
    // nowhere. Throws Error for a layer that the network has not.
    std::vector<float> get_output(const std::string& layer, int64_t rows = 0) const;

    void set_normalisation(const Normalisation& n);
    void set_weight_decay(float d);

    // Steps are recorded there, without graphs, until it is null again.
    void set_timeline(Timeline* t);

    // to other workers
    int64_t bytes_sent() const { return exchange_ ? exchange_->bytes_sent() : 0; }

    // Submits a training step, or an evaluation of the batch. `ticket` numbers the submissions; at
    // most two may be under way. The batch must stay as it is until wait(ticket).
    // `micro`: of the WorkerConfig::accumulate batches of a step, which one this is; they come in
    // order, the last one updates, and an evaluation may not be among them. Each is a submission.
    long train(const HostBatch& batch, const StepState& state, int micro = 0);
    long evaluate(const HostBatch& batch);
    // Waits for it; loss and counts over the whole batch (the same on every rank).
    SoftmaxStats wait(long ticket);
    void synchronize();

private:
    template <class T>
    T* at(BufferRef p) const {
        return p ? reinterpret_cast<T*>(buffers_[p.buffer].data() + p.offset) : nullptr;
    }
    void* at(BufferRef p) const { return at<void>(p); }

    // As fp32, whether stored so or as activations are.
    std::vector<float> read_values(BufferRef from, int64_t n, bool always_fp32) const;

    class StepOperands;
    long submit(const HostBatch& batch, const StepState* state, int kind);
    void copy_batch(const HostBatch& batch, const StepState* state, int slot);
    void run(int kind, StepOperands& operands);
    const StepList& steps_of(int kind) const;
    void run(std::span<const Step> steps, StepOperands& operands);
    void act(const Step& step);
    Stream& stream(StreamName name) { return streams_[static_cast<int>(name)]; }

    Layout layout_;
    std::unique_ptr<Exchange> exchange_;
    int rank_;
    std::vector<DeviceBuffer<std::byte>> buffers_;
    Stream streams_[kStreams];                       // by StreamName
    Event finished_[2];                              // by slot of the input
    std::vector<StepSegment> segments_[kStepKinds];  // of each kind's list
    std::vector<Event> events_;                      // by number (Events)
    std::vector<std::vector<PeerView>> views_;       // of each transfer, as collected last
    PinnedBuffer<SoftmaxStats> stats_;               // stats_count of each slot
    PinnedBuffer<StepState> states_;
    Normalisation normalisation_;
    float weight_decay_ = 0;
    long submitted_ = 0;
    Timeline* timeline_ = nullptr;
    GraphSegments graph_segments_;  // dies before what its graphs use
};

}  // namespace wt
