// The clock of the virtual GPUs: when an operation would begin and end if devices and streams
// really ran side by side.
//
// The dispatcher runs one operation at a time. Virtual time puts them where hardware would, by
// these rules:
//   * An operation takes the time that it was measured to take (its busy time): wall time, or with
//     VGPU_THREADS=1 the dispatcher's CPU time, which other programs on the machine hardly disturb.
//   * It can begin when all that it comes after is over: the operation before it in its stream, the
//     events that the stream has waited for, the nodes before it in its graph, what the default
//     stream's rule asks for, and all that the thread that submitted it had waited for by then
//     (cudaStreamSynchronize and the like).
//   * It has an engine to itself, and an engine takes up operations in the order in which they
//     could begin. Each device has four: kernels (memsets and copies inside the device too), copies
//     from the host, copies to the host, and copies from other devices, which are the
//     destination's. Host functions, records and waits need no engine. With
//     VGPU_KERNELS_AT_ONCE=N the first engine takes up to N operations, of different streams, at a
//     time, each as long as it takes alone: what streams side by side could gain at the most. On a
//     GPU, kernels that share its SMs and its memory slow each other down.
//   * The host takes no time. What one thread learns from another (a flag, a lock) is not followed.
// There is one clock for all devices, so times of two of them compare.
//
// Which order the dispatcher ran the operations in (VGPU_SEED) does not matter: an operation is
// placed when a time is asked for, among all that have been run by then. Placed ones stay where
// they are; an engine goes on behind them.
//
// Busy times are those of a machine whose cores a kernel has for itself, one operation after
// another. That two devices do as well side by side is what virtual time assumes, not what it
// measures: two virtual GPUs share cores and memory.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace vgpu {

// When something is over. Null: from the beginning.
struct Moment {
    int64_t ns = -1;    // known (not negative) once it is placed
    uint32_t task = 0;  // until then: of the clock
};
using When = std::shared_ptr<Moment>;

class Clock {
public:
    enum Engine { kernels, from_host, to_host, from_devices, engines };
    static constexpr int kNone = -1;
    static int engine(int device, Engine e) { return device * engines + e; }

    // `busy` nanoseconds of the engine, after all of `after`. `order` decides between operations
    // that could begin at the same nanosecond; no two operations have the same.
    When add(std::span<const When> after, int engine, int64_t busy, uint64_t order);
    When join(const When& a, const When& b);  // when both are over
    int64_t ns(const When&);                  // places everything, if need be

    void kernels_at_once(int n) { kernels_at_once_ = n; }
    void place();  // everything added so far
    size_t unplaced() const { return tasks_.size(); }

private:
    struct Task {
        When end;
        int64_t ready, busy;  // not before this: of what it comes after, the latest that is known
        uint64_t order;
        uint32_t missing;  // of those it comes after
        int engine;
    };
    struct Edge {
        uint32_t before, then;
    };
    std::vector<Task> tasks_;
    std::vector<Edge> edges_;
    int capacity(size_t engine) const { return engine % engines == kernels ? kernels_at_once_ : 1; }
    int kernels_at_once_ = 1;
    // Per engine: when those that it was at last end; as many as it takes at a time.
    std::vector<std::vector<int64_t>> free_;
};

}  // namespace vgpu
