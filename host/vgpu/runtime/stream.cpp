// Streams and events.

#include <algorithm>

#include "host/vgpu/runtime/runtime.h"

namespace vgpu {

std::shared_ptr<Stream> Runtime::stream(cudaStream_t handle) {
    if (!handle || handle == cudaStreamLegacy) return current().legacy;
    const auto it = streams.find(handle);
    return it == streams.end() ? nullptr : it->second;
}

Event* Runtime::event(cudaEvent_t handle) {
    const auto it = events.find(handle);
    return it == events.end() ? nullptr : it->second.get();
}

}  // namespace vgpu

using namespace vgpu;

namespace {

cudaError_t no_stream() { return explain(cudaErrorInvalidResourceHandle, "not a live stream"); }
cudaError_t no_event() { return explain(cudaErrorInvalidResourceHandle, "not a live event"); }

}  // namespace

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
    return cudaStreamCreateWithPriority(stream, cudaStreamDefault, 0);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
    return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
    return device_api([&](Runtime& rt, Lock&) {
        if (flags & ~cudaStreamNonBlocking) return cudaErrorInvalidValue;
        auto s = std::make_shared<Stream>();
        s->device = current_device();
        s->lane = uint64_t(s->device) << 32 | rt.current().streams++;
        s->flags = flags;
        s->priority = std::clamp(priority, -5, 0);
        *stream = reinterpret_cast<cudaStream_t>(s.get());
        rt.streams.emplace(*stream, std::move(s));
        return cudaSuccess;
    });
}

// Runs what is queued first: work is never lost with its stream.
cudaError_t cudaStreamDestroy(cudaStream_t handle) {
    std::shared_ptr<Stream> s;  // these die outside of the lock
    std::shared_ptr<GraphBody> dropped;
    return api([&](Runtime& rt, Lock& lock) {
        if (!handle || handle == cudaStreamLegacy || !(s = rt.stream(handle))) return no_stream();
        if (rt.on_dispatcher())
            return explain(cudaErrorNotPermitted, "cudaStreamDestroy in a host function");
        if (s->capture) {
            const auto capture = s->capture;
            invalidate(*capture);
            std::erase(capture->streams, s.get());
            if (capture->origin == s.get()) {
                for (Stream* o : capture->streams) o->capture.reset();
                capture->ended = true;
                dropped = std::move(capture->body);
                std::erase(rt.captures, capture);
            }
            s->capture.reset();
        }
        rt.streams.erase(handle);
        rt.wait_stream(lock, s);
        return rt.devices[s->device]->failed;
    });
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
    return api([&](Runtime& rt, Lock& lock) {
        const auto s = rt.stream(handle);
        if (!s) return no_stream();
        if (cudaError_t e = forbid_wait(rt, s.get(), s->device, "cudaStreamSynchronize");
            e != cudaSuccess)
            return e;
        rt.wait_stream(lock, s);
        return rt.devices[s->device]->failed;
    });
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
    return api([&](Runtime& rt, Lock& lock) {
        const auto s = rt.stream(handle);
        if (!s) return no_stream();
        if (cudaError_t e = forbid_wait(rt, s.get(), s->device, "cudaStreamQuery");
            e != cudaSuccess)
            return e;
        const uint64_t until = s->submitted;
        if (s->completed < until) rt.run_one_operation(lock);
        if (rt.devices[s->device]->failed != cudaSuccess) return rt.devices[s->device]->failed;
        if (s->completed < until) return cudaErrorNotReady;
        rt.observe(s->last);
        return cudaSuccess;
    });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned flags) {
    return api([&](Runtime& rt, Lock& lock) {
        const auto s = rt.stream(handle);
        if (!s) return no_stream();
        const Event* e = rt.event(event);
        if (!e) return no_event();
        if (flags) return cudaErrorInvalidValue;
        if (rt.devices[s->device]->failed != cudaSuccess) return rt.devices[s->device]->failed;
        if (s->capture && s->capture->invalid) return cudaErrorStreamCaptureInvalidated;
        if (e->capture) {
            if (e->capture->ended) {
                if (s->capture) invalidate(*s->capture);
                return cudaErrorCapturedEvent;
            }
            if (e->capture->invalid) return cudaErrorStreamCaptureInvalidated;
            if (s->capture && s->capture != e->capture) {
                invalidate(*s->capture), invalidate(*e->capture);
                return cudaErrorStreamCaptureMerge;
            }
            if (!s->capture) {
                if (s->legacy) {
                    invalidate(*e->capture);
                    return cudaErrorStreamCaptureImplicit;
                }
                s->capture = e->capture;
                s->capture->streams.push_back(s.get());
                s->frontier.clear();
            }
            for (uint32_t node : e->frontier)
                if (std::find(s->frontier.begin(), s->frontier.end(), node) == s->frontier.end())
                    s->frontier.push_back(node);
            return cudaSuccess;
        }
        if (!e->record) return cudaSuccess;
        if (s->capture) {
            invalidate(*s->capture);
            return explain(cudaErrorStreamCaptureIsolation,
                           "the event was recorded outside of the capture");
        }
        if (e->record->done && s->queue.empty()) {
            s->last = rt.clock.join(s->last, e->record->when);
            return cudaSuccess;
        }
        return rt.submit(lock, *s, WaitEvent{e->record});
    });
}

cudaError_t cudaStreamGetDevice(cudaStream_t handle, int* device) {
    return api([&](Runtime& rt, Lock&) {
        const auto s = rt.stream(handle);
        if (!s) return no_stream();
        *device = s->device;
        return cudaSuccess;
    });
}

cudaError_t cudaStreamGetFlags(cudaStream_t handle, unsigned* flags) {
    return api([&](Runtime& rt, Lock&) {
        const auto s = rt.stream(handle);
        if (!s) return no_stream();
        *flags = s->flags;
        return cudaSuccess;
    });
}

cudaError_t cudaStreamGetPriority(cudaStream_t handle, int* priority) {
    return api([&](Runtime& rt, Lock&) {
        const auto s = rt.stream(handle);
        if (!s) return no_stream();
        *priority = s->priority;
        return cudaSuccess;
    });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t fn, void* user_data) {
    return api([&](Runtime& rt, Lock& lock) {
        const auto s = rt.stream(handle);
        if (!s) return no_stream();
        if (!fn) return cudaErrorInvalidValue;
        return rt.submit(lock, *s,
                         Closure{"host function", [fn, user_data] { fn(user_data); }, true});
    });
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
    return device_api([&](Runtime& rt, Lock&) {
        if (flags & ~(cudaEventBlockingSync | cudaEventDisableTiming)) return cudaErrorInvalidValue;
        auto e = std::make_unique<Event>();
        e->device = current_device();
        e->flags = flags;
        *event = reinterpret_cast<cudaEvent_t>(e.get());
        rt.events.emplace(*event, std::move(e));
        return cudaSuccess;
    });
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    return api([&](Runtime& rt, Lock&) {
        Event* e = rt.event(event);
        if (!e) return no_event();
        const int device = e->device;
        rt.events.erase(event);
        return rt.devices[device]->failed;
    });
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
    return api([&](Runtime& rt, Lock& lock) {
        const auto s = rt.stream(handle);
        if (!s) return no_stream();
        Event* e = rt.event(event);
        if (!e) return no_event();
        if (e->device != s->device)
            return explain(cudaErrorInvalidResourceHandle,
                           "the event belongs to device " + std::to_string(e->device) +
                               ", the stream to device " + std::to_string(s->device));
        if (rt.devices[s->device]->failed != cudaSuccess) return rt.devices[s->device]->failed;
        if (s->capture) {
            if (s->capture->invalid) return cudaErrorStreamCaptureInvalidated;
            e->capture = s->capture;
            e->frontier = s->frontier;
            e->record.reset();
            return cudaSuccess;
        }
        auto record = std::make_shared<Record>();
        const cudaError_t failed = rt.submit(lock, *s, RecordEvent{record});
        if (failed != cudaSuccess) return failed;
        e = rt.event(event);  // submit may have waited, and let another thread destroy it
        if (!e) return no_event();
        e->capture.reset();
        e->record = std::move(record);
        return cudaSuccess;
    });
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    return api([&](Runtime& rt, Lock& lock) {
        const Event* e = rt.event(event);
        if (!e) return no_event();
        if (cudaError_t f = forbid_in_capture(rt, "cudaEventQuery"); f != cudaSuccess) return f;
        if (e->capture) return cudaErrorCapturedEvent;
        const auto record = e->record;
        const int device = e->device;
        if (record && !record->done && !rt.on_dispatcher()) rt.run_one_operation(lock);
        if (rt.devices[device]->failed != cudaSuccess) return rt.devices[device]->failed;
        if (record && !record->done) return cudaErrorNotReady;
        if (record) rt.observe(record->when);
        return cudaSuccess;
    });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    return api([&](Runtime& rt, Lock& lock) {
        const Event* e = rt.event(event);
        if (!e) return no_event();
        if (cudaError_t f = forbid_in_capture(rt, "cudaEventSynchronize"); f != cudaSuccess)
            return f;
        if (e->capture) return cudaErrorCapturedEvent;
        const int device = e->device;
        if (const auto record = e->record) {
            if (rt.on_dispatcher())
                return explain(cudaErrorNotPermitted, "cudaEventSynchronize in a host function");
            rt.wait(lock, [record] { return record->done; });
            rt.observe(record->when);
        }
        return rt.devices[device]->failed;
    });
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
    return api([&](Runtime& rt, Lock&) {
        const Event *a = rt.event(start), *b = rt.event(end);
        if (!a || !b) return no_event();
        if (a->device != b->device || (a->flags | b->flags) & cudaEventDisableTiming)
            return explain(cudaErrorInvalidResourceHandle,
                           "needs two events of one device, made with timing");
        if (rt.devices[a->device]->failed != cudaSuccess) return rt.devices[a->device]->failed;
        if (a->capture || b->capture) return cudaErrorCapturedEvent;
        if (!a->record || !b->record)
            return explain(cudaErrorInvalidResourceHandle, "an event was never recorded");
        if (!a->record->done || !b->record->done) return cudaErrorNotReady;
        *milliseconds =
            static_cast<float>(rt.clock.ns(b->record->when) - rt.clock.ns(a->record->when)) * 1e-6f;
        return cudaSuccess;
    });
}
