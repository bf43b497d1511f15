// The state of the virtual GPUs' runtime: devices, streams, events, graphs, and the
// dispatcher, the thread that takes queued work off the streams. One lock protects all of it; the
// dispatcher lets go of it while an operation runs.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <variant>
#include <vector>

#include "cuda_runtime_api.h"
#include "host/vgpu/runtime/arena.h"
#include "host/vgpu/runtime/clock.h"
#include "host/vgpu/exec/grid.h"
#include "vgpu/launch.h"

namespace vgpu {

using Lock = std::unique_lock<std::mutex>;

// ---- work: what a queued operation or a node of a graph does ------------------------------------

// The bytes of a kernel's arguments, as Signature lays them out.
class ArgumentBlock {
public:
    ArgumentBlock(const Signature& s, const void* const* args);
    const std::byte* data() const { return bytes_.get(); }

private:
    struct Release {
        bool aligned;
        void operator()(std::byte* p) const {
            aligned ? ::operator delete(p, std::align_val_t(128)) : ::operator delete(p);
        }
    };
    std::unique_ptr<std::byte, Release> bytes_;
};

struct Kernel {
    Grid grid;
    const Signature* signature;
    ArgumentBlock args;
    // what the arguments' check found at the launch; fails the device when it runs
    std::string doomed = {};
};

struct Copy {
    void* dst;
    const void* src;
    size_t dpitch, spitch, width, height;  // bytes, rows
    std::unique_ptr<std::byte[]>
        staged;  // what src held at the call, packed; null: read src when it runs
};

struct Fill {
    void* dst;
    size_t pitch, width, height;
    int value;
};

struct Closure {
    std::string name;
    std::function<void()> run;
    bool host = false;  // a host function, which keeps no engine of the device busy
};

struct Free {
    void* p;
};

// The state of an event as one cudaEventRecord left it; waits keep the record that they saw.
struct Record {
    bool done = false;
    When when;  // once done
};
struct RecordEvent {
    std::shared_ptr<Record> record;
};
struct WaitEvent {
    std::shared_ptr<Record> record;
};

struct GraphRun;
using Work = std::variant<Kernel, Copy, Fill, Closure, Free, RecordEvent, WaitEvent,
                          std::unique_ptr<GraphRun>>;

// ---- graphs -------------------------------------------------------------------------------------

struct Node {
    Work work;
    int device;
    uint64_t lane;                // of the stream that captured it: as Stream::lane
    std::vector<uint32_t> after;  // indices of earlier nodes
    std::vector<uint32_t> before;
    // Runtime::generation at which the node's pointers were last found alive
    uint64_t checked = 0;
    int range = 0;  // it was captured in (profile.h)
};

struct GraphBody {
    std::deque<Node> nodes;  // in the order of capture, which is a legal order of execution
};

// One launch of a graph.
struct GraphRun {
    std::shared_ptr<GraphBody> body;
    std::vector<uint32_t> waits;  // per node: predecessors not done
    std::vector<uint32_t> ready;
    size_t left;
    When start;              // what the nodes without predecessors come after
    std::vector<When> ends;  // per node
};

struct Stream;

struct Capture {
    Stream* origin;
    cudaStreamCaptureMode mode;
    std::thread::id thread;
    std::shared_ptr<GraphBody> body = std::make_shared<GraphBody>();
    std::vector<Stream*> streams;  // that take part
    bool invalid = false, ended = false;
};

// ---- streams, events, devices -------------------------------------------------------------------

struct Operation {
    Work work;
    uint64_t order;     // of submission, over all streams
    uint64_t position;  // in the stream
    uint64_t checked;   // as Node::checked
    int range;          // it was submitted in (profile.h)
    When seen;          // what its thread had waited for
};

struct Stream {
    int device;
    uint64_t lane;  // (device, how many-th stream of it): names the stream to the seed
    unsigned flags = 0;
    int priority = 0;
    bool legacy = false;  // the device's stream 0
    std::deque<Operation> queue;
    uint64_t submitted = 0, completed = 0;
    When last;  // end of what it has done so far
    std::shared_ptr<Capture> capture;
    std::vector<uint32_t> frontier;  // while capturing: the nodes that the next one comes after
};

struct Event {
    int device;
    unsigned flags;
    std::shared_ptr<Record> record;    // null: never recorded
    std::shared_ptr<Capture> capture;  // not null: last recorded while capturing
    std::vector<uint32_t> frontier;
};

struct Device {
    Device(int index, size_t memory, int devices) : arena(index, memory), peer(devices) {}
    Arena arena;
    std::vector<bool> peer;  // whose memory kernels of this device may use
    std::shared_ptr<Stream> legacy;
    uint64_t streams = 0;              // created so far
    cudaError_t failed = cudaSuccess;  // stays until cudaDeviceReset
    std::string failure;
};

// ---- the runtime --------------------------------------------------------------------------------

struct Runtime {
    std::mutex mutex;
    std::vector<std::unique_ptr<Device>> devices;
    uint64_t seed = 0;
    // rises when memory or peer access that queued work may use goes away
    uint64_t generation = 1;
    std::string last_failure;
    Clock clock;

    std::unordered_map<cudaStream_t, std::shared_ptr<Stream>> streams;
    std::unordered_map<cudaEvent_t, std::unique_ptr<Event>> events;
    std::unordered_map<cudaGraph_t, std::shared_ptr<GraphBody>> graphs;
    std::unordered_map<cudaGraphExec_t, std::shared_ptr<GraphBody>> execs;
    std::vector<std::shared_ptr<Capture>> captures;  // under way
    struct Pinned {
        size_t bytes;
        int device;
    };
    std::map<uint64_t, Pinned> pinned;

    Device& current();
    // Null when the handle names no stream; 0 and cudaStreamLegacy name the current device's legacy
    // stream.
    std::shared_ptr<Stream> stream(cudaStream_t);
    Event* event(cudaEvent_t);
    const Pinned* find_pinned(const void* p, size_t bytes, uint64_t* base = nullptr) const;

    // Puts work on a stream, or into the graph that the stream captures. The caller waits when very
    // much is queued.
    cudaError_t submit(Lock&, Stream&, Work&&);
    // The calling thread, which is not the dispatcher, waits until the condition holds; queued work
    // runs meanwhile.
    void wait(Lock&, std::function<bool()> met);
    void wait_stream(Lock&, const std::shared_ptr<Stream>&);
    void wait_device(Lock&, int device);
    void wait_all(Lock&);
    // The calling thread has waited for this: what it submits from here on comes after.
    void observe(const When&);
    // Lets the dispatcher run at most one more operation, as a query does.
    void run_one_operation(Lock&);
    bool on_dispatcher() const { return std::this_thread::get_id() == dispatcher_id_.load(); }
    void shut_down();

private:
    struct Waiter {
        std::function<bool()> met;
        bool single;  // asks for one operation only
        bool done = false;
        std::condition_variable wake;
    };
    struct Choice {
        Stream* stream = nullptr;
        uint32_t node = 0;  // index into GraphRun::ready, for a graph
        bool graph = false;
        uint64_t key = 0;
    };
    void start_dispatcher();  // once
    void dispatch();          // the dispatcher's loop, until shut_down()
    // Those whose condition holds; `ran`: an operation has run since the last call.
    void wake_waiters(bool ran);
    bool queues_are_full() const;
    // Whether nothing that the stream's first operation must come after is still to be run.
    bool is_runnable(const Stream&, const Operation&) const;
    // The seed chooses among what is runnable. False when nothing is.
    bool choose_operation(Choice&) const;
    // Chooses an operation, or a node of a graph, and executes it. False when nothing is runnable.
    bool dispatch_next(Lock&);
    // What an operation kept busy, and for how long.
    struct Busy {
        int engine = Clock::kNone;
        int64_t ns = 0;
    };
    Busy execute(Lock&, Work&, int device, uint64_t& checked, uint64_t key, int range);
    Busy execute_kernel(Lock&, Kernel&, int device, uint64_t& checked, uint64_t key, int range);
    Busy execute_copy(Lock&, Copy&, int device, uint64_t& checked, int range);
    Busy execute_fill(Lock&, Fill&, int device, uint64_t& checked, int range);
    Busy execute_closure(Lock&, Closure&, int device, int range);
    bool fault(int device, const std::string& why);
    // In virtual time: the ends of what the operation comes after, and its own end.
    std::vector<When> predecessors_of(const Stream&, const Operation&) const;
    When finish_time(std::span<const When> after, Busy, uint64_t order);

    std::vector<Stream*> active_;  // streams with queued work
    uint64_t order_ = 0;
    size_t pending_ = 0, staged_ = 0;  // operations; bytes of staged copies
    std::vector<Waiter*> waiters_;
    std::condition_variable wake_dispatcher_;
    std::thread dispatcher_;
    std::atomic<std::thread::id> dispatcher_id_{};
    bool stop_ = false;
};

Runtime& runtime();  // the one there is, made by the first call
// The process ends, and the dispatcher with it: calls answer cudaErrorCudartUnloading.
bool unloading();

// ---- errors -------------------------------------------------------------------------------------

// Makes `e` this thread's last error and keeps the explanation for cudaGetErrorString.
cudaError_t explain(cudaError_t e, std::string why);
void set_last_error(cudaError_t e);
int current_device();

// Marks the device failed: every later call on it returns `code`, and its queued work is dropped.
void fail_device(Runtime&, int device, cudaError_t code, const std::string& message,
                 const std::string& detail);

// Whether calls that could interfere with a capture are forbidden to this thread now; invalidates
// the capture then, as CUDA does.
cudaError_t forbid_in_capture(Runtime&, const char* call);
// The same for a call that would have to wait for `stream`, or for the whole device (null).
cudaError_t forbid_wait(Runtime&, const Stream* stream, int device, const char* call);

// Adds the work to the graph that the stream captures, instead of queueing it (graph.cpp).
cudaError_t capture(Runtime&, Stream&, Work&&);
void invalidate(Capture&);

// Runs an API function's body under the lock, and remembers its error as the thread's last.
template <class F>
cudaError_t api(F&& body) {
    if (unloading()) return cudaErrorCudartUnloading;
    Runtime& rt = runtime();
    if (rt.devices.empty()) {
        set_last_error(cudaErrorNoDevice);
        return cudaErrorNoDevice;
    }
    Lock lock(rt.mutex);
    const cudaError_t e = body(rt, lock);
    if (e != cudaSuccess) set_last_error(e);
    return e;
}

// Does the same for calls that need the current device in working order.
template <class F>
cudaError_t device_api(F&& body) {
    return api([&](Runtime& rt, Lock& lock) {
        const cudaError_t failed = rt.current().failed;
        return failed != cudaSuccess ? failed : body(rt, lock);
    });
}

// Returns an empty string when every pointer in the arguments is alive and reachable, else what is
// wrong.
std::string check_arguments(const Runtime&, const Kernel&, int device);
// Does the same for memory that a copy or memset touches; host memory always passes.
std::string check_range(const Runtime&, const void* p, size_t pitch, size_t width, size_t height);
uint64_t mix(uint64_t a, uint64_t b);

}  // namespace vgpu
