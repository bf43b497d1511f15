// What one worker runs and where it lies: every operation of a step bound to its variant, every
// buffer with its size, worked out before anything is allocated: the same code answers "which batch
// would fit". A pure function of the configuration (config.h), except while `--kernels tune`
// measures (Tuning::measure): then planning times the variants of what it binds on the GPU.
//
// The trunk (convolutional part) works on this worker's `batch` samples with whole layers; the head
// (fully connected part) on all `batch * workers` samples with this worker's shard of each layer's
// units or inputs (FcSplit), in one microbatch or several (FcScheme).
// Parameters that every worker holds whole lie in buckets (buckets.h): their gradients are summed,
// and they are updated, in equal segments, one a worker.
//
// layer_ops.h has what a layer runs. layout.cpp plans parameters, input and update,
// layout_trunk.cpp, layout_head.cpp and layout_head_gradients.cpp the two parts, transfers.cpp what
// is exchanged, layout_overlap.cpp what runs beside what.
#pragma once

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "host/net/kernel_settings.h"
#include "host/net/params.h"
#include "host/net/spec.h"
#include "host/parallel/buckets.h"
#include "host/parallel/config.h"
#include "host/parallel/exchange.h"
#include "host/parallel/layer_ops.h"
#include "host/parallel/memory_plan.h"
#include "host/parallel/step.h"
#include "kernels/operations.h"

namespace wt {

class StepPlanner;

// The numbers of a step's transfers (exchange.h). With one worker there are none; in scheme dp the
// head has none but `stats`.
struct TransferIds {
    int finished = -1, stats = -1;
    std::vector<int> labels, flat;  // by microbatch
    // By layer of the head and microbatch: what goes up (columns of y; row-parallel, partial sums
    // of it) and down (partial sums of the gradient of x; row-parallel, columns of it). -1 where
    // the layer that reads it needs own columns only, or is below all that is trained.
    std::vector<std::vector<int>> up, down;
    std::vector<int> grads, values;  // by bucket; -1 for one of frozen layers
};

struct Layout {
    explicit Layout(const WorkerConfig& config);
    Layout(const Layout&) = delete;  // ops point into config.net

    WorkerConfig config;
    MemoryPlan plan;
    std::vector<Param> params;
    // The block of each parameter that this worker holds, stored row by row.
    std::vector<Shard> rows, columns;
    // The elements of that block that this worker updates: each of the whole is one worker's.
    std::vector<Shard> own;
    struct Storage {
        BufferRef value;  // what the layers read: held rows
        // fp32 master (of biases, and in fp32, part of `value`) and momentum, of own elements. A
        // frozen layer has no v.
        BufferRef w, v;
        // The part of `value` that the update writes besides w, of own elements; null where that is
        // w.
        BufferRef w_bf16;
    };
    std::vector<Storage> storage;
    std::vector<Bucket> buckets;
    // What is updated at the end of a step and of each microbatch, besides buckets.
    std::vector<Update> updates, microbatch_updates;
    std::vector<GradientSum> sums;  // of all trained parameters; none where a step is one batch

    std::vector<std::vector<RowBlock>> blocks_of;  // each rank's samples
    const std::vector<RowBlock>& blocks() const { return blocks_of[config.rank]; }
    // The samples of a rank that are in a microbatch; count 0: none are.
    RowBlock block_in(int rank, int microbatch) const;
    BufferRef images[2], draws[2], labels[2];  // staged input, double-buffered
    BufferRef input[2];  // as the first layer reads it; both are one where it is made in the step
    BufferRef state[2];  // StepState, by slot
    // Of the head's samples; those of one worker's head stay where they are staged.
    BufferRef all_labels;
    BufferRef dlogits, stats, staging;
    // Of training, one result a row (SoftmaxRow), which wgrad's stream adds up; null: the softmax
    // does so itself.
    BufferRef loss_rows;
    BufferRef workspaces[kStreams];  // by StreamName; null: nothing there needs one
    int stats_count = 1;  // of the counts that add up to the batch's: by microbatch, or by worker
    BufferRef flat;       // head_rows x trunk outputs: what the head reads
    // batch x trunk outputs: this worker's rows of `flat`, or apart where those are not together.
    BufferRef trunk_y;
    BufferRef trunk_dy;  // batch x trunk outputs
    // The buffers of the trunk's gradients: trunk_dy's, and those that layers alternate between.
    std::vector<int> trunk_gradients;
    std::vector<Transfer> transfers;
    TransferIds ids;
    std::vector<TrunkOp> trunk;
    std::vector<HeadOp> head;
    Bound<AugmentProblem, AugmentArgs> augment;
    Bound<SoftmaxProblem, SoftmaxArgs> softmax;
    Bound<SgdProblem, SgdArgs> update, microbatch_update;
    // By microbatch * workers + source rank: its rows of `flat`.
    std::vector<Bound<CopyProblem, CopyArgs>> gather_flat;
    // By own block: the sum of everybody's partial sums of its gradient.
    std::vector<Bound<ReduceProblem, ReduceArgs>> flat_reduce;
    int64_t flat_cols = 0;
    // Index in the network of the lowest layer that is trained: the backward pass ends with it.
    int bottom = 0;
    Overlap overlap;     // what becomes of config.overlap
    int fc_sms = 0;      // SMs of the fully connected layers' update beside the trunk; 0: all
    double fc_gain = 0;  // seconds of a step that it should save by the prediction

    // What a worker puts on its streams, in order (step.h), and the fusions that were looked at for
    // it.
    // `training_steps` updates: it is the whole step, or the last micro-step. `earlier_steps` are
    // the first micro-step and the middle ones; empty where there are none.
    StepList training_steps, earlier_steps[2], evaluation_steps;
    const StepList& training_list(MicroStep part) const {
        if (part == MicroStep::whole || part == MicroStep::last) return training_steps;
        return earlier_steps[part == MicroStep::middle];
    }
    std::vector<Fusion> fusions;

    // LAYER.OP and the variant that runs it, in the order of planning.
    std::vector<std::pair<std::string, std::string>> choices;

    // What a layer of the trunk reads in a step of this slot.
    BufferRef x_of(const TrunkOp& op, int slot) const {
        return op.x == input[0] ? input[slot] : op.x;
    }
    bool labels_stay() const { return config.head_workers() == 1; }
    bool frozen(int param) const { return !config.trains(config.net.layers[params[param].layer]); }
    // Whether the layer turns the gradient of its output into that of its input.
    bool goes_back(int layer) const { return config.training && layer > bottom; }
    Shard segment(const Bucket& b, int rank) const;
    BufferRef gradient_of(int param) const;  // in its bucket
    const GradientSum& sum_of(BufferRef gradient) const;
    // A parameter in memory order, from every worker's own elements one after the other.
    std::vector<float> whole(int param, std::vector<float> by_worker) const;
    size_t element_size() const { return size_of(config.dtype); }
    // The microbatch's first row in the head's buffers.
    int64_t first_row(int microbatch) const { return microbatch * config.microbatch_rows(); }

private:
    // ---- layout.cpp
    void find_bottom();
    void plan_params();
    void plan_bucket(Bucket& b);
    void plan_sharded(int param);
    void plan_input();
    void plan_update();
    void plan_sums();
    void plan_steps();
    void bind_update(Bound<SgdProblem, SgdArgs>& bound, const std::vector<Update>& list);
    void check_names() const;

    // ---- layout_overlap.cpp
    void choose_overlap();
    void plan_fc_update();
    double update_beside_trunk(int sms, double bytes, bool limit);
    void plan_workspaces();

    // ---- layout_trunk.cpp
    void plan_trunk();
    void plan_conv(TrunkOp& op, int i, int& param);
    void plan_pool(TrunkOp& op, int i);
    template <class Problem, class Forward, class Backward>
    void plan_layer(TrunkOp& op, int i, Table<Problem, Forward> forward,
                    Table<Problem, Backward> backward, const Problem& problem);
    void plan_trunk_gradients();
    ConvProblem conv_problem(const Layer& l) const;
    void choose_input_layout(ConvProblem& first);
    std::optional<ConvProblem> as_planes(const ConvProblem& first) const;
    bool reads(const ConvProblem& stored, const std::string& name);
    AugmentProblem augment_problem(const ConvProblem& first) const;

    // ---- layout_fused_pools.cpp
    std::optional<LrnPoolProblem> fused_pool(int i) const {
        return i < static_cast<int>(fused_pools_.size()) ? fused_pools_[i] : std::nullopt;
    }
    std::optional<LrnPoolProblem> find_fused_pool(int i);
    std::string fused_forward_name(int pool) const, fused_backward_name(int pool) const;
    void find_conv_pool(const ConvProblem& stored);
    std::string conv_pool_name() const;
    // Whether the pooling at index i of the network does the convolution and the ReLU below it: the
    // one behind the first layer may.
    static constexpr int kFirstPool = 2;
    bool does_conv(int i) const { return conv_pool_ && i == kFirstPool; }

    // ---- layout_head.cpp. `act` and `drop` are the layers that follow, or null.
    void plan_head();
    HeadOp head_op(int layer, int param) const;
    void plan_fc_outputs(HeadOp& op, const Layer* act, const Layer* drop);
    GemmProblem fprop_problem(const HeadOp& op) const;
    void plan_fprop(HeadOp& op, const Layer* act, const Layer* drop);
    void plan_head_exchange();
    void bind_gather(HeadOp& op, DType dtype);

    // ---- layout_head_gradients.cpp
    void plan_head_gradients();
    void plan_input_gradient(HeadOp& op, HeadOp* below);
    void plan_output_gradient(HeadOp& op, const HeadOp& above);
    void plan_dgrad(HeadOp& op, HeadOp* below);
    TrunkOp* dropout_below_head();
    void plan_wgrad(HeadOp& op);
    void alias_trunk_gradient();
    void plan_trunk_reduce();

    // ---- transfers.cpp
    void plan_transfers();
    int add_transfer(const std::string& name);  // the last of `transfers`; returns its number
    std::string transfer_name(size_t head_layer, int microbatch) const;
    void plan_stats_transfer();
    void plan_sample_transfers(int microbatch);
    void plan_transfer_up(size_t head_layer, int microbatch);
    void plan_transfer_down(size_t head_layer, int microbatch);
    void plan_bucket_transfers(const Bucket& b);

    std::vector<std::optional<LrnPoolProblem>> fused_pools_;  // by layer of the trunk
    std::optional<ConvPoolProblem> conv_pool_;                // of the first three layers

    // Whether `fused` is to do the work of the parts; `name` is how bin/compare calls it.
    template <class Problem, class Args, class... Parts>
    bool fuses(const std::string& name, const std::string& layer_op, Table<Problem, Args> table,
               const Problem& fused, const Parts&... parts) {
        fusions.push_back(
            {.fused = {name, Args::operation, text_of(fused)}, .parts = {part_of(parts)...}});
        return config.kernels.fuses(layer_op, table, fused, config.architecture(), parts...);
    }
    template <class Problem, class Args>
    static Fusion::Part part_of(const Part<Problem, Args>& p) {
        return {p.name.empty() ? p.layer_op : p.name, Args::operation, text_of(p.problem)};
    }
    template <class Problem, class Args>
    Bound<Problem, Args> bind(const std::string& layer_op, Table<Problem, Args> table,
                              const Problem& problem) {
        const auto bound = config.kernels.bind(layer_op, table, problem, config.architecture());
        const std::pair<std::string, std::string> choice(layer_op, bound.variant->name);
        if (std::find(choices.begin(), choices.end(), choice) == choices.end())
            choices.push_back(choice);
        return bound;
    }
};

// Bytes that one worker of this configuration allocates.
size_t memory_needed(const WorkerConfig& config);

}  // namespace wt
