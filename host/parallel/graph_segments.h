// A step as captured graphs: its launches cost the host one call, and the device starts each kernel
// without asking.
//
// A step is cut into segments (step_segments.h), and each is one graph. With one worker the whole
// step behind the arrival of its batch is one segment, in which streams fork and join (overlap.h).
// With several a segment ends at each event between workers (a post or a collect); these are
// ordinary events between the graphs (exchange_peer.h). Why not events inside:
//   * Two workers wait for each other in every step. A wait inside a graph (cudaEventWaitExternal)
//   is for what the event's
//     last record was when the graph is launched, so each worker's graph would have to be launched
//     after the other's. A step cannot be one graph a worker.
//   * A flag in memory that a kernel of one graph sets and one of the other spins on needs no order
//   of launches, but CUDA does
//     not know of it: both workers of a GPU may share a hardware queue, and then the one that waits
//     keeps out the one it waits for.
//   * A record inside a graph (cudaEventRecordExternal), with ordinary waits submitted after its
//   launch, would let a segment
//     run on behind a post, and join some segments of the backward pass. Not done: it is sound only
//     if such a wait sees this launch's record and never the one before, which no GPU has shown us
//     yet.
//
// Input comes from another place of the host's memory at each step, so copying it is not in the
// graph: it goes ahead on a stream of its own into one of two buffers, while the step before still
// runs. There is a set of graphs for each of the buffers. All else that changes from step to step
// comes with the input, in the same slot (StepState).
#pragma once

#include <vector>

#include "host/cuda/stream.h"

namespace wt {

// An evaluation, and the parts of a training step (MicroStep).
inline constexpr int kStepKinds = 5;

class GraphSegments {
public:
    explicit GraphSegments(bool on) : on_(on) {}

    // A step begins whose segments come in the same order as in others of its kind and slot. The
    // first step of a kind runs as it is: libraries make handles and plans, and allocate, which a
    // capture forbids. An eager step runs as it is too.
    void begin(int kind, int slot, bool eager = false) {
        eager_ = !on_ || !warm_[kind] || eager;
        warm_[kind] = true;
        graphs_ = &of_kind_[kind][slot];
        next_ = 0;
    }

    // Puts `work` on the stream: as it is, or as the graph that it was captured to. A segment in a
    // segment is part of it.
    template <class F>
    void run(const Stream& stream, F&& work) {
        if (eager_ || capturing_) return work();
        if (next_ == graphs_->size()) {
            const Capturing guard(capturing_);
            graphs_->emplace_back(stream, work);
        }
        (*graphs_)[next_++].launch(stream);
    }

    // What was captured does not hold any more.
    void forget() {
        for (auto& slots : of_kind_)
            for (auto& graphs : slots) graphs.clear();
    }

private:
    struct Capturing {
        bool& flag;
        explicit Capturing(bool& f) : flag(f) { flag = true; }
        ~Capturing() { flag = false; }
    };
    bool on_, eager_ = true, capturing_ = false;
    bool warm_[kStepKinds] = {};
    std::vector<Graph> of_kind_[kStepKinds][2];  // by kind and slot
    std::vector<Graph>* graphs_ = nullptr;
    size_t next_ = 0;
};

}  // namespace wt
