// One worker: a device, its streams, its replica of the convolutional layers and its shard of the fully connected ones, and
// the order of work in a step ("One weird trick", arXiv 1404.5997, section 4; the schemes are FcScheme's, layout.h).
//
// A step:
//   trunk forward on own samples
//   for each pass of the head: gather its rows (those of the next pass behind this one's work) -> forward, gathering each
//     layer's columns -> softmax -> backward: partial gradients of each layer's input summed into their owner's columns, at
//     the bottom into each replica's rows. The layers' own gradients, with the update, in every pass or once in the last.
//     (Layers that are split by inputs: the sums in the forward pass, the gathering in the backward pass. FcSplit.)
//   trunk backward; behind it, on a second stream and bucket by bucket, each worker sums its segment of the gradients,
//     updates what lies in it, and copies what the others have updated
//   update of the fully connected shard
// Everything is submitted without waiting for the device; only posts of peers are waited for. Nearly all of it goes out as
// graphs (replay.h).
//
// worker.cpp has the step, worker_trunk.cpp and worker_head.cpp its two halves, worker_buckets.cpp what is replicated,
// worker_params.cpp what the host asks for.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "host/cuda/buffer.h"
#include "host/cuda/stream.h"
#include "host/cuda/timeline.h"
#include "host/parallel/exchange.h"
#include "host/parallel/layout.h"
#include "host/parallel/replay.h"
#include "kernels/common/step_state.h"

namespace wt {

// Stored images of this worker's samples, in host memory (pinned, to be asynchronous).
struct HostBatch {
    const uint8_t* images;  // batch x image_h x image_w x image_c
    const AugmentParams* draws;
    const int* labels;      // -1: not counted
};

// Subtracted from and multiplied to pixels, per channel, in 0..255 units.
struct Normalisation {
    float mean[3] = {0, 0, 0};
    float inv_std[3] = {1, 1, 1};
};

class Worker {
public:
    // Allocates everything; throws Error saying what did not fit. Runs on the worker's own thread.
    // `exchange`: null with one worker.
    Worker(const WorkerConfig& config, std::unique_ptr<Exchange> exchange);

    const Layout& layout() const { return layout_; }

    // Parameter i (Layout::params): the rows that this worker holds (Layout::rows), whole, in memory order. Between steps only.
    void set_param(int i, const std::vector<float>& rows);
    void set_momentum(int i, const std::vector<float>& rows);
    // The elements that it updates (Layout::own); the gradient is the whole batch's in the last step, or pass.
    std::vector<float> get_param(int i) const;
    std::vector<float> get_momentum(int i) const;
    std::vector<float> get_gradient(int i) const;
    // What it reads as parameter i: the block that it holds, as the layers see it.
    std::vector<float> get_values(int i) const;

    void set_normalisation(const Normalisation& n);
    void set_weight_decay(float d);

    // Steps are recorded there, without graphs, until it is null again.
    void set_timeline(Timeline* t);

    int64_t bytes_sent() const { return exchange_ ? exchange_->bytes_sent() : 0; }  // to other workers

    // Submits a training step, or an evaluation of the batch. `ticket` numbers the submissions; at most two
    // may be under way. The batch must stay as it is until wait(ticket).
    long train(const HostBatch& batch, const StepState& state);
    long evaluate(const HostBatch& batch);
    // Waits for it; loss and counts over the whole batch (the same on every rank).
    SoftmaxStats wait(long ticket);
    void synchronize();

private:
    template <class T>
    T* at(Place p) const { return p ? reinterpret_cast<T*>(buffers_[p.buffer].data() + p.offset) : nullptr; }
    void* at(Place p) const { return at<void>(p); }
    void* workspace() const { return at(layout_.workspace); }
    const void* weight(int param) const { return at(layout_.storage[param].value); }  // what the matrix units read
    const float* bias(int param) const { return at<float>(layout_.storage[param + 1].value); }

    long submit(const HostBatch& batch, bool training);
    void stage(const HostBatch& batch, int turn);
    void pass(bool training, int turn);
    void take_input(bool training, int turn);
    void update(const Bound<SgdProblem, SgdArgs>& sgd, const std::vector<Update>& list, cudaStream_t stream);

    void trunk_forward(bool training);
    void trunk_dropout(const TrunkOp& op, Place from, Place to);
    void trunk_backward();
    void conv_dgrad(const TrunkOp& op);
    void conv_wgrad(const TrunkOp& op);
    void trunk_layer_backward(const TrunkOp& op);

    void post_rows();
    void gather_rows(int pass);
    void head_forward(bool training, int pass);
    void gather_columns(const HeadOp& op, const std::vector<View>& from, Place to, int pass, size_t size, cudaStream_t stream);
    void finish_units(const HeadOp& op, int pass, const std::vector<View>& ys, bool training);
    void fc_forward(const HeadOp& op, int pass, bool training);
    void activate(const HeadOp& op, int pass, bool training);
    void loss(int pass, bool training);
    void gather_stats();
    void head_backward(int pass);
    void fc_dgrad(int i, int pass);
    void activate_backward(const HeadOp& op, int pass);
    void fc_wgrad(const HeadOp& op, int pass);
    void pass_down(int i, int pass);

    void bucket_ready(int param);
    void bucket_free(bool at_once);
    void finish_buckets();

    // A matrix's rows of a pass.
    template <class T = void>
    T* rows_at(Place p, int pass, int64_t ld, size_t size) const { return at<T>(p.plus(layout_.pass_row(pass) * ld * size)); }
    void wait(cudaStream_t stream, const Event& e, const char* what, int number = 0) const;

    Layout layout_;
    std::unique_ptr<Exchange> exchange_;
    int rank_, workers_;
    bool head_shared_;  // by several workers
    std::vector<DeviceBuffer<std::byte>> buffers_;
    Stream compute_, comm_, copy_;
    Event staged_[2], started_, summed_, returned_, released_, joined_, finished_[2];
    std::vector<Event> gathered_;  // by pass
    std::vector<int> posted_;     // buckets whose gradients are posted
    struct Free {
        int bucket;
        bool at_once;
    };
    std::vector<Free> free_;      // that may be updated too; at once, or when `released_` is done
    PinnedBuffer<SoftmaxStats> stats_;  // stats_count of each turn
    PinnedBuffer<StepState> states_;
    Normalisation normalisation_;
    float weight_decay_ = 0;
    long passes_ = 0;
    Timeline* timeline_ = nullptr;
    Replay replay_;  // dies before what its graphs use
};

}  // namespace wt
