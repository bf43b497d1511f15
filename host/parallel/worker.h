// One worker: a device, its streams, its replica of the convolutional layers and its shard of the fully
// connected ones, and the order of work in a step (scheme (a) of "One weird trick", arXiv 1404.5997,
// section 4: every worker gathers all activations and works on the whole batch).
//
// A step:
//   trunk forward on own samples -> gather rows -> head forward on the whole batch, gathering each layer's
//   columns -> softmax -> head backward: partial input gradients summed into their owner's columns, at the
//   bottom into each replica's rows -> trunk backward, each layer's weight gradient summed over the
//   workers on a second stream while the layers below still run -> update.
// Everything is submitted without waiting for the device; only posts of peers are waited for. Nearly all of it goes out as
// graphs (replay.h).
//
// worker.cpp has the step, worker_trunk.cpp and worker_head.cpp its two halves, worker_params.cpp what the host asks for.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "host/cuda/buffer.h"
#include "host/cuda/stream.h"
#include "host/cuda/timeline.h"
#include "host/parallel/board.h"
#include "host/parallel/layout.h"
#include "host/parallel/replay.h"
#include "kernels/step_state.h"

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

// Slots of the board: what is exchanged in a step.
namespace slot {
enum { finished, labels, flat, per_layer };
inline int activation(int layer) { return per_layer + 2 * layer; }    // head: columns of y
inline int gradient(int layer) { return per_layer + 2 * layer + 1; }  // head: partial sums; behind it the trunk: weight gradient
inline int count(const NetSpec& net) { return per_layer + 2 * static_cast<int>(net.layers.size()); }
}  // namespace slot

class Worker {
public:
    // Allocates everything; throws Error saying what did not fit. Runs on the worker's own thread.
    Worker(const WorkerConfig& config, Board& board);

    const Layout& layout() const { return layout_; }

    // Own rows of parameter i (Layout::params, Layout::rows), in memory order.
    void set_param(int i, const std::vector<float>& own_rows);
    void set_momentum(int i, const std::vector<float>& own_rows);
    std::vector<float> get_param(int i) const;
    std::vector<float> get_momentum(int i) const;
    // The whole parameter's gradient of the last step, own rows (fp32).
    std::vector<float> get_gradient(int i) const;

    void set_normalisation(const Normalisation& n);
    void set_weight_decay(float d);
    // Steps are recorded there, without graphs, until it is null again.
    void set_timeline(Timeline* t);

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
    const void* weight(int param) const;  // what the matrix units read
    const float* bias(int param) const { return at<float>(layout_.storage[param + 1].w); }

    long submit(const HostBatch& batch, bool training);
    void stage(const HostBatch& batch, int turn);
    void pass(bool training, int turn);
    void take_input(bool training, int turn);
    void update();

    void trunk_forward(bool training);
    void trunk_backward();
    void conv_dgrad(const TrunkOp& op);
    void conv_wgrad(const TrunkOp& op);
    void trunk_layer_backward(const TrunkOp& op);
    void sum_gradient(const TrunkOp& op, int index);

    void head_forward(bool training);
    void gather_flat(const std::vector<const void*>& labels, const std::vector<const void*>& flats);
    void gather_units(const HeadOp& op, const std::vector<const void*>& ys);
    void fc_forward(const HeadOp& op, bool training);
    void loss(bool training);
    void head_backward();
    void fc_dgrad(const HeadOp& op);
    void fc_wgrad(const HeadOp& op);
    void sum_partials(const HeadOp& op, int i);

    Layout layout_;
    Board& board_;
    int rank_, workers_;
    std::vector<DeviceBuffer<std::byte>> buffers_;
    Stream compute_, comm_, copy_;
    Event staged_[2], joined_, finished_[2];
    PinnedBuffer<SoftmaxStats> stats_;
    PinnedBuffer<StepState> states_;
    Normalisation normalisation_;
    float weight_decay_ = 0;
    long passes_ = 0;
    Timeline* timeline_ = nullptr;
    Replay replay_;  // dies before what its graphs use
};

}  // namespace wt
