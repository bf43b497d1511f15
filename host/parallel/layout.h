// What one worker runs and where it lies: every operation of a step bound to its variant, every buffer
// with its size, worked out before anything is allocated: the same code answers "which batch would fit". A pure function
// of the configuration, except while `--kernels tune` measures (Tuning::measure_on): then planning times the variants of
// what it binds on the GPU.
//
// The trunk (convolutional part) works on this worker's `batch` samples with whole layers; the head (fully connected part)
// on all `batch * workers` samples with this worker's shard of each layer's units or inputs (FcSplit), in one pass or several
// (FcScheme).
// Parameters that every worker holds whole lie in buckets: their gradients are summed, and they are updated, in equal
// segments, one a worker.
//
// layout.cpp plans parameters, input and update, layout_trunk.cpp and layout_head.cpp the two parts, transfers.cpp what is
// exchanged.
#pragma once

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "host/cuda/device.h"
#include "host/net/kernel_settings.h"
#include "host/net/params.h"
#include "host/net/spec.h"
#include "host/parallel/exchange.h"
#include "host/parallel/memory_plan.h"
#include "host/parallel/step.h"
#include "kernels/operations.h"

namespace wt {

class StepPlanner;

// On virtual GPUs there is no launch latency to save.
inline constexpr bool kGraphByDefault = !kAutomaticUsesBaselines;

// How the fully connected layers get their batches: "One weird trick" (arXiv 1404.5997), section 4, for K workers with b
// samples each.
//   a   every worker gathers everybody's samples: one pass over K b of them
//   b   K passes; in each one worker's b samples go to all
//   c   K passes; in each every worker sends b / K of its samples to all
//   dp  for comparison, plain data parallelism: these layers too are replicated, and their gradients summed
// All passes of b and c have b samples. What the next one needs is sent while one is computed.
enum class FcScheme { a, b, c, dp };
const char* name_of(FcScheme);

// How a fully connected layer is shared by the workers. Its activation, dropout and biases always are by units.
//   columns    by units: each worker's are gathered from all before the next layer reads them, and the shares of their gradient
//              are summed
//   alternate  the first layer by units, the layers above by inputs: a worker multiplies with the columns of the layer below that
//              it has, so that nothing is gathered between the first two. The products are shares that are summed; the gradient
//              is gathered. The last layer's are summed whole by everybody.
enum class FcSplit { columns, alternate };

struct WorkerConfig {
    NetSpec net;
    int rank = 0, workers = 1, device = 0;
    int sm = -1;      // architecture to plan for (device_sm); -1: the device's
    int batch = 128;  // of this worker
    DType dtype = DType::f32;
    bool tf32 = false;  // fp32 operands of products may be rounded to it
    KernelSettings kernels;
    int image_h = 256, image_w = 256, image_c = 3;  // of stored images
    bool training = true;                           // false: forward only, no gradients
    bool graph = kGraphByDefault;                   // replay captured graphs (replay.h)
    bool keep_gradients = false;                    // of all weights, for Worker::get_gradient: no update in wgrad
    FcScheme scheme = FcScheme::a;
    FcSplit split = FcSplit::columns;
    // The paper's variable batch size: the fully connected layers are updated after every pass, by the mean gradient over its
    // samples. Otherwise the passes add up to one update.
    bool per_pass = false;
    int passes = 0;                                 // of the head; 0: as the scheme has it. More with one worker: a reference
    float conv_lr_scale = 1, fc_lr_scale = 1;       // times the rate of the step
    size_t bucket_bytes = 2 << 20;                  // gradients that are summed together; less is not worth a transfer
    bool packed = false;                            // Exchange::packed
    // Layers with weights, by name, that keep theirs: no gradient, momentum, update or exchange of
    // them; and the backward pass ends at the lowest layer that is not among them.
    std::vector<std::string> frozen;

    int architecture() const { return sm >= 0 ? sm : device_sm(device); }
    bool trains(const Layer& layer) const;  // it has weights, which are updated
    int64_t rows() const { return int64_t(batch) * workers; }  // the whole batch
    int head_workers() const { return scheme == FcScheme::dp ? 1 : workers; }  // that share a fully connected layer
    int64_t head_rows() const { return int64_t(batch) * head_workers(); }      // samples that this worker's head sees in a step
    int64_t head_row0() const { return scheme == FcScheme::dp ? int64_t(batch) * rank : 0; }  // the first of them in the whole batch
    int pass_count() const { return passes ? passes : scheme == FcScheme::b || scheme == FcScheme::c ? workers : 1; }
    int64_t pass_rows() const { return head_rows() / pass_count(); }
    bool by_inputs(int layer) const { return split == FcSplit::alternate && head_workers() > 1 && layer > net.first_fc(); }  // of the head
};

// Consecutive samples of one worker that go through the head together, in pass `pass`.
struct RowBlock {
    int pass = 0;
    int64_t local = 0;  // the first among its worker's
    int64_t row = 0;    // the first among those of the head
    int64_t count = 0;
};
// A worker's samples: one block with a and b, one a pass with c. Throws UsageError where a pass would have no sample of it.
std::vector<RowBlock> row_blocks(const WorkerConfig& config, int rank);
// The place of each of its samples in the whole batch.
std::vector<int> batch_rows(const WorkerConfig& config, int rank);

// A layer of the trunk. Activation and dropout work in place where they can (y is x). What another layer's operation does
// along with its own work is not bound; its problem is there all the same.
struct TrunkOp {
    // Puts the layer's operation on the list of a step.
    using Emit = std::function<void(StepPlanner&, const std::string& name, const TrunkOp&)>;

    const Layer* layer = nullptr;
    std::string name_forward, name_dgrad, name_wgrad;  // ranges: "conv2.fprop", "norm1.forward"
    Place x, y, dx, dy, argmax;
    int weight = -1;          // conv: index of its parameter; the bias follows
    Place grad, grad_bias;    // conv: dW, db, fp32; fused pool: the convolution's db
    uint32_t dropout_layer = 0;  // keys the mask
    bool forward_elsewhere = false, backward_elsewhere = false;  // nothing to run: another layer's operation does it
    bool needs_dx = true;     // false where no layer below is trained
    bool trained = true;      // conv: it has gradients and an update
    Bound<ConvProblem, ConvFpropArgs> fprop;
    Bound<ConvProblem, ConvDgradArgs> dgrad;
    Bound<ConvProblem, ConvWgradArgs> wgrad;
    Bound<PoolProblem, PoolForwardArgs> pool;
    Bound<PoolProblem, PoolBackwardArgs> pool_back;
    Bound<LrnPoolProblem, LrnPoolForwardArgs> lrn_pool;           // instead of pool, and of the lrn before it
    Bound<LrnPoolProblem, LrnPoolBackwardArgs> lrn_pool_back;     // instead of pool_back and of what is below it
    ActivationProblem act;
    Bound<DropoutProblem, DropoutArgs> drop;
    Emit forward, backward;   // of layers with one operation each way, from x to y and back (plan_layer)
};

// A fully connected layer with the activation and dropout that follow it, on a shard of its units; its product on that shard too,
// or, by inputs, for all units on a shard of the inputs: those that the layer below has here.
struct HeadOp {
    const Layer* layer = nullptr;
    std::string name_fprop, name_dgrad, name_wgrad;
    std::string name_act, name_drop;  // forward
    Shard own;                   // units: activation, dropout, update of the bias
    Shard units, inputs;         // of the product: own units of all inputs, or all units of own inputs
    bool by_inputs = false;
    bool sharded = true;         // false: all units, a bucket's
    bool trained = true;         // it has a gradient and an update
    bool needs_dx = true;        // false where no layer below is trained
    int weight = -1;             // index of its parameter; the bias follows
    Place bias;                  // of the product's units; by inputs 0 but for own, so that the sum has each once
    uint32_t dropout_layer = 0;  // keys the mask
    bool has_act = false, relu = false, has_dropout = false, last = false;
    bool backward_elsewhere = false;  // the gradients of activation and dropout: the layer above's dgrad does them
    float mask_scale = 1;             // dgrad doing that for the layer below: what dropout scaled by there
    Place x;                     // the product's columns of head_rows x inputs; problems are of pass_rows of them, but wgrad where it is not per pass
    Place y;                     // head_rows x units: own columns computed, the others gathered where the next layer is by units
    Place shares;                // by inputs: head_rows x units, the product, to be summed
    Place kept;                  // output of the activation, own columns: y itself, or apart where dropout would spoil it (tanh)
    int64_t ld_kept = 0;
    Place dy;                    // gradient of the fc output, the product's units; by inputs the others' columns are gathered
    int64_t ld_dy = 0;
    Place dx;                    // rows x inputs: this shard's share of the gradient of x; by inputs own columns of the layer below's dy
    int64_t ld_dx = 0;
    Place grad, grad_bias;       // dW, db, fp32, of the product's weights and units; no dW where wgrad updates the weights itself
    Bound<GemmProblem, GemmArgs> fprop, dgrad, wgrad;  // fprop of training: with dropout, perhaps
    Bound<GemmProblem, GemmArgs> fprop_eval;           // of evaluation
    Bound<ActivationProblem, ActivationForwardArgs> act;
    Bound<ActivationProblem, ActivationBackwardArgs> act_back;
    Bound<DropoutProblem, DropoutArgs> drop, drop_back;
    std::vector<Bound<CopyProblem, CopyArgs>> gather;  // by source rank: its columns of y; by inputs, of dy
    Bound<ReduceProblem, ReduceArgs> reduce;           // own columns of the sum of everybody's gradients of y; by inputs, of y
    int64_t own_column() const { return own.first - units.first; }  // of own units among the product's
};

struct Update {
    int param;
    Place grad;  // of its own elements
};

// Parameters held whole by every worker, of layers next to each other, whose gradients are summed together: first all the
// weights, then all the biases. Each worker sums its segment, updates what lies in it, and the others copy the result.
struct Bucket {
    std::string name;             // of its layers, "conv5+conv4"
    std::vector<int> weights;     // indices of parameters, from the top layer down; each one's bias follows it
    bool head = false;            // of fully connected layers
    bool trained = true;          // false: of frozen layers, values alone
    Place grads;                  // fp32
    Place values;                 // what the layers read: weights as the matrix units have them, then fp32 biases
    int64_t weight_count = 0, count = 0;  // elements: of weights, of all
    std::vector<int64_t> at;      // where each parameter begins: of the weights, then of the biases
    size_t value_size = 4;        // bytes of a weight in `values`
    size_t value_offset(int64_t element) const {
        return element < weight_count ? element * value_size : weight_count * value_size + (element - weight_count) * 4;
    }
    std::vector<Update> updates;
    Bound<ReduceProblem, ReduceArgs> reduce;
    std::vector<Bound<CopyProblem, CopyArgs>> share;  // by source rank
    Bound<SgdProblem, SgdArgs> update;
};

// The numbers of a step's transfers (exchange.h). With one worker there are none; in scheme dp the head has none but `stats`.
struct TransferIds {
    int finished = -1, stats = -1;
    std::vector<int> labels, flat;                   // by pass
    // By layer of the head and pass: what goes up (columns of y; by inputs shares of it) and down (shares of the gradient of x; by
    // inputs columns of it). -1 where the layer that reads it needs own columns only, or is below all that is trained.
    std::vector<std::vector<int>> units, partials;
    std::vector<int> grads, values;                  // by bucket; -1 for one of frozen layers
};

struct Layout {
    explicit Layout(const WorkerConfig& config);
    Layout(const Layout&) = delete;  // ops point into config.net

    WorkerConfig config;
    MemoryPlan plan;
    std::vector<Param> params;
    std::vector<Shard> rows, columns;  // of each parameter, those that this worker holds: a block of the whole, stored row by row
    std::vector<Shard> own;   // of that block, the elements that this worker updates: each of the whole is one worker's
    struct Storage {
        Place value;  // what the layers read: held rows
        Place w, v;   // fp32 master (of biases, and in fp32, part of `value`) and momentum: own elements. No v of a frozen layer
        Place low;    // the part of `value` that the update writes besides w: own elements; null where that is w
    };
    std::vector<Storage> storage;
    std::vector<Bucket> buckets;
    std::vector<Update> updates, pass_updates;  // what is updated at the end of a step and of each pass, besides buckets

    std::vector<std::vector<RowBlock>> blocks_of;  // by rank: its samples
    const std::vector<RowBlock>& blocks() const { return blocks_of[config.rank]; }
    RowBlock block_in(int rank, int pass) const;    // count 0: none of that rank's
    Place images[2], draws[2], labels[2];  // staged input, double-buffered
    Place input, all_labels, dlogits, stats, state, workspace, staging;
    int stats_count = 1;  // whose sum is the whole batch's: of passes, or of workers
    Place flat;        // head_rows x trunk outputs: what the head reads
    Place trunk_y;     // batch x trunk outputs: this worker's rows of `flat`, or apart where those are not together
    Place trunk_dy;    // batch x trunk outputs
    std::vector<Transfer> transfers;
    TransferIds ids;
    std::vector<TrunkOp> trunk;
    std::vector<HeadOp> head;
    Bound<AugmentProblem, AugmentArgs> augment;
    Bound<SoftmaxProblem, SoftmaxArgs> softmax;
    Bound<SgdProblem, SgdArgs> update, pass_update;
    std::vector<Bound<CopyProblem, CopyArgs>> gather_flat;  // by pass * workers + source rank: its rows
    std::vector<Bound<ReduceProblem, ReduceArgs>> flat_reduce;  // by own block: everybody's shares of its gradient
    int64_t flat_cols = 0;
    int bottom = 0;  // index in the network of the lowest layer that is trained: the backward pass ends with it

    // What a worker puts on its streams, in order (step.h), and the fusions that were looked at for it.
    StepList training_steps, evaluation_steps;
    std::vector<Fusion> fusions;

    // LAYER.PASS and the variant that runs it, in the order of planning.
    std::vector<std::pair<std::string, std::string>> choices;

    bool frozen(int param) const { return !config.trains(config.net.layers[params[param].layer]); }
    bool goes_back(int layer) const { return config.training && layer > bottom; }  // from its output's gradient to its input's
    Shard segment(const Bucket& b, int rank) const;
    Place gradient_of(int param) const;  // in its bucket
    // A parameter in memory order, from every worker's own elements one after the other.
    std::vector<float> whole(int param, std::vector<float> by_worker) const;
    size_t element_size() const { return size_of(config.dtype); }
    int64_t pass_row(int pass) const { return pass * config.pass_rows(); }  // its first row in the head's buffers

private:
    void find_bottom();
    void plan_params();
    void plan_bucket(Bucket& b);
    void plan_sharded(int param);
    void plan_transfers();
    int transfer(const std::string& name);
    void plan_trunk();
    void plan_conv(TrunkOp& op, int i, int& param);
    void plan_pool(TrunkOp& op, int i);
    template <class Problem, class Forward, class Backward>
    void plan_layer(TrunkOp& op, int i, Table<Problem, Forward> forward,
                    Table<Problem, Backward> backward, const Problem& problem);
    void plan_trunk_gradients();
    void plan_head();
    void plan_head_gradients();
    void plan_wgrad(HeadOp& op, const GemmProblem& problem);
    void bind_gather(HeadOp& op, DType dtype);
    void plan_input();
    void plan_update();
    void bind_update(Bound<SgdProblem, SgdArgs>& bound, const std::vector<Update>& list);
    void check_names() const;
    ConvProblem conv_problem(const Layer& l) const;
    int input_fold();
    AugmentProblem augment_problem(const ConvProblem& first) const;
    std::optional<LrnPoolProblem> fused_pool(int i) const { return i < static_cast<int>(fused_pools_.size()) ? fused_pools_[i] : std::nullopt; }
    std::optional<LrnPoolProblem> find_fused_pool(int i);
    std::string fused_forward_name(int pool) const, fused_backward_name(int pool) const;

    size_t need_workspace_ = 0;
    std::vector<std::optional<LrnPoolProblem>> fused_pools_;  // by layer of the trunk

    // Whether `fused` is to do the work of the parts; `name` is how bin/compare calls it.
    template <class Problem, class Args, class... Parts>
    bool fuses(const std::string& name, const std::string& layer_pass, Table<Problem, Args> table, const Problem& fused, const Parts&... parts) {
        Fusion f{.fused = {name, Args::operation, text_of(fused)}, .parts = {part_of(parts)...}};
        f.taken = config.kernels.fuses(layer_pass, table, fused, config.architecture(), parts...);
        fusions.push_back(f);
        return f.taken;
    }
    template <class Problem, class Args>
    static Fusion::Part part_of(const Part<Problem, Args>& p) {
        return {p.name.empty() ? p.layer_pass : p.name, Args::operation, text_of(p.problem)};
    }
    template <class Problem, class Args>
    Bound<Problem, Args> bind(const std::string& layer_pass, Table<Problem, Args> table, const Problem& problem) {
        const auto bound = config.kernels.bind(layer_pass, table, problem, config.architecture());
        need_workspace_ = std::max(need_workspace_, bound.workspace());
        const std::pair<std::string, std::string> choice(layer_pass, bound.variant->name);
        if (std::find(choices.begin(), choices.end(), choice) == choices.end()) choices.push_back(choice);
        return bound;
    }
};

// Bytes that one worker of this configuration allocates.
size_t memory_needed(const WorkerConfig& config);

}  // namespace wt
