// The stream scheduler: one thread, the dispatcher, takes the queued work of all streams of all
// devices and runs it, one operation at a time, while some host thread waits for any of it. How
// long each operation took goes to the virtual clock (clock.h).
//
// Why a host thread can wait without a deadlock: of all queued operations, the one submitted first
// can always run. What it could wait for (its stream, an event's record, the default stream's rule)
// was submitted before it.

#include <omp.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <exception>

#include "host/vgpu/runtime/faults.h"
#include "host/vgpu/diagnosis/profile.h"
#include "host/vgpu/runtime/runtime.h"

namespace vgpu {
namespace {

constexpr size_t kMaxQueuedOperations = 4096, kMaxStagedBytes = size_t(256) << 20;
// operations after which the clock places what it has
constexpr size_t kUnplaced = size_t(1) << 15;
constexpr size_t kParallelCopy = size_t(4) << 20;  // bytes from which a copy uses all cores

uint64_t order_key(uint64_t seed, uint64_t lane, uint64_t position, uint64_t node) {
    const uint64_t stream = mix(seed, lane);
    // Under most seeds some streams run far ahead of others, under some they alternate.
    const unsigned ahead = stream % 6 * 2;
    return (mix(mix(stream, position), node) >> 2 >> ahead) + 1;
}

void copy_rows(const Copy& c) {
    const auto* from = c.staged ? c.staged.get() : static_cast<const std::byte*>(c.src);
    const size_t pitch = c.staged ? c.width : c.spitch;
    auto* to = static_cast<std::byte*>(c.dst);
    if (c.width * c.height >= kParallelCopy) {
        const bool flat = c.height == 1 || (pitch == c.width && c.dpitch == c.width);
        const size_t chunk = size_t(1) << 20,
                     rows = flat ? (c.width * c.height + chunk - 1) / chunk : c.height;
#pragma omp parallel for num_threads(core_count())
        for (size_t r = 0; r < rows; ++r) {
            if (flat)
                std::memcpy(to + r * chunk, from + r * chunk,
                            std::min(chunk, c.width * c.height - r * chunk));
            else
                std::memcpy(to + r * c.dpitch, from + r * pitch, c.width);
        }
        return;
    }
    for (size_t r = 0; r < c.height; ++r)
        std::memmove(to + r * c.dpitch, from + r * pitch, c.width);
}

std::byte& last_byte(const Copy& c) {
    return static_cast<std::byte*>(c.dst)[(c.height - 1) * c.dpitch + c.width - 1];
}

// Without peer access a copy between devices goes through the host, and so past the fault.
bool meets_peer_fault(const Runtime& rt, const Copy& c) {
    const PeerFault& f = peer_fault();
    if (f.kind == PeerFault::Kind::none || owner_of(c.src) != f.from || owner_of(c.dst) != f.to)
        return false;
    return rt.devices[f.to]->peer[f.from] || rt.devices[f.from]->peer[f.to];
}

void suffer_peer_fault(const Copy& c) {
    if (peer_fault().kind == PeerFault::Kind::wrong) last_byte(c) ^= std::byte(0x5A);
    while (peer_fault().kind == PeerFault::Kind::hang)
        std::this_thread::sleep_for(std::chrono::seconds(1));
}

void fill_rows(const Fill& f) {
    auto* to = static_cast<std::byte*>(f.dst);
    for (size_t r = 0; r < f.height; ++r) std::memset(to + r * f.pitch, f.value, f.width);
}

int engine_of(const Copy& c, int device) {
    const int to = owner_of(c.dst), from = owner_of(c.src);
    if (to >= 0 && from >= 0)
        return to == from ? Clock::engine(device, Clock::kernels)
                          : Clock::engine(to, Clock::from_devices);
    if (to >= 0) return Clock::engine(to, Clock::from_host);
    return from >= 0 ? Clock::engine(from, Clock::to_host) : Clock::kNone;
}

// With one core the dispatcher's own time, in which nobody else had it: as on an idle machine, also
// on a busy one. With several there is no such clock for a team of threads.
int64_t busy_clock(bool device) {
    timespec t;
    clock_gettime(device && core_count() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return t.tv_sec * int64_t(1000000000) + t.tv_nsec;
}

// Without the lock; nanoseconds that it took.
template <class F>
int64_t measure(Lock& lock, F&& work, bool device = true) {
    lock.unlock();
    const int64_t start = busy_clock(device);
    work();
    const int64_t took = busy_clock(device) - start;
    lock.lock();
    return took;
}

thread_local When seen;  // what this host thread has waited for

}  // namespace

uint64_t mix(uint64_t a, uint64_t b) {  // splitmix64's finaliser
    uint64_t z = a * 0x9E3779B97F4A7C15 + b + 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
}

// ---- submitting ---------------------------------------------------------------------------------

bool Runtime::queues_are_full() const {
    return pending_ > kMaxQueuedOperations || staged_ > kMaxStagedBytes;
}

cudaError_t Runtime::submit(Lock& lock, Stream& s, Work&& work) {
    if (on_dispatcher())
        return explain(cudaErrorNotPermitted, "host functions must not put work on streams");
    if (devices[s.device]->failed != cudaSuccess) return devices[s.device]->failed;
    if (s.capture) return capture(*this, s, std::move(work));
    if (s.legacy)
        if (cudaError_t e = forbid_wait(*this, &s, s.device, "work on the default stream");
            e != cudaSuccess)
            return e;
    if (const Copy* c = std::get_if<Copy>(&work); c && c->staged) staged_ += c->width * c->height;
    if (s.queue.empty()) active_.push_back(&s);
    s.queue.push_back(
        {std::move(work), ++order_, s.submitted++, generation, current_range(), seen});
    ++pending_;
    if (queues_are_full())
        wait(lock, [this] {
            return pending_ <= kMaxQueuedOperations / 2 && staged_ <= kMaxStagedBytes / 2;
        });
    return cudaSuccess;
}

// ---- waiting ------------------------------------------------------------------------------------

void Runtime::start_dispatcher() {
    if (dispatcher_.joinable()) return;
    dispatcher_ = std::thread([this] {
        dispatcher_id_ = std::this_thread::get_id();
        dispatch();
    });
}

void Runtime::wait(Lock& lock, std::function<bool()> met) {
    if (met()) return;
    Waiter w{std::move(met), false, false, {}};
    waiters_.push_back(&w);
    start_dispatcher();
    wake_dispatcher_.notify_one();
    w.wake.wait(lock, [&] { return w.done; });
}

void Runtime::run_one_operation(Lock& lock) {
    Waiter w{[] { return false; }, true, false, {}};
    waiters_.push_back(&w);
    start_dispatcher();
    wake_dispatcher_.notify_one();
    w.wake.wait(lock, [&] { return w.done; });
}

void Runtime::observe(const When& w) { seen = clock.join(seen, w); }

void Runtime::wait_stream(Lock& lock, const std::shared_ptr<Stream>& s) {
    if (!s->legacy) {
        wait(lock, [s, until = s->submitted] { return s->completed >= until; });
        return observe(s->last);
    }
    wait(lock, [this, s, until = order_] {  // the default stream comes after all blocking streams
        for (const Stream* o : active_)
            if (o->device == s->device && !(o->flags & cudaStreamNonBlocking) &&
                o->queue.front().order <= until)
                return false;
        return true;
    });
    observe(s->last);
    for (const auto& [handle, o] : streams)
        if (o->device == s->device && !(o->flags & cudaStreamNonBlocking)) observe(o->last);
}

void Runtime::wait_device(Lock& lock, int device) {
    wait(lock, [this, device, until = order_] {
        for (const Stream* s : active_)
            if (s->device == device && s->queue.front().order <= until) return false;
        return true;
    });
    observe(devices[device]->legacy->last);
    for (const auto& [handle, s] : streams)
        if (s->device == device) observe(s->last);
}

void Runtime::wait_all(Lock& lock) {
    wait(lock, [this] { return pending_ == 0; });
    for (const auto& d : devices) observe(d->legacy->last);
    for (const auto& [handle, s] : streams) observe(s->last);
}

void Runtime::wake_waiters(bool ran) {
    std::erase_if(waiters_, [&](Waiter* w) {
        if (!(w->single ? ran : w->met())) return false;
        w->done = true;
        w->wake.notify_one();
        return true;
    });
}

void Runtime::dispatch() {
    Lock lock(mutex);
    for (;;) {
        wake_waiters(false);
        if (waiters_.empty()) {
            if (stop_ && pending_ == 0) return;
            if (!stop_) {
                wake_dispatcher_.wait(lock);
                continue;
            }
        }
        const bool ran = dispatch_next(lock);
        wake_waiters(true);
        if (!ran && !waiters_.empty()) wake_dispatcher_.wait(lock);
    }
}

void Runtime::shut_down() {
    if (on_dispatcher()) return;
    {
        Lock lock(mutex);
        stop_ = true;
        if (pending_) start_dispatcher();
        wake_dispatcher_.notify_one();
    }
    if (dispatcher_.joinable()) dispatcher_.join();
}

// ---- choosing -----------------------------------------------------------------------------------

bool Runtime::is_runnable(const Stream& s, const Operation& op) const {
    if (const auto* w = std::get_if<WaitEvent>(&op.work); w && !w->record->done) return false;
    // The legacy default stream: after all earlier work of the device's blocking streams, before
    // all later.
    if (s.legacy) {
        for (const Stream* o : active_)
            if (o != &s && o->device == s.device && !(o->flags & cudaStreamNonBlocking) &&
                o->queue.front().order < op.order)
                return false;
    } else if (!(s.flags & cudaStreamNonBlocking)) {
        const auto& legacy = devices[s.device]->legacy->queue;
        if (!legacy.empty() && legacy.front().order < op.order) return false;
    }
    return true;
}

bool Runtime::choose_operation(Choice& best) const {
    for (Stream* s : active_) {
        const Operation& op = s->queue.front();
        if (!is_runnable(*s, op)) continue;
        const auto* graph = std::get_if<std::unique_ptr<GraphRun>>(&op.work);
        if (seed == 0) {
            if (best.stream && op.order >= best.key) continue;
            best = {s, 0, graph != nullptr, op.order};
            if (graph) {
                const auto& ready = (*graph)->ready;
                for (uint32_t i = 1; i < ready.size(); ++i)
                    if (ready[i] < ready[best.node]) best.node = i;
            }
        } else if (graph && !(*graph)->ready.empty()) {
            const auto& ready = (*graph)->ready;
            for (uint32_t i = 0; i < ready.size(); ++i) {
                const uint64_t key = order_key(seed, (*graph)->body->nodes[ready[i]].lane,
                                               op.position, ready[i] + 1);
                if (!best.stream || key < best.key) best = {s, i, true, key};
            }
        } else {
            // Recording and waiting cost nothing and hold others up: at once.
            const bool free = std::holds_alternative<RecordEvent>(op.work) ||
                              std::holds_alternative<WaitEvent>(op.work);
            const uint64_t key = free ? 0 : order_key(seed, s->lane, op.position, 0);
            if (!best.stream || key < best.key) best = {s, 0, graph != nullptr, key};
        }
    }
    return best.stream != nullptr;
}

// ---- running ------------------------------------------------------------------------------------

// The default stream comes after the device's blocking streams, and they after it; is_runnable has
// seen to the order of submission.
std::vector<When> Runtime::predecessors_of(const Stream& s, const Operation& op) const {
    std::vector<When> after{s.last, op.seen};
    if (s.legacy) {
        for (const auto& [handle, o] : streams)
            if (o->device == s.device && !(o->flags & cudaStreamNonBlocking))
                after.push_back(o->last);
    } else if (!(s.flags & cudaStreamNonBlocking)) {
        after.push_back(devices[s.device]->legacy->last);
    }
    return after;
}

When Runtime::finish_time(std::span<const When> after, Busy busy, uint64_t order) {
    if (busy.engine != Clock::kNone || busy.ns)
        return clock.add(after, busy.engine, busy.ns, order);
    When w;
    for (const When& a : after) w = clock.join(w, a);
    return w;
}

bool Runtime::dispatch_next(Lock& lock) {
    if (clock.unplaced() >= kUnplaced) clock.place();
    Choice c;
    if (!choose_operation(c)) return false;
    Stream& s = *c.stream;
    Operation& op = s.queue.front();
    if (c.graph) {
        GraphRun& g = *std::get<std::unique_ptr<GraphRun>>(op.work);
        const auto& nodes = g.body->nodes;
        if (g.left == nodes.size()) g.start = finish_time(predecessors_of(s, op), {}, 0);
        if (!g.ready.empty()) {
            const uint32_t index = g.ready[c.node];
            g.ready.erase(g.ready.begin() + c.node);
            Node& n = g.body->nodes[index];
            const Busy busy = execute(lock, n.work, n.device, n.checked, c.key, n.range);
            std::vector<When> after;
            for (uint32_t before : n.after) after.push_back(g.ends[before]);
            if (after.empty()) after.push_back(g.start);
            g.ends[index] = finish_time(after, busy, op.order << 16 | (index & 0xffff));
            for (uint32_t next : n.before)
                if (--g.waits[next] == 0) g.ready.push_back(next);
            --g.left;
        }
        if (g.left) return true;
        s.last = g.start;
        for (size_t i = 0; i < nodes.size(); ++i)
            if (nodes[i].before.empty()) s.last = clock.join(s.last, g.ends[i]);
    } else {
        const Busy busy = execute(lock, op.work, s.device, op.checked, c.key, op.range);
        s.last = finish_time(predecessors_of(s, op), busy, op.order << 16);
        if (const auto* w = std::get_if<WaitEvent>(&op.work))
            s.last = clock.join(s.last, w->record->when);
        if (const auto* r = std::get_if<RecordEvent>(&op.work))
            r->record->when = s.last, r->record->done = true;
    }
    if (const Copy* copy = std::get_if<Copy>(&op.work); copy && copy->staged)
        staged_ -= copy->width * copy->height;
    // What the work owns may call cudaFree when it dies: not under the lock.
    Work dead = std::move(op.work);
    s.queue.pop_front();
    if (s.queue.empty()) std::erase(active_, &s);
    ++s.completed;
    --pending_;
    if (std::holds_alternative<Closure>(dead) ||
        std::holds_alternative<std::unique_ptr<GraphRun>>(dead)) {
        lock.unlock();
        dead = WaitEvent{};
        lock.lock();
    }
    return true;
}

// One operation, on its device. `checked` is the generation at which its pointers were found alive.
Runtime::Busy Runtime::execute(Lock& lock, Work& work, int device, uint64_t& checked, uint64_t key,
                               int range) {
    if (auto* f = std::get_if<Free>(&work)) {
        devices[owner_of(f->p)]->arena.release(f->p);
        ++generation;
        return {};
    }
    if (devices[device]->failed != cudaSuccess) return {};  // dropped
    if (auto* kernel = std::get_if<Kernel>(&work))
        return execute_kernel(lock, *kernel, device, checked, key, range);
    if (auto* copy = std::get_if<Copy>(&work))
        return execute_copy(lock, *copy, device, checked, range);
    if (auto* fill = std::get_if<Fill>(&work))
        return execute_fill(lock, *fill, device, checked, range);
    if (auto* closure = std::get_if<Closure>(&work))
        return execute_closure(lock, *closure, device, range);
    return {};  // records and waits: dispatch_next() does all there is to do
}

// Fails the device when `why` says something. True when it does.
bool Runtime::fault(int device, const std::string& why) {
    if (!why.empty()) fail_device(*this, device, cudaErrorIllegalAddress, why, "");
    return !why.empty();
}

Runtime::Busy Runtime::execute_kernel(Lock& lock, Kernel& kernel, int device, uint64_t& checked,
                                      uint64_t key, int range) {
    if (checked != generation || !kernel.doomed.empty()) {
        if (fault(device,
                  kernel.doomed.empty() ? check_arguments(*this, kernel, device) : kernel.doomed))
            return {};
        checked = generation;
    }
    GridFailure failure;
    const int64_t ns = measure(lock, [&] {
        const Timed timed(range, kernel.grid.kernel, "");
        failure = run_grid(kernel.grid, seed ? key : 0);
    });
    if (failure)
        fail_device(*this, device, static_cast<cudaError_t>(failure.code), failure.message,
                    failure.detail);
    return {Clock::engine(device, Clock::kernels), ns};
}

Runtime::Busy Runtime::execute_copy(Lock& lock, Copy& copy, int device, uint64_t& checked,
                                    int range) {
    if (checked != generation) {
        std::string why = check_range(*this, copy.dst, copy.dpitch, copy.width, copy.height);
        if (why.empty() && !copy.staged)
            why = check_range(*this, copy.src, copy.spitch, copy.width, copy.height);
        if (!why.empty() && fault(device, "copy on device " + std::to_string(device) + ": " + why))
            return {};
        checked = generation;
    }
    const bool hit = meets_peer_fault(*this, copy);
    const int64_t ns = measure(lock, [&] {
        const Timed timed(range, nullptr, "copy");
        copy_rows(copy);
        if (hit) suffer_peer_fault(copy);
    });
    return {engine_of(copy, device), ns};
}

Runtime::Busy Runtime::execute_fill(Lock& lock, Fill& fill, int device, uint64_t& checked,
                                    int range) {
    if (checked != generation) {
        const std::string why = check_range(*this, fill.dst, fill.pitch, fill.width, fill.height);
        if (!why.empty() &&
            fault(device, "memset on device " + std::to_string(device) + ": " + why))
            return {};
        checked = generation;
    }
    const int64_t ns = measure(lock, [&] {
        const Timed timed(range, nullptr, "memset");
        fill_rows(fill);
    });
    return {Clock::engine(device, Clock::kernels), ns};
}

Runtime::Busy Runtime::execute_closure(Lock& lock, Closure& closure, int device, int range) {
    std::string what;
    const auto run = [&] {
        try {
            const Timed timed(range, nullptr, closure.name.c_str());
            closure.run();
        } catch (const std::exception& e) {
            what = *e.what() ? e.what() : "an exception without a text";
        } catch (...) {
            what = "an exception of an unknown type";
        }
    };
    const int64_t ns = measure(lock, run, !closure.host);
    if (!what.empty())
        fail_device(*this, device, cudaErrorLaunchFailure,
                    closure.name + " on device " + std::to_string(device) + ": " + what, "");
    return {closure.host ? Clock::kNone : Clock::engine(device, Clock::kernels), ns};
}

}  // namespace vgpu
