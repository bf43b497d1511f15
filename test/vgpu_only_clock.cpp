// Virtual time: what overlaps, what waits, what keeps an engine to itself; and that the
// dispatcher's order does not matter.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <random>
#include <thread>
#include <vector>

#include "host/cuda/buffer.h"
#include "host/cuda/stream.h"
#include "host/vgpu/runtime/clock.h"
#include "host/vgpu/exec/grid.h"
#include "test/seeds.h"

namespace {

using vgpu::Clock;
using vgpu::When;
using wt::Event;
using wt::Graph;
using wt::Stream;

When add(Clock& c, std::vector<When> after, int engine, int64_t busy, uint64_t order) {
    return c.add(after, engine, busy, order);
}

// As the virtual GPUs measure: ms.
double now() {
    timespec t;
    clock_gettime(vgpu::core_count() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec * 1e-6;
}

// Work that only takes so long, more or less: `took` is what it was.
struct Spin {
    double ms, took = 0;
    explicit Spin(double ms) : ms(ms) {}
    void run() {
        const double start = now();
        while ((took = now() - start) < ms) {
        }
    }
    void on(const Stream& s) {
        vgpu::enqueue(s.get(), "spin", [this] { run(); });
    }
};

struct TimedEvent : Event {
    explicit TimedEvent(const Stream& s) : Event(s.device(), true), stream(&s) {}
    void record() const { Event::record(stream->get()); }
    const Stream* stream;
};

// The clock's time of what was measured here: a little more, for the calls around it. Where the
// machine did something else just then it is much more, so what is too late is tried again; never
// too early.
bool late = false;
void check_ms(double ms, double expected) {
    CHECK(ms >= expected - 0.01);
    late = late || !(ms <= expected + 1.5);
}
template <class F>
void on_time_once(F&& body) {
    for (int attempt = 0; attempt < 8; ++attempt) {
        late = false;
        body();
        if (!late) return;
    }
    FAIL("later than expected in every attempt");
}

}  // namespace

TEST_CASE("vgpu clock: tasks come after what they wait for and have their engine to themselves") {
    Clock c;
    const int gpu = Clock::engine(0, Clock::kernels), other = Clock::engine(1, Clock::kernels),
              link = Clock::engine(1, Clock::from_devices);
    const When a = add(c, {}, gpu, 5, 1);
    const When b = add(c, {}, other, 7, 2);
    const When copy = add(c, {a}, link, 3, 3);
    const When d = add(c, {a}, gpu, 4, 4);
    const When joined = add(c, {b, copy}, Clock::kNone, 0, 0);
    const When e = add(c, {joined}, gpu, 1, 5);
    const When late = add(c, {}, gpu, 2, 6);  // could begin at 0, as a could, but came later
    const When host = add(c, {late}, Clock::kNone, 10, 7);
    CHECK(c.ns(a) == 5);
    CHECK(c.ns(b) == 7);
    CHECK(c.ns(copy) == 8);
    CHECK(c.ns(late) == 7);  // before d, which could begin at 5 only
    CHECK(c.ns(d) == 11);
    CHECK(c.ns(joined) == 8);
    CHECK(c.ns(e) == 12);
    CHECK(c.ns(host) == 17);
    CHECK(c.ns(nullptr) == 0);
    // Behind what has its place already, though it could have begun before.
    CHECK(c.unplaced() == 0);
    CHECK(c.ns(add(c, {a}, gpu, 1, 8)) == 13);
    CHECK(c.ns(add(c, {a}, link, 1, 9)) == 9);
    CHECK(c.ns(c.join(a, b)) == 7);
    CHECK(c.ns(c.join(nullptr, b)) == 7);
}

TEST_CASE("vgpu clock: several kernels at once, as many as are asked for") {
    for (const int at_once : {1, 2, 3}) {
        Clock c;
        c.kernels_at_once(at_once);
        const int k = Clock::engine(1, Clock::kernels), copies = Clock::engine(1, Clock::from_host);
        std::vector<When> all;
        for (int i = 0; i < 3; ++i) all.push_back(add(c, {}, k, 10, i + 1));
        const When a = add(c, {}, copies, 10, 4), b = add(c, {}, copies, 10, 5);
        const int64_t want[][3] = {{10, 20, 30}, {10, 10, 20}, {10, 10, 10}};
        for (int i = 0; i < 3; ++i) CHECK(c.ns(all[i]) == want[at_once - 1][i]);
        CHECK((c.ns(a) == 10 && c.ns(b) == 20));  // copies stay one at a time
        // An engine goes on behind what was placed.
        const int64_t next[] = {40, 20, 20};
        CHECK(c.ns(add(c, {}, k, 10, 6)) == next[at_once - 1]);
    }
}

TEST_CASE("vgpu clock: the order in which tasks were run does not matter") {
    constexpr int kTasks = 300, kStreams = 6;
    std::mt19937 random(7);
    struct Task {
        std::vector<int> after;
        int stream, engine;
        int64_t busy;
    };
    std::vector<Task> tasks;
    std::vector<int> last(kStreams, -1);
    for (int i = 0; i < kTasks; ++i) {
        Task t{{}, static_cast<int>(random() % kStreams), 0, static_cast<int64_t>(random() % 20)};
        t.engine = random() % 9 == 0 ? Clock::kNone : static_cast<int>(random() % 4);
        if (last[t.stream] >= 0) t.after.push_back(last[t.stream]);
        if (i && random() % 3 == 0) t.after.push_back(static_cast<int>(random() % i));
        last[t.stream] = i;
        tasks.push_back(t);
    }
    std::vector<int64_t> expected;
    for (int run = 0; run < 30; ++run) {
        Clock c;
        std::vector<When> ends(kTasks);
        std::vector<char> done(kTasks);
        for (int n = 0; n < kTasks; ++n) {
            std::vector<int> can;
            for (int i = 0; i < kTasks; ++i)
                if (!done[i] && std::all_of(tasks[i].after.begin(), tasks[i].after.end(),
                                            [&](int b) { return done[b]; }))
                    can.push_back(i);
            const int i = can[run == 0 ? 0 : random() % can.size()];
            std::vector<When> after;
            for (int b : tasks[i].after) after.push_back(ends[b]);
            ends[i] = add(c, after, tasks[i].engine, tasks[i].busy, i + 1);
            done[i] = 1;
        }
        std::vector<int64_t> times;
        for (const When& w : ends) times.push_back(c.ns(w));
        if (run == 0) expected = times;
        CHECK(times == expected);
    }
    // No engine does two things at once.
    for (int engine = 0; engine < 4; ++engine) {
        std::vector<std::pair<int64_t, int64_t>> spans;
        for (int i = 0; i < kTasks; ++i)
            if (tasks[i].engine == engine)
                spans.push_back({expected[i] - tasks[i].busy, expected[i]});
        std::sort(spans.begin(), spans.end());
        for (size_t i = 1; i < spans.size(); ++i) CHECK(spans[i].first >= spans[i - 1].second);
    }
}

TEST_CASE("vgpu clock: two devices with work of their own overlap") {
    on_time_once([] {
        for (const uint64_t seed : {0, 1, 2}) {
            const wt::test::SeedGuard guard(seed);
            const Stream s0(0), s1(1);
            const TimedEvent start0(s0), end0(s0), start1(s1), end1(s1), joined(s0);
            Spin a(20), b(30);
            start0.record(), start1.record();
            a.on(s0), b.on(s1);
            end0.record(), end1.record();
            s0.wait(end1);
            joined.record();
            s0.synchronize();
            check_ms(end0.since(start0), a.took);
            check_ms(end1.since(start1), b.took);
            check_ms(joined.since(start0), std::max(a.took, b.took));
        }
    });
}

TEST_CASE("vgpu clock: waits for events shift what comes after, on other devices too") {
    on_time_once([] {
        const Stream s0(0), s1(1);
        const TimedEvent start(s1), before(s1), after(s1), from(s0), end(s1);
        Spin first(5), other(15), second(5);
        start.record();
        first.on(s1);
        before.record();
        other.on(s0);
        from.record();
        s1.wait(from);
        after.record();
        second.on(s1);
        end.record();
        s1.synchronize();
        check_ms(before.since(start), first.took);
        check_ms(after.since(start), other.took);
        check_ms(end.since(start), other.took + second.took);
        // An event that is over already, and what this thread has waited for.
        const Stream late(1), later(1);
        const TimedEvent waited(late), seen(later);
        late.wait(from);
        waited.record(), seen.record();
        late.synchronize(), later.synchronize();
        CHECK(waited.since(after) >= 0);
        CHECK(seen.since(end) == doctest::Approx(0).epsilon(1e-9));
    });
}

TEST_CASE(
    "vgpu clock: streams of a device share its engine for kernels, and copies have their own") {
    on_time_once([] {
        const Stream s(0), t(0);
        const TimedEvent start(s), end(s), other(t), joined(s);
        Spin a(10), b(10);
        start.record();
        t.wait(start);
        a.on(s), b.on(t);
        end.record(), other.record();
        s.wait(other);
        joined.record();
        s.synchronize();
        check_ms(joined.since(start), a.took + b.took);
        check_ms(std::min(end.since(start), other.since(start)), std::min(a.took, b.took));

        // Copies to the device, from it and from another one: beside a kernel and beside each
        // other.
        constexpr size_t kBytes = size_t(8) << 20;
        wt::PinnedBuffer<char> host(kBytes), back(kBytes);
        const wt::DeviceBuffer<char> d0(0, kBytes), e0(0, kBytes), f0(0, kBytes), d1(1, kBytes);
        std::fill_n(host.data(), kBytes, 1), std::fill_n(back.data(), kBytes, 2);
        const Stream copies[3] = {Stream(0), Stream(0), Stream(0)};
        std::vector<TimedEvent> begins, ends;
        for (const Stream& c : copies) begins.emplace_back(c), ends.emplace_back(c);
        Spin kernel(30);
        const TimedEvent from(s), to(s);
        from.record();
        kernel.on(s);
        to.record();
        for (int i = 0; i < 3; ++i) {
            copies[i].wait(from);
            begins[i].record();
            if (i == 0)
                WT_CUDA(cudaMemcpyAsync(d0.data(), host.data(), kBytes, cudaMemcpyHostToDevice,
                                        copies[i].get()));
            if (i == 1)
                WT_CUDA(cudaMemcpyAsync(back.data(), e0.data(), kBytes, cudaMemcpyDeviceToHost,
                                        copies[i].get()));
            if (i == 2)
                WT_CUDA(cudaMemcpyPeerAsync(f0.data(), 0, d1.data(), 1, kBytes, copies[i].get()));
            ends[i].record();
            s.wait(ends[i]);
        }
        joined.record();
        s.synchronize();
        double longest = to.since(from);
        for (int i = 0; i < 3; ++i) {
            CHECK(ends[i].since(begins[i]) > 0.05f);  // 160 GB/s would be more than these cores can
            CHECK(begins[i].since(from) == 0);
            longest = std::max<double>(longest, ends[i].since(from));
        }
        check_ms(to.since(from), kernel.took);
        CHECK(joined.since(from) == doctest::Approx(longest).epsilon(1e-6));

        // A copy inside the device and a memset are work for its cores.
        const TimedEvent again(s), inside(t);
        Spin before(10);
        again.record();
        t.wait(again);
        before.on(s);
        WT_CUDA(cudaMemcpyAsync(e0.data(), d0.data(), kBytes, cudaMemcpyDeviceToDevice, t.get()));
        WT_CUDA(cudaMemsetAsync(d0.data(), 0, kBytes, t.get()));
        inside.record();
        t.synchronize();
        CHECK(inside.since(again) > before.took);
    });
}

TEST_CASE("vgpu clock: the default stream and the blocking streams come one after the other") {
    cudaStream_t blocking;
    WT_CUDA(cudaStreamCreate(&blocking));
    const Stream apart(0);
    const Event start(0, true), middle(0, true), end(0, true), beside(0, true), origin(0, true);
    const auto work = [](cudaStream_t s, int ms) {
        vgpu::enqueue(s, "spin", [ms] { Spin(ms).run(); });
    };
    start.record(blocking);
    work(blocking, 10);
    work(nullptr, 10);
    middle.record(nullptr);
    work(blocking, 10);
    end.record(blocking);
    WT_CUDA(cudaStreamSynchronize(nullptr));
    WT_CUDA(cudaStreamSynchronize(blocking));
    CHECK(middle.since(start) >= 20);
    CHECK(end.since(start) >= 30);
    CHECK(end.since(middle) >= 10);
    // A stream that does not wait for the default stream shares the engine, not the order.
    origin.record(apart.get());
    WT_CUDA(cudaLaunchHostFunc(
        nullptr, [](void*) { std::this_thread::sleep_for(std::chrono::milliseconds(10)); },
        nullptr));
    beside.record(apart.get());
    apart.synchronize();
    WT_CUDA(cudaStreamSynchronize(nullptr));
    CHECK(beside.since(origin) == 0);
    WT_CUDA(cudaStreamDestroy(blocking));
}

TEST_CASE("vgpu clock: a graph's branches, node by node, under every seed") {
    on_time_once([] {
        for (const uint64_t seed : wt::test::seeds(5)) {
            const wt::test::SeedGuard guard(seed);
            INFO("seed " << seed);
            const Stream s(0), t(1), u(0);
            const Event forked(0), joined_t(1), joined_u(0);
            Spin a(4), b(12), c(6), d(4), e(2);
            // a, then b on device 1 beside c and d on device 0; then e.
            const Graph graph(s, [&] {
                a.on(s);
                forked.record(s.get());
                t.wait(forked), u.wait(forked);
                b.on(t), c.on(s), d.on(u);
                joined_t.record(t.get()), joined_u.record(u.get());
                s.wait(joined_t), s.wait(joined_u);
                e.on(s);
            });
            const TimedEvent start(s), end(s);
            for (int times = 0; times < 2; ++times) {
                start.record();
                graph.launch(s);
                end.record();
                s.synchronize();
                check_ms(end.since(start), a.took + std::max(b.took, c.took + d.took) + e.took);
            }
        }
    });
}

// A step's shape: gradients become ready one after the other, each is summed on a second stream
// while the first goes on. The sum begins as soon as the engine is free, whatever the dispatcher
// ran before it.
TEST_CASE("vgpu clock: a seed's order of execution does not show in the times") {
    for (const uint64_t seed : wt::test::seeds(20)) {
        const wt::test::SeedGuard guard(seed);
        INFO("seed " << seed);
        on_time_once([] {
            const Stream compute(0), comm(0);
            std::vector<Spin> layers(4, Spin(2)), sums(4, Spin(1));
            std::vector<Event> ready;
            std::vector<TimedEvent> begins, ends;
            for (int i = 0; i < 4; ++i)
                ready.emplace_back(0), begins.emplace_back(comm), ends.emplace_back(comm);
            const TimedEvent start(compute), last(compute);
            start.record();
            for (int i = 0; i < 4; ++i) {
                layers[i].on(compute);
                ready[i].record(compute.get());
                comm.wait(ready[i]);
                begins[i].record();
                sums[i].on(comm);
                ends[i].record();
            }
            last.record();
            compute.synchronize(), comm.synchronize();
            // At the end of a layer the sum and the next layer could both begin: the one that was
            // submitted first does, the sum.
            double at = 0;
            for (int i = 0; i < 4; ++i) {
                at += layers[i].took;
                check_ms(begins[i].since(start), at);
                at += sums[i].took;
                check_ms(ends[i].since(start), at);
            }
            late = late || !(last.since(start) <= at - sums[3].took + 1.5);
        });
    }
}
