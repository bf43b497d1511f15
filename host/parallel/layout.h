// What one worker runs and where it lies: every operation of a step bound to its variant, every buffer
// with its size, worked out before anything is allocated. A pure function of the configuration, so the
// same code answers "which batch would fit".
//
// The trunk (convolutional part) works on this worker's `batch` samples with whole layers; the head (fully
// connected part) works on all `batch * workers` samples with this worker's shard of each layer's units.
#pragma once

#include <string>
#include <vector>

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
#include "kernels/pool/problem.h"
#include "kernels/sgd/problem.h"
#include "kernels/softmax/problem.h"

namespace wt {

struct WorkerConfig {
    NetSpec net;
    int rank = 0, workers = 1, device = 0;
    int batch = 128;  // of this worker
    DType dtype = DType::f32;
    KernelSettings kernels;
    int image_h = 256, image_w = 256, image_c = 3;  // of stored images
    bool training = true;                           // false: forward only, no gradients

    int64_t rows() const { return int64_t(batch) * workers; }  // the whole batch
    int64_t row0() const { return int64_t(batch) * rank; }     // this worker's first sample in it
};

// A place in a planned buffer.
struct Place {
    int buffer = -1;
    size_t offset = 0;  // bytes
    explicit operator bool() const { return buffer >= 0; }
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

// A layer of the trunk. Activation and dropout work in place where they can (y is x).
struct TrunkOp {
    const Layer* layer = nullptr;
    std::string name_forward, name_dgrad, name_wgrad;  // ranges: "conv2.fprop", "norm1.forward"
    Place x, y, dx, dy, argmax;
    int weight = -1;          // conv: index of its parameter; the bias follows
    Place grad, grad_sum;     // conv: dW then db, fp32: this worker's, and summed over the workers
    int64_t grad_count = 0;
    bool relu_fused = false;  // conv: the ReLU after it is in its epilogue; activation: nothing to run forward
    bool needs_dx = true;     // false for the first convolution
    Bound<ConvProblem, ConvFpropArgs> fprop;
    Bound<ConvProblem, ConvDgradArgs> dgrad;
    Bound<ConvProblem, ConvWgradArgs> wgrad;
    Bound<LrnProblem, LrnForwardArgs> lrn;
    Bound<LrnProblem, LrnBackwardArgs> lrn_back;
    Bound<PoolProblem, PoolForwardArgs> pool;
    Bound<PoolProblem, PoolBackwardArgs> pool_back;
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
    Place x;                     // rows x inputs, whole
    Place y;                     // rows x units, whole: own columns computed, the others gathered
    Place kept;                  // output of the activation, own columns: y itself, or apart where dropout would spoil it (tanh)
    int64_t ld_kept = 0;
    Place dy;                    // gradient of the fc output, own columns
    int64_t ld_dy = 0;
    Place partial;               // rows x inputs: this shard's share of the gradient of x
    Place grad;                  // dW then db, fp32, own rows
    int64_t grad_count = 0;
    Bound<GemmProblem, GemmArgs> fprop, dgrad, wgrad;
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

    Place images[2], draws[2], labels[2];  // staged input, double-buffered
    Place input, all_labels, dlogits, stats, state, workspace;
    Place flat;        // rows x trunk outputs: what the head reads
    Place trunk_dy;    // batch x trunk outputs
    std::vector<TrunkOp> trunk;
    std::vector<HeadOp> head;
    Bound<AugmentProblem, AugmentArgs> augment;
    Bound<SoftmaxProblem, SoftmaxArgs> softmax;
    Bound<CopyProblem, CopyArgs> gather_flat;     // a replica's rows of `flat`
    Bound<ReduceProblem, ReduceArgs> flat_reduce;  // partial sums to a replica's rows
    int64_t flat_cols = 0;

private:
    void plan_params();
    void plan_trunk();
    void plan_head();
    void plan_input();
    size_t need_workspace_ = 0;
    template <class B>
    void claim(const B& bound) { need_workspace_ = std::max(need_workspace_, bound.workspace()); }
};

// Bytes that one worker of this configuration allocates.
size_t memory_needed(const WorkerConfig& config);

}  // namespace wt
