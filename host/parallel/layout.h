// What one worker runs and where it lies: every operation of a step bound to its variant, every buffer
// with its size, worked out before anything is allocated. A pure function of the configuration, so the
// same code answers "which batch would fit".
//
// The trunk (convolutional part) works on this worker's `batch` samples with whole layers; the head (fully
// connected part) works on all `batch * workers` samples with this worker's shard of each layer's units.
//
// layout.cpp plans parameters, input and update, layout_trunk.cpp and layout_head.cpp the two parts.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "host/cuda/device.h"
#include "host/net/kernel_settings.h"
#include "host/net/params.h"
#include "host/net/spec.h"
#include "kernels/activation/problem.h"
#include "kernels/augment/problem.h"
#include "kernels/conv/problem.h"
#include "kernels/dropout/problem.h"
#include "kernels/exchange/problem.h"
#include "kernels/gemm/problem.h"
#include "kernels/lrn/problem.h"
#include "kernels/lrn_pool/problem.h"
#include "kernels/pool/problem.h"
#include "kernels/sgd/problem.h"
#include "kernels/softmax/problem.h"

namespace wt {

// On virtual GPUs there is no launch latency to save.
inline constexpr bool kGraphByDefault = !kAutomaticUsesBaselines;

struct WorkerConfig {
    NetSpec net;
    int rank = 0, workers = 1, device = 0;
    int batch = 128;  // of this worker
    DType dtype = DType::f32;
    bool tf32 = false;  // fp32 operands of products may be rounded to it
    KernelSettings kernels;
    int image_h = 256, image_w = 256, image_c = 3;  // of stored images
    bool training = true;                           // false: forward only, no gradients
    bool graph = kGraphByDefault;                   // replay captured graphs (replay.h)
    bool keep_gradients = false;                    // of all weights, for Worker::get_gradient: no update in wgrad

    int64_t rows() const { return int64_t(batch) * workers; }  // the whole batch
    int64_t row0() const { return int64_t(batch) * rank; }     // this worker's first sample in it
};

// A place in a planned buffer.
struct Place {
    int buffer = -1;
    size_t offset = 0;  // bytes
    explicit operator bool() const { return buffer >= 0; }
    Place plus(size_t bytes) const { return {buffer, offset + bytes}; }
};

enum class Use { weights, activations, gradients, workspace, input };

class MemoryPlan {
public:
    struct Entry {
        std::string what;
        Use use;
        size_t bytes;
    };
    Place add(std::string what, Use use, size_t bytes) {
        entries_.push_back({std::move(what), use, bytes});
        return {static_cast<int>(entries_.size()) - 1, 0};
    }
    const std::vector<Entry>& entries() const { return entries_; }
    size_t total() const;
    std::string text() const;  // "weights 712.0 MiB, activations 1.20 GiB, ..."

private:
    std::vector<Entry> entries_;
};

// A layer of the trunk. Activation and dropout work in place where they can (y is x). What another layer's operation does
// along with its own work is not bound; its problem is there all the same.
struct TrunkOp {
    const Layer* layer = nullptr;
    std::string name_forward, name_dgrad, name_wgrad;  // ranges: "conv2.fprop", "norm1.forward"
    Place x, y, dx, dy, argmax;
    int weight = -1;          // conv: index of its parameter; the bias follows
    Place grad, grad_bias;    // conv: dW, and db right behind it, fp32: this worker's; fused pool: the convolution's db
    Place grad_sum;           // both, summed over the workers
    uint32_t dropout_layer = 0;  // keys the mask
    bool forward_elsewhere = false, backward_elsewhere = false;  // nothing to run: another layer's operation does it
    bool needs_dx = true;     // false for the first convolution
    Bound<ConvProblem, ConvFpropArgs> fprop;
    Bound<ConvProblem, ConvDgradArgs> dgrad;
    Bound<ConvProblem, ConvWgradArgs> wgrad;
    Bound<LrnProblem, LrnForwardArgs> lrn;
    Bound<LrnProblem, LrnBackwardArgs> lrn_back;
    Bound<PoolProblem, PoolForwardArgs> pool;
    Bound<PoolProblem, PoolBackwardArgs> pool_back;
    Bound<LrnPoolProblem, LrnPoolForwardArgs> lrn_pool;           // instead of pool, and of the lrn before it
    Bound<LrnPoolProblem, LrnPoolBackwardArgs> lrn_pool_back;     // instead of pool_back and of what is below it
    Bound<ActivationProblem, ActivationForwardArgs> act;
    Bound<ActivationProblem, ActivationBackwardArgs> act_back;
    Bound<DropoutProblem, DropoutArgs> drop;
    Bound<ReduceProblem, ReduceArgs> reduce;
};

// A fully connected layer with the activation and dropout that follow it, on a shard of its units.
struct HeadOp {
    const Layer* layer = nullptr;
    std::string name_fprop, name_dgrad, name_wgrad;
    Shard shard;                 // of the units
    int weight = -1;             // index of its parameter; the bias follows
    uint32_t dropout_layer = 0;  // keys the mask
    bool has_act = false, relu_fused = false, has_dropout = false, last = false;
    bool backward_elsewhere = false;  // the gradients of activation and dropout: the layer above's dgrad does them
    float mask_scale = 1;             // dgrad doing that for the layer below: what dropout scaled by there
    Place x;                     // rows x inputs, whole
    Place y;                     // rows x units, whole: own columns computed, the others gathered
    Place kept;                  // output of the activation, own columns: y itself, or apart where dropout would spoil it (tanh)
    int64_t ld_kept = 0;
    Place dy;                    // gradient of the fc output, own columns
    int64_t ld_dy = 0;
    Place partial;               // rows x inputs: this shard's share of the gradient of x
    Place grad, grad_bias;       // dW, db, fp32, own rows; no dW where wgrad updates the weights itself
    Bound<GemmProblem, GemmArgs> fprop, dgrad, wgrad;  // fprop of training: with dropout, perhaps
    Bound<GemmProblem, GemmArgs> fprop_eval;           // of evaluation
    Bound<ActivationProblem, ActivationForwardArgs> act;
    Bound<ActivationProblem, ActivationBackwardArgs> act_back;
    Bound<DropoutProblem, DropoutArgs> drop, drop_back;
    std::vector<Bound<CopyProblem, CopyArgs>> gather;  // by source rank: its columns of y
    Bound<ReduceProblem, ReduceArgs> reduce;           // partial sums to the layer below, its own part
};

struct Layout {
    explicit Layout(const WorkerConfig& config);
    Layout(const Layout&) = delete;  // ops point into config.net

    WorkerConfig config;
    MemoryPlan plan;
    std::vector<Param> params;
    std::vector<Shard> rows;  // of each parameter, this worker's
    struct Storage {
        Place w, v, low;  // fp32 value, momentum, bf16 copy
    };
    std::vector<Storage> storage;
    int64_t own_count(int param) const { return rows[param].count * params[param].row; }  // elements
    struct Update {
        int param;
        Place grad;
    };
    std::vector<Update> updates;  // what the update changes, and by which gradients

    Place images[2], draws[2], labels[2];  // staged input, double-buffered
    Place input, all_labels, dlogits, stats, state, workspace;
    Place flat;        // rows x trunk outputs: what the head reads
    Place trunk_dy;    // batch x trunk outputs
    std::vector<TrunkOp> trunk;
    std::vector<HeadOp> head;
    Bound<AugmentProblem, AugmentArgs> augment;
    Bound<SoftmaxProblem, SoftmaxArgs> softmax;
    Bound<SgdProblem, SgdArgs> update;
    Bound<CopyProblem, CopyArgs> gather_flat;     // a replica's rows of `flat`
    Bound<ReduceProblem, ReduceArgs> flat_reduce;  // partial sums to a replica's rows
    int64_t flat_cols = 0;

    // LAYER.PASS and the variant that runs it, in the order of planning.
    std::vector<std::pair<std::string, std::string>> choices;

private:
    void plan_params();
    void plan_trunk();
    void plan_conv(TrunkOp& op, int i, int& param);
    void plan_pool(TrunkOp& op, int i);
    void plan_trunk_gradients();
    void plan_head();
    void plan_head_gradients();
    void plan_input();
    void plan_update();
    void check_names() const;
    ConvProblem conv_problem(const Layer& l) const;
    int input_fold() const;
    AugmentProblem augment_problem(const ConvProblem& first) const;
    std::optional<LrnPoolProblem> fused_pool(int i) const;
    std::string fused_forward_name(int pool) const, fused_backward_name(int pool) const;

    size_t need_workspace_ = 0;
    template <class Problem, class Args>
    Bound<Problem, Args> bind(const std::string& layer_pass, Table<Problem, Args> table, const Problem& problem) {
        const auto bound = config.kernels.bind(layer_pass, table, problem, device_sm(config.device));
        need_workspace_ = std::max(need_workspace_, bound.workspace());
        choices.emplace_back(layer_pass, bound.variant->name);
        return bound;
    }
};

// Bytes that one worker of this configuration allocates.
size_t memory_needed(const WorkerConfig& config);

}  // namespace wt
