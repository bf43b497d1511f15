// Makes the list of a step's actions from what Layout has planned ("One weird trick", arXiv
// 1404.5997, section 4; the schemes are FcScheme's, config.h):
//
//   trunk forward on own samples
//   for each microbatch of the head: gather its rows (those of the next one behind this one's work)
//     -> forward, gathering each layer's columns -> softmax -> backward: partial gradients of each
//     layer's input summed into their owner's columns, at the bottom into each replica's rows. The
//     layers' own gradients, with the update, in every microbatch or once in the last.
//     (Row-parallel layers: the sums in the forward pass, the gathering in the backward pass.
//     FcSplit.)
//   trunk backward; behind it, on the exchange stream and bucket by bucket, each worker sums its
//     segment of the gradients, updates what lies in it, and copies what the others have updated
//   update of the fully connected shard
//
// Of the micro-steps that add up to one update (MicroStep) only the last sums over the workers and
// updates; the others add their gradients up where they are.
//
// steps.cpp has the order, steps_trunk.cpp, steps_head.cpp and steps_buckets.cpp its parts.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "host/net/problem_text.h"
#include "host/parallel/layout.h"

namespace wt {

struct MemoryCopy {
    void* to;
    const void* from;
    size_t row_bytes, rows = 1, to_pitch = 0, from_pitch = 0;
    void run(cudaStream_t stream) const;
};

// Writes down what a launch asks for.
class OperandNotes : public Operands {
public:
    explicit OperandNotes(Launch& launch) : launch_(launch) {}
    const void* view(int transfer, int rank) override {
        launch_.views.push_back({transfer, rank});
        return nullptr;
    }
    void* workspace() override { return nullptr; }
    cudaStream_t stream() override { return nullptr; }
    const StepInputs& inputs() override { return nothing_; }

private:
    void* resolve(BufferRef p, bool read, bool written) override {
        if (p && read) launch_.reads.push_back(p);
        if (p && written) launch_.writes.push_back(p);
        return nullptr;
    }
    void note_host() override { launch_.to_host = true; }
    Launch& launch_;
    StepInputs nothing_;
};

class StepPlanner {
public:
    explicit StepPlanner(const Layout& layout);  // of an evaluation
    StepPlanner(const Layout& layout, MicroStep part);
    StepList plan();

    // A layer's operation, one way: forward from x to y, backward from dy, and x or y, to dx.
    template <class Problem, class Args>
    void layer(const std::string& name, const Bound<Problem, Args>& bound, const TrunkOp& op) {
        launch(name, bound, [&op](Operands& o) {
            Args a{};
            if constexpr (requires { a.dy; }) {
                if constexpr (requires { a.x; }) a.x = o.in(op.x);
                if constexpr (requires { a.y; }) a.y = o.in(op.y);
                a.dy = o.in(op.dy);
                a.dx = o.out(op.dx);
            } else {
                a.x = o.in(op.x);
                a.y = o.out(op.y);
            }
            return a;
        });
    }

private:
    // ---- steps.cpp
    void take_input();
    void augment();
    void read_stats();
    bool stats_to_host() const { return workers_ == 1 || shared_; }
    void update(const Bound<SgdProblem, SgdArgs>& sgd, const std::vector<Update>& list);
    bool updates() const { return part_ == MicroStep::whole || part_ == MicroStep::last; }
    BufferRef gradient(BufferRef of) const;
    void add_up(BufferRef gradients);
    void add_up_buckets();

    // ---- steps_trunk.cpp
    void trunk_forward();
    void trunk_layer_forward(const TrunkOp& op);
    void trunk_dropout(const TrunkOp& op, BufferRef from, BufferRef to);
    void trunk_backward();
    void conv_dgrad(const TrunkOp& op);
    void conv_wgrad(const TrunkOp& op);
    void trunk_layer_backward(const TrunkOp& op);
    void begin_beside(const TrunkOp& op);
    int buffer_of(BufferRef gradient) const;  // index in Layout::trunk_gradients
    void before_writing(BufferRef gradient);
    void join_wgrads();

    // ---- steps_head.cpp
    void post_rows();
    void gather_rows(int microbatch);
    void head_forward();
    void gather_columns(const HeadOp& op, int transfer, BufferRef to, size_t size);
    void finish_units(const HeadOp& op, int transfer);
    void fc_forward(const HeadOp& op);
    void activate(const HeadOp& op);
    void loss();
    void sum_rows(BufferRef results, int entry);
    void gather_stats();
    void head_backward();
    void fc_dgrad(int i);
    void activate_backward(const HeadOp& op);
    void fc_wgrad(const HeadOp& op);
    void update_beside();
    void pass_down(int i);

    // ---- steps_buckets.cpp
    void bucket_ready(int param);
    void bucket_free(bool at_once);
    void finish_buckets();

    // ---- putting an action on the list
    void put(std::variant<Launch, Post, Collect, Record, Await> action) {
        steps_.push_back({.stage = stage_,
                          .microbatch = microbatch_,
                          .stream = stream_,
                          .action = std::move(action)});
    }
    void emit(Launch l);  // in the range at hand
    // `arguments`: (Operands&) -> Args, all but workspace and stream.
    template <class Problem, class Args, class F>
    void launch(const std::string& name, const Bound<Problem, Args>& bound, F arguments) {
        Launch l{.name = name,
                 .operation = Args::operation,
                 .problem = text_of(bound.problem),
                 .variant = bound.variant->name};
        if constexpr (requires { bound.problem.flops(); }) l.flops = bound.problem.flops();
        l.bytes = bytes_of<Args>(bound.problem);
        l.workspace = bound.workspace();
        l.sms = bound.sms;
        OperandNotes notes(l);
        (void)arguments(notes);
        l.run = [bound, arguments](Operands& o) mutable {
            Args a = arguments(o);
            if constexpr (requires { a.workspace; })
                if (!a.workspace) a.workspace = o.workspace();
            a.stream = o.stream();
            bound(a);
        };
        emit(std::move(l));
    }
    // Rows of bytes, copied by the device. `arguments`: (Operands&) -> MemoryCopy.
    template <class F>
    void copy(const std::string& name, F arguments) {
        Launch l{.name = name};
        OperandNotes notes(l);
        const MemoryCopy c = arguments(notes);
        l.bytes = 2.0 * static_cast<double>(c.rows * c.row_bytes);
        l.run = [arguments](Operands& o) mutable { arguments(o).run(o.stream()); };
        emit(std::move(l));
    }

    // what the matrix units read
    BufferRef weight(int param) const { return layout_.storage[param].value; }
    // Where the rows of this microbatch, or of another, begin in a matrix with `ld` elements of
    // `size` bytes a row.
    BufferRef rows(BufferRef p, int64_t ld, size_t size) const {
        return rows(p, ld, size, microbatch_);
    }
    BufferRef rows(BufferRef p, int64_t ld, size_t size, int microbatch) const {
        return p.plus(layout_.first_row(microbatch) * ld * size);
    }

    const Layout& layout_;
    const WorkerConfig& config_;
    const bool training_, shared_;  // shared: several workers share the head
    const MicroStep part_;          // of training
    const int rank_, workers_;
    StepList steps_;
    Stage stage_ = Stage::input;
    int microbatch_ = 0;
    StreamName stream_ = StreamName::compute;
    std::string range_;
    SpanKind span_ = SpanKind::compute;
    // Buffers of gradients (Layout::trunk_gradients) that wgrads on their own stream may still
    // read, and these wgrads' weights, from the first on.
    struct Reading {
        int buffer, weight;
    };
    std::vector<Reading> reading_;
    std::vector<const HeadOp*> beside_;  // whose update is to go beside the trunk
    bool updating_beside_ = false;
    std::vector<int> posted_;  // buckets whose gradients are posted
    struct Free {
        int bucket;
        bool at_once;
    };
    std::vector<Free>
        free_;  // buckets that may be updated too; at once, or when Events::released is done
};

}  // namespace wt
