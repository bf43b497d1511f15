// A training step as data: the list of what one worker puts on its streams, in order. Layout plans
// it; Worker runs it (worker.cpp), bin/compare times what it launches, bin/scaling prices it,
// bin/summary --steps prints it. So there is one description of a step.
//
// A launch is an operation of kernels/operations.h with its variant, or a copy. What it reads and
// writes is found out by making its arguments once with operands that only take notes (Operands):
// the list cannot say something else than what is run.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <variant>
#include <vector>

#include <cuda_runtime.h>

#include "host/cuda/timeline.h"
#include "host/parallel/memory_plan.h"
#include "kernels/softmax/problem.h"
#include "kernels/common/step_state.h"

namespace wt {

// Subtracted from and multiplied to pixels, per channel, in 0..255 units.
struct Normalisation {
    float mean[3] = {0, 0, 0};
    float inv_std[3] = {1, 1, 1};
};

// Which part of a training step a list is. A step is one pass over the network, or, where
// WorkerConfig::accumulate batches add up to one update, that many micro-steps:
//   whole   the step is one batch: gradients, exchange, update
//   first   gradients, which begin the sums (Layout::sums); no exchange of them, no update
//   middle  gradients, which are added to the sums
//   last    gradients and sums together; exchange, update
enum class MicroStep : uint8_t { whole, first, middle, last };
constexpr MicroStep micro_step_of(int number, int of) {
    if (of == 1) return MicroStep::whole;
    return number == 0 ? MicroStep::first : number + 1 == of ? MicroStep::last : MicroStep::middle;
}

// What changes from step to step, or is set between steps.
struct StepInputs {
    int slot = 0;                   // which of the two buffers of the input (Layout::images)
    SoftmaxStats* stats = nullptr;  // host, page-locked: Layout::stats_count results go there
    Normalisation normalisation;
    float weight_decay = 0;
};

// Where a launch finds its operands.
class Operands {
public:
    virtual ~Operands() = default;
    template <class T = void>
    const T* in(BufferRef p) {
        return static_cast<const T*>(resolve(p, true, false));
    }
    template <class T = void>
    T* out(BufferRef p) {
        return static_cast<T*>(resolve(p, false, true));
    }
    template <class T = void>
    T* in_out(BufferRef p) {
        return static_cast<T*>(resolve(p, true, true));
    }
    // Page-locked memory of the host, which the launch writes.
    template <class T>
    T* to_host(T* p) {
        note_host();
        return p;
    }
    // The part of a collected transfer that `rank` has posted for this one.
    virtual const void* view(int transfer, int rank) = 0;
    virtual void* workspace() = 0;
    virtual cudaStream_t stream() = 0;
    virtual const StepInputs& inputs() = 0;

private:
    virtual void* resolve(BufferRef p, bool read, bool written) = 0;  // null for a null place
    virtual void note_host() {}
};

enum class Stage : uint8_t {
    input,
    trunk_forward,
    head_forward,
    loss,
    head_backward,
    trunk_backward,
    update
};
const char* name_of(Stage);

// wgrad, update: what --overlap puts beside the work of `compute`. input: where batches arrive from
// the host.
enum class StreamName : uint8_t { compute, exchange, wgrad, update, input };
inline constexpr int kStreams = 5;
const char* name_of(StreamName);

// The name of a launch that is no copy and has no variants.
inline constexpr const char* kSumOfRows = "loss.sum";

struct Launch {
    // LAYER.OP as --kernels names it ("conv2.wgrad"); of a copy, what is copied
    std::string name = {};
    // of the profile and the timeline; launches in a row with the same one share it
    std::string range = {};
    SpanKind span = SpanKind::compute;
    std::string operation = {};  // "conv_wgrad"; empty: a copy, or the sum of the rows' losses
    std::string problem = {};    // as text_of has it
    std::string variant = {};
    double flops = 0, bytes = 0;  // of the operation; 0, 0: a copy
    size_t workspace = 0;         // bytes that it needs of its stream's workspace
    int sms = 0;                  // it is planned for so many SMs; 0: for all
    bool to_host = false;         // it writes to the host's memory
    std::vector<BufferRef> reads = {}, writes = {};
    struct View {
        int transfer, rank;
    };
    std::vector<View> views = {};  // what it reads of other workers
    std::function<void(Operands&)> run = {};
};
struct Post {
    int transfer;
    BufferRef block;
};
struct Collect {
    int transfer;
};
// Events order the worker's own streams.
struct Events {
    // staged: the batch is there. gradient_ready: what a convolution's wgrad on its own stream
    // reads. fc_ready, fc_updated: the begin and end of the update beside the trunk. rows_ready:
    // the losses of the rows.
    static constexpr int started = 0, summed = 1, returned = 2, released = 3, joined = 4,
                         staged = 5, gradient_ready = 6, fc_ready = 7, fc_updated = 8,
                         rows_ready = 9;
    // A gradient's buffer (Layout::trunk_gradients) is read by no wgrad any more.
    static constexpr int gradient_read(int buffer) { return 10 + buffer; }
    static constexpr int kGradientBuffers = 4;
    static constexpr int gathered(int microbatch) { return 10 + kGradientBuffers + microbatch; }
    static constexpr int count(int microbatches) { return gathered(microbatches); }
};
struct Record {
    int event;
};
struct Await {
    int event;
    const char* what;  // and `number`: which wait it is (waits.h)
    int number = 0;
};

struct Step {
    Stage stage;
    int microbatch;  // of the head: 0 elsewhere
    StreamName stream;
    std::variant<Launch, Post, Collect, Record, Await> action;
};

using StepList = std::vector<Step>;

// An operation that could do the work of several, where the planner has looked at that. bin/compare
// times both.
struct Fusion {
    struct Part {
        std::string name, operation, problem;
    };
    Part fused;
    std::vector<Part> parts;
};

}  // namespace wt
