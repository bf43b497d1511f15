// What one worker is to do: the network, its part of the job, and how the fully connected layers
// are spread over the workers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "host/cuda/device.h"
#include "host/net/kernel_settings.h"
#include "host/net/spec.h"
#include "host/parallel/overlap.h"

namespace wt {

// Virtual GPUs have no launch latency that a graph could save.
inline constexpr bool kGraphByDefault = !kAutomaticUsesBaselines;

// How the fully connected layers get their batches: "One weird trick" (arXiv 1404.5997), section 4,
// for K workers with b samples each.
//   a   every worker gathers everybody's samples: one microbatch of K b of them
//   b   K microbatches; in each one worker's b samples go to all
//   c   K microbatches; in each every worker sends b / K of its samples to all
//   dp  for comparison, plain data parallelism: these layers too are replicated, and their
//       gradients summed
// All microbatches of b and c have b samples. What the next one needs is sent while one is
// computed.
enum class FcScheme { a, b, c, dp };
const char* name_of(FcScheme);

// How the workers share a fully connected layer. Its activation, dropout and biases are always
// split by output units.
//   columns    column-parallel: each worker has some of the output units. They are gathered from
//              all before the next layer reads them, and the partial sums of their gradient are
//              added up
//   alternate  the first layer is column-parallel, the layers above are row-parallel: a worker
//              multiplies with the columns of the layer below that it has, so that nothing is
//              gathered between the first two. The products are partial sums that are added up;
//              the gradient is gathered. Every worker sums the last layer's whole
enum class FcSplit { columns, alternate };

struct WorkerConfig {
    NetSpec net;
    int rank = 0, workers = 1, device = 0;
    int sm = -1;      // architecture to plan for (device_sm); -1: the device's
    int batch = 128;  // samples of this worker
    DType dtype = DType::f32;
    bool tf32 = false;  // fp32 operands of products may be rounded to it
    KernelSettings kernels;
    int image_h = 256, image_w = 256, image_c = 3;  // of stored images
    bool training = true;                           // false: forward only, no gradients
    bool graph = kGraphByDefault;                   // launch captured graphs (graph_segments.h)
    OverlapChoice overlap = {};                     // which parts of a step run beside others
    bool keep_gradients = false;  // of all weights, for Worker::get_gradient: no update in wgrad
    FcScheme scheme = FcScheme::a;
    FcSplit split = FcSplit::columns;
    // The paper's variable batch size: the fully connected layers are updated after every
    // microbatch, by the mean gradient over its samples. Otherwise the microbatches add up to one
    // update.
    bool per_microbatch = false;
    // Of the head; 0: as the scheme has it. One worker with several is the tests' reference.
    int microbatches = 0;
    // Batches whose gradients add up to one update: as many passes over the network, the
    // micro-steps of a step (MicroStep, step.h).
    int accumulate = 1;
    float label_smoothing = 0;                 // of training (kernels/softmax/problem.h)
    float conv_lr_scale = 1, fc_lr_scale = 1;  // times the rate of the step
    size_t bucket_bytes = 2 << 20;  // gradients summed together; less is not worth a transfer
    bool packed = false;            // Exchange::packed
    // Names of layers that keep their weights: these have no gradient, momentum, update or
    // exchange, and the backward pass ends at the lowest layer that is not among them.
    std::vector<std::string> frozen;

    int architecture() const { return sm >= 0 ? sm : device_sm(device); }
    bool trains(const Layer& layer) const;  // the layer has weights, which are updated
    int64_t rows() const { return int64_t(batch) * workers; }  // of the whole batch
    // Workers that share a fully connected layer.
    int head_workers() const { return scheme == FcScheme::dp ? 1 : workers; }
    // Samples that this worker's head sees in a step, and the first of them in the whole batch.
    int64_t head_rows() const { return int64_t(batch) * head_workers(); }
    int64_t head_row0() const { return scheme == FcScheme::dp ? int64_t(batch) * rank : 0; }
    int microbatch_count() const {
        if (microbatches) return microbatches;
        return scheme == FcScheme::b || scheme == FcScheme::c ? workers : 1;
    }
    int64_t microbatch_rows() const { return head_rows() / microbatch_count(); }
    bool row_parallel(int layer) const {  // `layer`: a fully connected one
        return split == FcSplit::alternate && head_workers() > 1 && layer > net.first_fc();
    }
};

// Consecutive samples of one worker that go through the head together.
struct RowBlock {
    int microbatch = 0;
    int64_t local = 0;  // the first among its worker's
    int64_t row = 0;    // the first among those of the head
    int64_t count = 0;
};
// A worker's samples: one block with a and b, one a microbatch with c. Throws UsageError where a
// microbatch would have no sample of the worker.
std::vector<RowBlock> row_blocks(const WorkerConfig& config, int rank);
// For each of a worker's samples, its index in the whole batch.
std::vector<int> batch_rows(const WorkerConfig& config, int rank);

}  // namespace wt
