// Stream capture and graphs. A graph's nodes keep what they do (kernel and argument bytes, copies,
// closures); a launch queues one operation whose nodes the dispatcher runs in any order their edges
// allow.

#include <algorithm>

#include "host/vgpu/diagnosis/profile.h"
#include "host/vgpu/runtime/runtime.h"

namespace vgpu {

void invalidate(Capture& c) { c.invalid = true; }

cudaError_t forbid_in_capture(Runtime& rt, const char* call) {
    bool forbidden = false;
    for (auto& c : rt.captures) {
        if (c->mode == cudaStreamCaptureModeRelaxed) continue;
        if (c->mode == cudaStreamCaptureModeThreadLocal && c->thread != std::this_thread::get_id())
            continue;
        invalidate(*c);
        forbidden = true;
    }
    return forbidden
               ? explain(cudaErrorStreamCaptureUnsupported, std::string(call) + " during a capture")
               : cudaSuccess;
}

cudaError_t forbid_wait(Runtime& rt, const Stream* stream, int device, const char* call) {
    if (rt.on_dispatcher())
        return explain(cudaErrorNotPermitted, std::string(call) + " in a host function");
    if (stream && stream->capture) {
        invalidate(*stream->capture);
        return explain(cudaErrorStreamCaptureUnsupported,
                       std::string(call) + " on a capturing stream");
    }
    cudaError_t e = cudaSuccess;
    for (auto& c : rt.captures)
        for (const Stream* s : c->streams) {
            if (s->device != device ||
                (stream && (!stream->legacy || s->flags & cudaStreamNonBlocking)))
                continue;
            invalidate(*c);
            e = explain(stream ? cudaErrorStreamCaptureImplicit : cudaErrorStreamCaptureUnsupported,
                        std::string(call) + " while a stream of the device is capturing");
        }
    return e;
}

cudaError_t capture(Runtime& rt, Stream& s, Work&& work) {
    Capture& c = *s.capture;
    if (c.invalid) return cudaErrorStreamCaptureInvalidated;
    if (std::holds_alternative<Free>(work)) {
        invalidate(c);
        return explain(cudaErrorStreamCaptureUnsupported,
                       "virtual GPUs have no memory nodes in graphs");
    }
    const uint32_t index = static_cast<uint32_t>(c.body->nodes.size());
    for (uint32_t before : s.frontier) c.body->nodes[before].before.push_back(index);
    c.body->nodes.push_back(
        {std::move(work), s.device, s.lane, s.frontier, {}, rt.generation, current_range()});
    s.frontier = {index};
    return cudaSuccess;
}

}  // namespace vgpu

using namespace vgpu;

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
    return api([&](Runtime& rt, Lock&) {
        const auto s = rt.stream(handle);
        if (!s) return explain(cudaErrorInvalidResourceHandle, "not a live stream");
        if (rt.devices[s->device]->failed != cudaSuccess) return rt.devices[s->device]->failed;
        if (s->legacy)
            return explain(cudaErrorStreamCaptureUnsupported,
                           "the default stream cannot be captured");
        if (s->capture) return explain(cudaErrorIllegalState, "the stream is capturing already");
        auto c = std::make_shared<Capture>();
        c->origin = s.get();
        c->mode = mode;
        c->thread = std::this_thread::get_id();
        c->streams = {s.get()};
        s->capture = c;
        s->frontier.clear();
        rt.captures.push_back(std::move(c));
        return cudaSuccess;
    });
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
    // dies outside of the lock: closures may own device memory
    std::shared_ptr<GraphBody> dropped;
    if (graph) *graph = nullptr;
    return api([&](Runtime& rt, Lock&) {
        const auto s = rt.stream(handle);
        if (!s) return explain(cudaErrorInvalidResourceHandle, "not a live stream");
        if (!graph) return cudaErrorInvalidValue;
        const auto c = s->capture;
        if (!c) return explain(cudaErrorIllegalState, "the stream is not capturing");
        if (c->origin != s.get()) {
            invalidate(*c);
            return cudaErrorStreamCaptureUnmatched;
        }
        if (c->mode != cudaStreamCaptureModeRelaxed && c->thread != std::this_thread::get_id())
            return cudaErrorStreamCaptureWrongThread;
        c->ended = true;
        std::erase(rt.captures, c);
        // Every node must lead to where the origin stands now.
        auto& nodes = c->body->nodes;
        std::vector<char> joined(nodes.size(), 0);
        for (uint32_t n : s->frontier) joined[n] = 1;
        for (size_t n = nodes.size(); n-- > 0;)
            if (joined[n])
                for (uint32_t before : nodes[n].after) joined[before] = 1;
        for (Stream* o : c->streams) {
            o->capture.reset();
            o->frontier.clear();
        }
        dropped = std::move(c->body);  // events recorded in the capture must not keep it
        if (c->invalid) return cudaErrorStreamCaptureInvalidated;
        if (std::find(joined.begin(), joined.end(), 0) != joined.end())
            return explain(cudaErrorStreamCaptureUnjoined,
                           "a stream that joined the capture was not waited for");
        *graph = reinterpret_cast<cudaGraph_t>(dropped.get());
        rt.graphs.emplace(*graph, dropped);
        return cudaSuccess;
    });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
    return api([&](Runtime& rt, Lock&) {
        const auto s = rt.stream(handle);
        if (!s) return explain(cudaErrorInvalidResourceHandle, "not a live stream");
        *status = !s->capture           ? cudaStreamCaptureStatusNone
                  : s->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                        : cudaStreamCaptureStatusActive;
        return cudaSuccess;
    });
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
    return api([&](Runtime& rt, Lock&) {
        const auto it = rt.graphs.find(graph);
        if (it == rt.graphs.end()) return explain(cudaErrorInvalidValue, "not a live graph");
        // A handle of its own: one graph may have several executables.
        *exec = reinterpret_cast<cudaGraphExec_t>(new char);
        rt.execs.emplace(*exec, it->second);
        return cudaSuccess;
    });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t handle) {
    return api([&](Runtime& rt, Lock& lock) {
        const auto s = rt.stream(handle);
        if (!s) return explain(cudaErrorInvalidResourceHandle, "not a live stream");
        const auto it = rt.execs.find(exec);
        if (it == rt.execs.end())
            return explain(cudaErrorInvalidValue, "not a live executable graph");
        if (s->capture) {
            invalidate(*s->capture);
            return explain(cudaErrorStreamCaptureUnsupported,
                           "virtual GPUs have no graphs inside graphs");
        }
        auto run = std::make_unique<GraphRun>();
        run->body = it->second;
        run->left = run->body->nodes.size();
        run->ends.resize(run->left);
        for (const Node& n : run->body->nodes) {
            if (n.after.empty()) run->ready.push_back(static_cast<uint32_t>(run->waits.size()));
            run->waits.push_back(static_cast<uint32_t>(n.after.size()));
        }
        return rt.submit(lock, *s, std::move(run));
    });
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t) {
    return api([&](Runtime& rt, Lock&) {
        return rt.execs.count(exec) ? cudaSuccess : cudaErrorInvalidValue;
    });
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
    return api([&](Runtime& rt, Lock&) {
        const auto it = rt.graphs.find(graph);
        if (it == rt.graphs.end() || !count)
            return explain(cudaErrorInvalidValue, "not a live graph");
        auto& all = it->second->nodes;
        if (nodes)
            for (size_t i = 0; i < *count; ++i)
                nodes[i] = i < all.size() ? reinterpret_cast<cudaGraphNode_t>(&all[i]) : nullptr;
        if (!nodes || *count > all.size()) *count = all.size();
        return cudaSuccess;
    });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    std::shared_ptr<GraphBody> dropped;
    return api([&](Runtime& rt, Lock&) {
        const auto it = rt.graphs.find(graph);
        if (it == rt.graphs.end()) return explain(cudaErrorInvalidValue, "not a live graph");
        dropped = std::move(it->second);
        rt.graphs.erase(it);
        return cudaSuccess;
    });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    std::shared_ptr<GraphBody> dropped;
    return api([&](Runtime& rt, Lock&) {
        const auto it = rt.execs.find(exec);
        if (it == rt.execs.end())
            return explain(cudaErrorInvalidValue, "not a live executable graph");
        dropped = std::move(it->second);
        rt.execs.erase(it);
        delete reinterpret_cast<char*>(exec);
        return cudaSuccess;
    });
}
