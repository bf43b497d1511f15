// Move-only owners of streams, events and graphs. Each remembers its device.
#pragma once

#include <memory>

#include "host/cuda/device.h"

namespace wt {

class Event {
public:
    Event() = default;
    // With timing, elapsed time between two events can be asked for; without, events are cheaper.
    explicit Event(int device, bool timing = false) {
        DeviceGuard guard(device);
        cudaEvent_t e;
        WT_CUDA(cudaEventCreateWithFlags(&e, timing ? cudaEventDefault : cudaEventDisableTiming));
        handle_.reset(e);
    }
    cudaEvent_t get() const { return handle_.get(); }
    void record(cudaStream_t s) const { WT_CUDA(cudaEventRecord(get(), s)); }
    void synchronize() const { WT_CUDA(cudaEventSynchronize(get())); }
    // Milliseconds from `start` to this; both recorded and complete.
    float since(const Event& start) const {
        float ms = 0;
        WT_CUDA(cudaEventElapsedTime(&ms, start.get(), get()));
        return ms;
    }

private:
    struct Destroy {
        using pointer = cudaEvent_t;
        void operator()(cudaEvent_t e) const { cudaEventDestroy(e); }
    };
    std::unique_ptr<cudaEvent_t, Destroy> handle_;
};

class Stream {
public:
    Stream() = default;
    explicit Stream(int device) : device_(device) {
        DeviceGuard guard(device);
        cudaStream_t s;
        WT_CUDA(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
        handle_.reset(s);
    }
    cudaStream_t get() const { return handle_.get(); }
    int device() const { return device_; }
    void synchronize() const { WT_CUDA(cudaStreamSynchronize(get())); }
    void wait(const Event& e) const { WT_CUDA(cudaStreamWaitEvent(get(), e.get(), 0)); }

private:
    struct Destroy {
        using pointer = cudaStream_t;
        void operator()(cudaStream_t s) const { cudaStreamDestroy(s); }
    };
    std::unique_ptr<cudaStream_t, Destroy> handle_;
    int device_ = 0;
};

// A captured sequence of work, replayed with one launch.
class Graph {
public:
    Graph() = default;
    // Captures what `work` puts on `stream`.
    template <class F>
    Graph(const Stream& stream, F&& work) {
        DeviceGuard guard(stream.device());
        WT_CUDA(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal));
        cudaGraph_t graph = nullptr;
        try {
            work();
        } catch (...) {
            cudaStreamEndCapture(stream.get(), &graph);
            if (graph) cudaGraphDestroy(graph);
            throw;
        }
        WT_CUDA(cudaStreamEndCapture(stream.get(), &graph));
        cudaGraphExec_t exec = nullptr;
        const cudaError_t e = cudaGraphInstantiate(&exec, graph, 0);
        cudaGraphDestroy(graph);
        WT_CUDA(e);
        handle_.reset(exec);
    }
    explicit operator bool() const { return static_cast<bool>(handle_); }
    void launch(const Stream& stream) const {
        DeviceGuard guard(stream.device());
        WT_CUDA(cudaGraphLaunch(handle_.get(), stream.get()));
    }

private:
    struct Destroy {
        using pointer = cudaGraphExec_t;
        void operator()(cudaGraphExec_t g) const { cudaGraphExecDestroy(g); }
    };
    std::unique_ptr<cudaGraphExec_t, Destroy> handle_;
};

}  // namespace wt
