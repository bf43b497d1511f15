// The virtual GPU's runtime: stream capture and graphs.
#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "host/cuda/buffer.h"
#include "host/cuda/stream.h"
#include "kernels/launch.h"
#include "kernels/ptx/griddep.h"

namespace {

using wt::DeviceBuffer;
using wt::Event;
using wt::Graph;
using wt::Stream;

struct SeedGuard {
    uint64_t before = vgpu::seed();
    ~SeedGuard() { vgpu::set_seed(before); }
};

// For tests that fail device 0 on purpose: whatever happens, the tests after them find it in order.
struct ResetAfter {
    ~ResetAfter() { cudaDeviceReset(); }
};

__global__ void multiply_add(int* x, int factor, int term) {
    x[threadIdx.x] = x[threadIdx.x] * factor + term;
}
__global__ void sum_into(int* to, const int* a, const int* b) {
    to[threadIdx.x] = a[threadIdx.x] + b[threadIdx.x];
}

__global__ void waits_then_adds(int* x, int from) {
    if (static_cast<int>(threadIdx.x) >= from) wt::ptx::griddep_wait();
    x[threadIdx.x] += 1;
}

struct ForkJoin {
    Stream main{0}, side{0};
    Event fork{0}, join{0};
    DeviceBuffer<int> x{0, 32}, y{0, 32}, z{0, 32};

    void start() {
        x.upload(std::vector<int>(32, 1));
        y.upload(std::vector<int>(32, 2));
        z.upload(std::vector<int>(32, 0));
    }
    // x = 3x + z; beside it y = 2y + 1; then z = x + y. `joined` false leaves the second wait out.
    void step(bool joined = true) {
        wt::launch("multiply_add", {dim3(1), dim3(32), main.get()}, multiply_add, z.data(), 1, 0);
        fork.record(main.get());
        side.wait(fork);
        wt::launch("multiply_add", {dim3(1), dim3(32), side.get()}, multiply_add, y.data(), 2, 1);
        wt::launch("sum", {dim3(1), dim3(32), main.get()}, sum_into, x.data(), x.data(), z.data());
        join.record(side.get());
        if (joined) main.wait(join);
        wt::launch("sum", {dim3(1), dim3(32), main.get()}, sum_into, z.data(), x.data(), y.data());
    }
};

cudaStreamCaptureStatus status(const Stream& s) {
    cudaStreamCaptureStatus st;
    WT_CUDA(cudaStreamIsCapturing(s.get(), &st));
    return st;
}

// Ends a capture that is expected to have failed.
cudaError_t end(const Stream& s) {
    cudaGraph_t g;
    const cudaError_t e = cudaStreamEndCapture(s.get(), &g);
    CHECK(g == nullptr);
    cudaGetLastError();
    return e;
}

void begin(const Stream& s, cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal) {
    WT_CUDA(cudaStreamBeginCapture(s.get(), mode));
}

}  // namespace

TEST_CASE("vgpu graphs: a fork and join over two streams, replayed, equals the same work eager") {
    SeedGuard guard;
    constexpr int steps = 10;
    for (uint64_t seed = 0; seed <= 20; ++seed) {
        vgpu::set_seed(seed);
        ForkJoin eager, captured;
        eager.start();
        captured.start();
        for (int i = 0; i < steps; ++i) eager.step();
        eager.main.synchronize();
        Graph graph(captured.main, [&] { captured.step(); });
        CHECK(status(captured.side) == cudaStreamCaptureStatusNone);
        for (int i = 0; i < steps; ++i) graph.launch(captured.main);
        graph = Graph();  // queued launches keep what they need
        captured.main.synchronize();
        CHECK(captured.z.download() == eager.z.download());
        CHECK(captured.x.download() == eager.x.download());
        CHECK(captured.z.download()[0] != 0);
    }
}

TEST_CASE("vgpu graphs: capturing runs nothing, and nodes are counted") {
    ForkJoin f;
    f.start();
    begin(f.main);
    CHECK(status(f.main) == cudaStreamCaptureStatusActive);
    f.step();
    CHECK(status(f.side) == cudaStreamCaptureStatusActive);
    cudaGraph_t g;
    WT_CUDA(cudaStreamEndCapture(f.main.get(), &g));
    size_t count = 0;
    WT_CUDA(cudaGraphGetNodes(g, nullptr, &count));
    CHECK(count == 4);
    std::vector<cudaGraphNode_t> nodes(count);
    WT_CUDA(cudaGraphGetNodes(g, nodes.data(), &count));
    CHECK(nodes[0] != nodes[3]);
    f.main.synchronize();
    CHECK(f.z.download() == std::vector<int>(32, 0));
    WT_CUDA(cudaGraphDestroy(g));
}

TEST_CASE(
    "vgpu graphs: copies, memsets and closures are captured; sources are read at each launch") {
    const Stream s(0);
    DeviceBuffer<int> d(0, 4);
    wt::PinnedBuffer<int> in(4), out(4);
    int ran = 0;
    auto alive = std::make_shared<int>(0);
    {
        const Graph g(s, [&] {
            WT_CUDA(cudaMemsetAsync(d.data(), 0, 16, s.get()));
            WT_CUDA(cudaMemcpyAsync(d.data(), in.data(), 8, cudaMemcpyHostToDevice, s.get()));
            WT_CUDA(vgpu::enqueue(s.get(), "closure", [&ran, alive] { ++ran; }));
            WT_CUDA(cudaMemcpyAsync(out.data(), d.data(), 16, cudaMemcpyDeviceToHost, s.get()));
        });
        CHECK(ran == 0);
        for (int i = 1; i <= 3; ++i) {
            for (int k = 0; k < 4; ++k) in[k] = 10 * i + k, out[k] = -1;
            g.launch(s);
            s.synchronize();
            CHECK(ran == i);
            CHECK(std::vector<int>(out.data(), out.data() + 4) ==
                  std::vector<int>{10 * i, 10 * i + 1, 0, 0});
        }
        CHECK(alive.use_count() > 1);
    }
    CHECK(alive.use_count() == 1);
}

TEST_CASE("vgpu graphs: across devices, with the work of each on its own") {
    SeedGuard guard;
    for (uint64_t seed = 0; seed <= 10; ++seed) {
        vgpu::set_seed(seed);
        const Stream a(0), b(1);
        const Event fork(0), join(1);
        DeviceBuffer<int> x(0, 8), y(1, 8);
        x.upload(std::vector<int>(8, 1));
        y.upload(std::vector<int>(8, 0));
        const Graph g(a, [&] {
            wt::launch("multiply_add", {dim3(1), dim3(8), a.get()}, multiply_add, x.data(), 2, 0);
            fork.record(a.get());
            b.wait(fork);
            WT_CUDA(cudaMemcpyPeerAsync(y.data(), 1, x.data(), 0, 32, b.get()));
            {
                wt::DeviceGuard on(1);
                wt::launch("multiply_add", {dim3(1), dim3(8), b.get()}, multiply_add, y.data(), 1,
                           1);
            }
            WT_CUDA(cudaMemcpyPeerAsync(x.data(), 0, y.data(), 1, 32, b.get()));
            join.record(b.get());
            a.wait(join);
            wt::launch("multiply_add", {dim3(1), dim3(8), a.get()}, multiply_add, x.data(), 1, 10);
        });
        g.launch(a);
        g.launch(a);
        a.synchronize();
        CHECK(x.download() == std::vector<int>(8, 37));
    }
}

TEST_CASE("vgpu graphs: what a capture forbids invalidates it, with CUDA's errors") {
    ForkJoin f;
    f.start();
    SUBCASE("synchronise the stream") {
        begin(f.main);
        CHECK(cudaStreamSynchronize(f.main.get()) == cudaErrorStreamCaptureUnsupported);
        CHECK(status(f.main) == cudaStreamCaptureStatusInvalidated);
        CHECK(cudaMemsetAsync(f.x.data(), 0, 4, f.main.get()) == cudaErrorStreamCaptureInvalidated);
        CHECK(end(f.main) == cudaErrorStreamCaptureInvalidated);
    }
    SUBCASE("synchronise the device") {
        begin(f.main);
        CHECK(cudaDeviceSynchronize() == cudaErrorStreamCaptureUnsupported);
        CHECK(end(f.main) == cudaErrorStreamCaptureInvalidated);
    }
    SUBCASE("allocate") {
        begin(f.main);
        int* p;
        CHECK(cudaMalloc(&p, 4) == cudaErrorStreamCaptureUnsupported);
        CHECK(end(f.main) == cudaErrorStreamCaptureInvalidated);
    }
    SUBCASE("allocate in relaxed mode") {
        begin(f.main, cudaStreamCaptureModeRelaxed);
        int* p;
        CHECK(cudaMalloc(&p, 4) == cudaSuccess);
        cudaGraph_t g;
        WT_CUDA(cudaStreamEndCapture(f.main.get(), &g));
        WT_CUDA(cudaGraphDestroy(g));
        WT_CUDA(cudaFree(p));
    }
    SUBCASE("blocking copy") {
        begin(f.main);
        int v = 0;
        CHECK(cudaMemcpy(f.x.data(), &v, 4, cudaMemcpyHostToDevice) ==
              cudaErrorStreamCaptureUnsupported);
        CHECK(end(f.main) == cudaErrorStreamCaptureInvalidated);
    }
    SUBCASE("work left unjoined") {
        begin(f.main);
        f.step(false);
        CHECK(end(f.main) == cudaErrorStreamCaptureUnjoined);
        CHECK(status(f.side) == cudaStreamCaptureStatusNone);
    }
    SUBCASE("an event from outside") {
        f.fork.record(f.side.get());
        begin(f.main);
        CHECK(cudaStreamWaitEvent(f.main.get(), f.fork.get(), 0) ==
              cudaErrorStreamCaptureIsolation);
        CHECK(end(f.main) == cudaErrorStreamCaptureInvalidated);
    }
    SUBCASE("two captures meet") {
        begin(f.main);
        begin(f.side);
        f.fork.record(f.main.get());
        CHECK(cudaStreamWaitEvent(f.side.get(), f.fork.get(), 0) == cudaErrorStreamCaptureMerge);
        CHECK(end(f.main) == cudaErrorStreamCaptureInvalidated);
        CHECK(end(f.side) == cudaErrorStreamCaptureInvalidated);
    }
    SUBCASE("ended on a stream that joined") {
        begin(f.main);
        f.fork.record(f.main.get());
        f.side.wait(f.fork);
        CHECK(end(f.side) == cudaErrorStreamCaptureUnmatched);
        CHECK(end(f.main) == cudaErrorStreamCaptureInvalidated);
    }
    SUBCASE("default stream beside a blocking stream") {
        cudaStream_t s;
        WT_CUDA(cudaStreamCreate(&s));
        WT_CUDA(cudaStreamBeginCapture(s, cudaStreamCaptureModeRelaxed));
        CHECK(cudaMemsetAsync(f.x.data(), 0, 4, nullptr) == cudaErrorStreamCaptureImplicit);
        cudaGraph_t g;
        CHECK(cudaStreamEndCapture(s, &g) == cudaErrorStreamCaptureInvalidated);
        WT_CUDA(cudaStreamDestroy(s));
    }
    SUBCASE("the default stream itself") {
        CHECK(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeRelaxed) ==
              cudaErrorStreamCaptureUnsupported);
    }
    SUBCASE("query a captured event") {
        begin(f.main, cudaStreamCaptureModeRelaxed);
        f.fork.record(f.main.get());
        CHECK(cudaEventQuery(f.fork.get()) == cudaErrorCapturedEvent);
        cudaGraph_t g;
        WT_CUDA(cudaStreamEndCapture(f.main.get(), &g));
        WT_CUDA(cudaGraphDestroy(g));
    }
    SUBCASE("an exception inside wt::Graph leaves the stream usable") {
        CHECK_THROWS(Graph(f.main, [] { throw wt::Error("stop"); }));
        CHECK(status(f.main) == cudaStreamCaptureStatusNone);
    }
    cudaGetLastError();
    f.step();
    f.main.synchronize();
    CHECK(f.z.download() == std::vector<int>(32, 6));
}

TEST_CASE("vgpu graphs: freed memory in a node fails the launch") {
    ResetAfter reset;
    const Stream s(0);
    int* p;
    WT_CUDA(cudaMalloc(&p, 128));
    const Graph g(s, [&] {
        wt::launch("multiply_add", {dim3(1), dim3(32), s.get()}, multiply_add, p, 1, 1);
    });
    g.launch(s);
    s.synchronize();
    WT_CUDA(cudaFree(p));
    g.launch(s);
    CHECK(cudaStreamSynchronize(s.get()) == cudaErrorIllegalAddress);
    CHECK(vgpu::last_failure().find("multiply_add") != std::string::npos);
    CHECK(vgpu::last_failure().find("freed memory of device 0") != std::string::npos);
}

TEST_CASE("vgpu graphs: a kernel launched as dependent must wait, in every thread") {
    ResetAfter reset;
    const Stream s(0);
    DeviceBuffer<int> x(0, 64);
    x.upload(std::vector<int>(64, 1));
    const wt::LaunchShape shape{dim3(1), dim3(64), s.get()};
    wt::launch("waits", shape.with_pdl(), waits_then_adds, x.data(), 0);
    wt::launch("does not, and need not", shape, waits_then_adds, x.data(), 64);
    s.synchronize();
    CHECK(x.download() == std::vector<int>(64, 3));
    wt::pdl_enabled = false;  // bin/train --pdl off: then none is
    wt::launch("does not", shape.with_pdl(), waits_then_adds, x.data(), 3);
    wt::pdl_enabled = true;
    s.synchronize();
    CHECK(x.download() == std::vector<int>(64, 4));
    wt::launch("waits", shape.with_pdl(), waits_then_adds, x.data(), 3);
    CHECK(cudaStreamSynchronize(s.get()) == cudaErrorLaunchFailure);
    CHECK(vgpu::last_failure().find("waits_then_adds") != std::string::npos);
    CHECK(vgpu::last_failure().find("3 of 64 threads do not wait") != std::string::npos);
}
