// The virtual GPU's runtime: order of streams, events, host functions, seeds, host threads.
#include <doctest/doctest.h>

#include <atomic>
#include <barrier>
#include <chrono>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

#include "host/cuda/buffer.h"
#include "host/cuda/stream.h"
#include "kernels/launch.h"

namespace {

using wt::DeviceBuffer;
using wt::Event;
using wt::Stream;

constexpr int kSeeds = 20;

// Leaves the seed as it was, whatever a test did with it.
struct SeedGuard {
    uint64_t before = vgpu::seed();
    ~SeedGuard() { vgpu::set_seed(before); }
};

// For tests that fail device 0 on purpose: whatever happens, the tests after them find it in order.
struct ResetAfter {
    ~ResetAfter() { cudaDeviceReset(); }
};

__global__ void add_one(int* x, int n) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) x[i] += 1;
}

__global__ void multiply_add(int* x, int factor, int term) {
    x[threadIdx.x] = x[threadIdx.x] * factor + term;
}

__global__ void copy_values(int* to, const int* from, int n) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) to[i] = from[i];
}

void affine(const Stream& s, int* x, int factor, int term) {
    wt::launch("multiply_add", {dim3(1), dim3(1), s.get()}, multiply_add, x, factor, term);
}

// Closures on three streams that log who ran: the order that a seed chose.
std::vector<int> order_of(uint64_t seed) {
    vgpu::set_seed(seed);
    std::vector<int> log;
    const Stream s[3] = {Stream(0), Stream(0), Stream(1)};
    for (int i = 0; i < 8; ++i)
        for (int k = 0; k < 3; ++k)
            vgpu::enqueue(s[k].get(), "log", [&log, i, k] { log.push_back(k * 100 + i); });
    for (const Stream& t : s) t.synchronize();
    return log;
}

// Whether the consumer saw the producer's values; the wait between them may be left out.
bool consumer_sees_producer(uint64_t seed, int consumer_device, bool with_wait) {
    vgpu::set_seed(seed);
    constexpr int n = 300;
    const Stream produce(0), consume(consumer_device);
    DeviceBuffer<int> a(0, n), b(consumer_device, n);
    a.upload(std::vector<int>(n, 0));
    b.upload(std::vector<int>(n, 0));
    const Event done(0);
    wt::launch("add_one", {dim3(2), dim3(256), produce.get()}, add_one, a.data(), n);
    wt::launch("add_one", {dim3(2), dim3(256), produce.get()}, add_one, a.data(), n);
    done.record(produce.get());
    if (with_wait) consume.wait(done);
    WT_CUDA(cudaMemcpyAsync(b.data(), a.data(), n * sizeof(int), cudaMemcpyDefault, consume.get()));
    consume.synchronize();
    produce.synchronize();
    return b.download() == std::vector<int>(n, 2);
}

}  // namespace

TEST_CASE("vgpu streams: a stream keeps its order under every seed") {
    SeedGuard guard;
    for (uint64_t seed = 0; seed <= kSeeds; ++seed) {
        vgpu::set_seed(seed);
        const Stream s(0), other(0);
        DeviceBuffer<int> x(0, 1), y(0, 1);
        x.upload({1});
        y.upload({1});
        for (int i = 0; i < 5; ++i) affine(s, x.data(), 2, i), affine(other, y.data(), 3, 1);
        s.synchronize();
        other.synchronize();
        CHECK(x.download()[0] == 58);
        CHECK(y.download()[0] == 364);
    }
}

TEST_CASE(
    "vgpu streams: a missing wait shows under some seed, the right program passes under all") {
    SeedGuard guard;
    for (int device = 0; device < 2; ++device) {
        CAPTURE(device);
        int wrong = 0;
        for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
            CHECK(consumer_sees_producer(seed, device, true));
            wrong += !consumer_sees_producer(seed, device, false);
        }
        CHECK(wrong > 0);
        CHECK(wrong < kSeeds);
        CHECK(consumer_sees_producer(0, device, false));  // 0 is the order of submission
    }
}

TEST_CASE("vgpu streams: a seed repeats its order, and seeds differ") {
    SeedGuard guard;
    std::vector<int> in_turn;
    for (int i = 0; i < 8; ++i)
        for (int k = 0; k < 3; ++k) in_turn.push_back(k * 100 + i);
    CHECK(order_of(0) == in_turn);
    int different = 0;
    for (uint64_t seed = 1; seed <= 10; ++seed) {
        const auto once = order_of(seed);
        CHECK(once == order_of(seed));
        different += once != order_of(seed + 1);
    }
    CHECK(different >= 8);
}

TEST_CASE("vgpu streams: the default stream comes between the work of blocking streams") {
    SeedGuard guard;
    int unordered = 0;
    for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
        vgpu::set_seed(seed);
        for (unsigned flags : {cudaStreamDefault, cudaStreamNonBlocking}) {
            cudaStream_t s, t;
            WT_CUDA(cudaStreamCreateWithFlags(&s, flags));
            WT_CUDA(cudaStreamCreateWithFlags(&t, flags));
            std::vector<int> log;
            vgpu::enqueue(s, "first", [&] { log.push_back(1); });
            vgpu::enqueue(nullptr, "second", [&] { log.push_back(2); });
            vgpu::enqueue(t, "third", [&] { log.push_back(3); });
            WT_CUDA(cudaDeviceSynchronize());
            if (flags == cudaStreamDefault)
                CHECK(log == std::vector<int>{1, 2, 3});
            else
                unordered += log != std::vector<int>{1, 2, 3};
            WT_CUDA(cudaStreamDestroy(s));
            WT_CUDA(cudaStreamDestroy(t));
        }
    }
    CHECK(unordered > 0);
    // Synchronising the default stream waits for blocking streams as well.
    cudaStream_t s;
    WT_CUDA(cudaStreamCreate(&s));
    bool ran = false;
    vgpu::enqueue(s, "work", [&] { ran = true; });
    WT_CUDA(cudaStreamSynchronize(nullptr));
    CHECK(ran);
    WT_CUDA(cudaStreamDestroy(s));
}

TEST_CASE("vgpu events: a wait keeps the record it saw") {
    SeedGuard guard;
    for (uint64_t seed = 0; seed <= kSeeds; ++seed) {
        vgpu::set_seed(seed);
        const Stream a(0), b(0);
        const Event e(0), never(0);
        std::vector<int> log;
        b.wait(never);  // no record: no wait
        vgpu::enqueue(a.get(), "1", [&] { log.push_back(1); });
        e.record(a.get());
        b.wait(e);
        vgpu::enqueue(b.get(), "2", [&] { log.push_back(2); });
        const Event after(0);
        after.record(b.get());
        a.wait(after);  // would never end if b's wait looked at the record below
        e.record(a.get());
        vgpu::enqueue(a.get(), "3", [&] { log.push_back(3); });
        a.synchronize();
        CHECK(log == std::vector<int>{1, 2, 3});
        never.synchronize();
        CHECK(cudaEventQuery(never.get()) == cudaSuccess);
    }
}

TEST_CASE("vgpu events: queries answer not-ready, and polling ends") {
    const Stream s(0);
    const Event e(0);
    int ran = 0;
    for (int i = 0; i < 4; ++i) vgpu::enqueue(s.get(), "work", [&] { ++ran; });
    e.record(s.get());
    CHECK(cudaStreamQuery(s.get()) == cudaErrorNotReady);
    CHECK(cudaGetLastError() == cudaErrorNotReady);
    int polls = 0;
    while (cudaEventQuery(e.get()) == cudaErrorNotReady) ++polls;
    CHECK(ran == 4);
    CHECK(polls < 10);
    cudaGetLastError();
    CHECK(cudaStreamQuery(s.get()) == cudaSuccess);
    CHECK(cudaGetLastError() == cudaSuccess);
}

TEST_CASE("vgpu events: elapsed time is the time that work took") {
    const Stream s(0);
    const Event start(0, true), stop(0, true), untimed(0);
    start.record(s.get());
    float ms = -1;
    WT_CUDA(cudaLaunchHostFunc(
        s.get(), [](void*) { std::this_thread::sleep_for(std::chrono::milliseconds(20)); },
        nullptr));
    stop.record(s.get());
    untimed.record(s.get());
    CHECK(cudaEventElapsedTime(&ms, start.get(), stop.get()) == cudaErrorNotReady);
    cudaGetLastError();
    stop.synchronize();
    CHECK(stop.since(start) >= 20.0f);
    CHECK(stop.since(start) < 2000.0f);
    s.synchronize();
    CHECK(cudaEventElapsedTime(&ms, start.get(), untimed.get()) == cudaErrorInvalidResourceHandle);
    const Event never(0, true);
    CHECK(cudaEventElapsedTime(&ms, never.get(), stop.get()) == cudaErrorInvalidResourceHandle);
    cudaGetLastError();
}

TEST_CASE("vgpu streams: host functions run in order, and may not use streams themselves") {
    const Stream s(0);
    struct State {
        cudaStream_t stream;
        int calls = 0;
        cudaError_t inside = cudaSuccess;
    } state{s.get()};
    const auto fn = [](void* p) {
        auto* st = static_cast<State*>(p);
        ++st->calls;
        st->inside = cudaStreamSynchronize(st->stream);
    };
    WT_CUDA(cudaLaunchHostFunc(s.get(), fn, &state));
    WT_CUDA(cudaLaunchHostFunc(s.get(), fn, &state));
    CHECK(state.calls == 0);
    s.synchronize();
    CHECK(state.calls == 2);
    CHECK(state.inside == cudaErrorNotPermitted);
}

TEST_CASE(
    "vgpu streams: an exception in queued host work fails the device and drops what follows") {
    ResetAfter reset;
    const Stream s(0);
    const Stream elsewhere(1);
    bool after = false, other = false;
    vgpu::enqueue(s.get(), "matmul", [] { throw std::runtime_error("no such engine"); });
    vgpu::enqueue(s.get(), "next", [&] { after = true; });
    Event e(0);
    e.record(s.get());
    elsewhere.wait(e);  // a dropped record still lets others go on
    vgpu::enqueue(elsewhere.get(), "other", [&] { other = true; });
    CHECK(cudaStreamSynchronize(s.get()) == cudaErrorLaunchFailure);
    CHECK(std::string(cudaGetErrorString(cudaErrorLaunchFailure))
              .find("matmul on device 0: no such engine") != std::string::npos);
    CHECK(vgpu::last_failure() == "matmul on device 0: no such engine");
    CHECK_FALSE(after);
    elsewhere.synchronize();
    CHECK(other);
    CHECK(cudaGetLastError() == cudaErrorLaunchFailure);
    CHECK(cudaGetLastError() == cudaErrorLaunchFailure);  // stays
    WT_CUDA(cudaDeviceReset());
    CHECK(cudaGetLastError() == cudaSuccess);
    CHECK(vgpu::last_failure().empty());
    const Stream again(0);
    again.synchronize();
}

TEST_CASE("vgpu streams: two host threads drive two devices and exchange through events") {
    SeedGuard guard;
    for (uint64_t seed : {0, 1, 2, 3, 4, 5, 6, 7}) {
        vgpu::set_seed(seed);
        constexpr int n = 64, steps = 12;
        struct Side {
            Stream compute, exchange;
            Event computed, received, sent_back;
            DeviceBuffer<int> mine, theirs;
            explicit Side(int d)
                : compute(d),
                  exchange(d),
                  computed(d),
                  received(d),
                  sent_back(d),
                  mine(d, n),
                  theirs(d, n) {}
        };
        Side side[2] = {Side(0), Side(1)};
        std::barrier meet(2);
        std::vector<int> result[2];
        const auto work = [&](int d) {
            WT_CUDA(cudaSetDevice(d));
            Side &me = side[d], &you = side[1 - d];
            me.mine.upload(std::vector<int>(n, d));
            for (int step = 0; step < steps; ++step) {
                wt::launch("add_one", {dim3(1), dim3(n), me.compute.get()}, add_one, me.mine.data(),
                           n);
                me.computed.record(me.compute.get());
                meet.arrive_and_wait();  // both have recorded
                me.exchange.wait(you.computed);
                WT_CUDA(cudaMemcpyPeerAsync(me.theirs.data(), d, you.mine.data(), 1 - d,
                                            n * sizeof(int), me.exchange.get()));
                me.received.record(me.exchange.get());
                meet.arrive_and_wait();
                me.compute.wait(me.received);   // my copy of theirs is here
                me.compute.wait(you.received);  // and they have read mine
                wt::launch("copy", {dim3(1), dim3(n), me.compute.get()}, copy_values,
                           me.mine.data(), me.theirs.data(), n);
                // What `theirs` holds is used up before the next copy into it.
                me.sent_back.record(me.compute.get());
                me.exchange.wait(me.sent_back);
                if (step % 4 == 3) me.compute.synchronize();
            }
            me.compute.synchronize();
            result[d] = me.mine.download();
        };
        std::thread other(work, 1);
        work(0);
        other.join();
        // Values swap sides at every step.
        CHECK(result[0] == std::vector<int>(n, 0 + steps));
        CHECK(result[1] == std::vector<int>(n, 1 + steps));
        WT_CUDA(cudaSetDevice(0));
    }
}

TEST_CASE(
    "vgpu streams: pageable sources are read at the call, page-locked ones when the copy runs") {
    const Stream s(0);
    DeviceBuffer<int> d(0, 4);
    std::vector<int> pageable{1, 2, 3, 4};
    WT_CUDA(cudaMemcpyAsync(d.data(), pageable.data(), 16, cudaMemcpyHostToDevice, s.get()));
    pageable.assign(4, 9);
    s.synchronize();
    CHECK(d.download() == std::vector<int>{1, 2, 3, 4});
    wt::PinnedBuffer<int> pinned(4);
    for (int i = 0; i < 4; ++i) pinned[i] = i;
    WT_CUDA(cudaMemcpyAsync(d.data(), pinned.data(), 16, cudaMemcpyHostToDevice, s.get()));
    for (int i = 0; i < 4; ++i) pinned[i] = 7;
    s.synchronize();
    CHECK(d.download() == std::vector<int>(4, 7));
    // Into pageable memory the call waits; into page-locked memory it does not.
    std::vector<int> back(4);
    WT_CUDA(cudaMemcpyAsync(back.data(), d.data(), 16, cudaMemcpyDeviceToHost, s.get()));
    CHECK(back == std::vector<int>(4, 7));
    pinned[0] = 0;
    WT_CUDA(cudaMemcpyAsync(pinned.data(), d.data(), 16, cudaMemcpyDeviceToHost, s.get()));
    CHECK(pinned[0] == 0);
    s.synchronize();
    CHECK(pinned[0] == 7);
}

TEST_CASE(
    "vgpu streams: very much queued work runs without a wait, and a destroyed stream's work is not lost") {
    SeedGuard guard;
    for (uint64_t seed : {0, 3}) {
        vgpu::set_seed(seed);
        int ran = 0, expected = 0;
        bool in_order = true;
        {
            const Stream s(0), t(1);
            for (int i = 0; i < 12000; ++i)
                vgpu::enqueue((i % 3 ? s : t).get(), "count", [&ran] { ++ran; });
            CHECK(ran > 0);
            for (int i = 0; i < 50; ++i)
                vgpu::enqueue(s.get(), "order", [&, i] { in_order &= expected++ == i; });
        }
        CHECK(ran == 12000);
        CHECK(expected == 50);
        CHECK(in_order);
    }
}

TEST_CASE("vgpu streams: many host threads submit, wait, record and free at once") {
    SeedGuard guard;
    for (uint64_t seed : {0, 5}) {
        vgpu::set_seed(seed);
        constexpr int threads = 6, rounds = 60;
        std::atomic<int> wrong{0};
        const auto work = [&](int id) {
            const int device = id % 2;
            cudaSetDevice(device);
            const Stream a(device), b(device);
            const Event forth(device), back(device);
            DeviceBuffer<int> x(device, 1);
            x.upload({0});
            for (int r = 0; r < rounds; ++r) {
                DeviceBuffer<int> scratch(device, 100 + r);
                affine(a, x.data(), 1, 1);
                forth.record(a.get());
                b.wait(forth);
                affine(b, x.data(), 1, 1);
                back.record(b.get());
                a.wait(back);
                affine(a, scratch.data(), 0, r);
                if (r % 7 == 0) a.synchronize();
                if (r % 5 == 0) cudaEventQuery(back.get());
            }
            a.synchronize();
            wrong += x.download()[0] != 2 * rounds;
        };
        std::vector<std::thread> all;
        for (int t = 0; t < threads; ++t) all.emplace_back(work, t);
        for (auto& t : all) t.join();
        CHECK(wrong == 0);
    }
}
