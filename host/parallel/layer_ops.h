// What one layer runs, forward and backward, on which buffers: a layer of the trunk, and a fully
// connected layer of the head with the activation and dropout that follow it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "host/net/kernel_settings.h"
#include "host/net/params.h"
#include "host/net/spec.h"
#include "host/parallel/memory_plan.h"
#include "kernels/activation/problem.h"
#include "kernels/conv/problem.h"
#include "kernels/conv_pool/problem.h"
#include "kernels/dropout/problem.h"
#include "kernels/exchange/problem.h"
#include "kernels/gemm/problem.h"
#include "kernels/lrn_pool/problem.h"
#include "kernels/pool/problem.h"

namespace wt {

class StepPlanner;

// A layer of the trunk. Activation and dropout work in place where they can (y is x). If a fused
// kernel of another layer does an operation, its Bound::variant is null but `problem` is filled in.
struct TrunkOp {
    // Puts the layer's operation on the list of a step.
    using Emit = std::function<void(StepPlanner&, const std::string& name, const TrunkOp&)>;

    const Layer* layer = nullptr;
    std::string name_forward, name_dgrad, name_wgrad;  // ranges: "conv2.fprop", "norm1.forward"
    BufferRef x, y, dx, dy, argmax;
    int weight = -1;             // conv: index of its parameter; the bias follows
    int conv_weight = -1;        // pool that does the convolution below it: the index of its weight
    BufferRef grad, grad_bias;   // conv: dW, db, fp32; fused pool: the convolution's db
    uint32_t dropout_layer = 0;  // keys the mask
    // Another layer's operation does this one's work, so there is nothing to run.
    bool fused_away_forward = false, fused_away_backward = false;
    bool needs_dx = true;       // false where no layer below is trained
    bool trained = true;        // conv: it has gradients and an update
    bool wgrad_beside = false;  // conv: its wgrad is on a stream of its own
    Bound<ConvProblem, ConvFpropArgs> fprop;
    Bound<ConvProblem, ConvDgradArgs> dgrad;
    Bound<ConvProblem, ConvWgradArgs> wgrad;
    Bound<PoolProblem, PoolForwardArgs> pool;
    Bound<PoolProblem, PoolBackwardArgs> pool_back;
    // These run instead of pool and the lrn before it, of pool and the convolution with ReLU before
    // it, and of pool_back and what is below it.
    Bound<LrnPoolProblem, LrnPoolForwardArgs> lrn_pool;
    Bound<ConvPoolProblem, ConvPoolForwardArgs> conv_pool;
    Bound<LrnPoolProblem, LrnPoolBackwardArgs> lrn_pool_back;
    ActivationProblem act;
    Bound<DropoutProblem, DropoutArgs> drop;
    // Of layers with one operation each way, from x to y and back (Layout::plan_layer).
    Emit forward, backward;
};

// A fully connected layer with the activation and dropout that follow it, which are always split by
// output units. The product is split either by output units too (column-parallel), or,
// row-parallel, by inputs: each worker multiplies the inputs that the layer below has on it, for
// all units, and the products are partial sums.
struct HeadOp {
    const Layer* layer = nullptr;
    std::string name_fprop, name_dgrad, name_wgrad;
    std::string name_act, name_drop;  // forward
    Shard own;                        // units: of activation, dropout, update of the bias
    // Of the product. Column-parallel: own units, all inputs; row-parallel: all units, own inputs.
    Shard units, inputs;
    bool row_parallel = false;
    bool sharded = true;   // false: all units are here, and the parameters lie in a bucket
    bool trained = true;   // it has a gradient and an update
    bool needs_dx = true;  // false where no layer below is trained
    int weight = -1;       // index of its parameter; the bias follows
    // Biases of the product's units. Row-parallel, those of other workers are 0, so that the sum
    // over the workers has each bias once.
    BufferRef bias;
    uint32_t dropout_layer = 0;  // keys the mask
    bool has_act = false, relu = false, has_dropout = false, last = false;
    bool update_beside = false;  // wgrad, with its update, is beside the trunk's backward pass
    // The layer above's dgrad computes the gradients of activation and dropout.
    bool fused_away_backward = false;
    float mask_scale = 1;  // where dgrad does that for the layer below: the scale of its dropout
    // The product's columns of head_rows x inputs. Problems are of microbatch_rows of them; wgrad's
    // of all, unless it is per microbatch.
    BufferRef x;
    // head_rows x units. Own columns are computed, the others gathered where the next layer is
    // column-parallel.
    BufferRef y;
    BufferRef partial_sums;  // row-parallel: head_rows x units, the product, to be summed
    // The activation's output, own columns. It is y itself, unless tanh is followed by dropout: the
    // gradient of tanh needs its output before dropout.
    BufferRef act_y;
    int64_t ld_act_y = 0;
    // Gradient of the product's output, in its units; row-parallel, the others' columns are
    // gathered.
    BufferRef dy;
    int64_t ld_dy = 0;
    // rows x inputs: this shard's partial sum of the gradient of x; row-parallel, own columns of
    // the layer below's dy.
    BufferRef dx;
    int64_t ld_dx = 0;
    // dW, db, fp32, of the product's weights and units. No dW where wgrad updates the weights
    // itself.
    BufferRef grad, grad_bias;
    Bound<GemmProblem, GemmArgs> fprop, dgrad, wgrad;  // fprop of training may do the dropout too
    Bound<GemmProblem, GemmArgs> fprop_eval;           // of evaluation
    Bound<ActivationProblem, ActivationForwardArgs> act;
    Bound<ActivationProblem, ActivationBackwardArgs> act_back;
    Bound<DropoutProblem, DropoutArgs> drop, drop_back;
    // By source rank: its columns of y; row-parallel, of dy.
    std::vector<Bound<CopyProblem, CopyArgs>> gather;
    // Own columns of the sum of everybody's gradients of y; row-parallel, of y.
    Bound<ReduceProblem, ReduceArgs> reduce;
    // The first own unit's column in the product.
    int64_t own_column() const { return own.first - units.first; }
};

}  // namespace wt
