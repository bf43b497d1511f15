// The owners of devices, buffers, streams, events and graphs. Runs on real and virtual GPUs.
#include <doctest/doctest.h>

#include <cstring>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "host/cuda/buffer.h"
#include "host/cuda/nvtx.h"
#include "host/cuda/stream.h"

namespace {

using wt::DeviceBuffer;
using wt::DeviceGuard;
using wt::Event;
using wt::Graph;
using wt::PinnedBuffer;
using wt::Stream;

int current() {
    int d = -1;
    WT_CUDA(cudaGetDevice(&d));
    return d;
}

bool no_device() {
    if (wt::device_count() > 0) return false;
    MESSAGE("skip: no device");
    return true;
}

// The devices that a test may use as "this one and another"; the same twice where there is one GPU.
int other_device() { return wt::device_count() > 1 ? 1 : 0; }

std::vector<int> counted(size_t n, int from = 0) {
    std::vector<int> v(n);
    std::iota(v.begin(), v.end(), from);
    return v;
}

}  // namespace

TEST_CASE("owners: a device guard restores what was current, nested and through exceptions") {
    if (no_device()) return;
    const int other = other_device();
    CHECK(current() == 0);
    {
        const DeviceGuard a(other);
        CHECK(current() == other);
        {
            const DeviceGuard b(0);
            CHECK(current() == 0);
        }
        CHECK(current() == other);
    }
    CHECK(current() == 0);
    try {
        const DeviceGuard a(other);
        throw 1;
    } catch (int) {
    }
    CHECK(current() == 0);
    CHECK_THROWS_WITH_AS(DeviceGuard(1000), doctest::Contains("cudaErrorInvalidDevice"), wt::Error);
    CHECK(current() == 0);
    CHECK(cudaGetLastError() == cudaSuccess);  // what throws has cleared it
    // Current is per thread.
    std::thread([&] {
        WT_CUDA(cudaSetDevice(other));
        CHECK(current() == other);
    }).join();
    CHECK(current() == 0);
}

TEST_CASE("owners: a buffer is freed on its device while another is current") {
    if (no_device()) return;
    const int other = other_device();
    const size_t bytes = size_t(64) << 20;
    const size_t before = wt::device_free_bytes(other);
    {
        DeviceBuffer<char> b(other, bytes);
        CHECK(b.device() == other);
        CHECK(b.bytes() == bytes);
        CHECK(current() == 0);
        cudaPointerAttributes a;
        WT_CUDA(cudaPointerGetAttributes(&a, b.data()));
        CHECK(a.device == other);
        CHECK(wt::device_free_bytes(other) + bytes <= before);
    }
    CHECK(current() == 0);
    CHECK(wt::device_free_bytes(other) > before - bytes);
    CHECK(cudaGetLastError() == cudaSuccess);
}

TEST_CASE("owners: buffers move, and an empty one is harmless") {
    if (no_device()) return;
    const int other = other_device();
    DeviceBuffer<int> a(other, 100), empty, none(0, 0);
    a.upload(counted(100));
    int* p = a.data();
    DeviceBuffer<int> b(std::move(a));
    CHECK(b.data() == p);
    CHECK(b.device() == other);
    CHECK(a.data() == nullptr);  // NOLINT: a moved-from buffer is empty
    CHECK(a.size() == 0);
    CHECK(empty.download().empty());
    CHECK(none.data() == nullptr);
    DeviceBuffer<int> c(0, 7);
    c = std::move(b);
    CHECK(c.data() == p);
    CHECK(c.size() == 100);
    CHECK(c.device() == other);
    CHECK(b.data() == nullptr);
    CHECK(c.download() == counted(100));
    auto& same = c;
    c = std::move(same);
    CHECK(c.download() == counted(100));
    std::vector<DeviceBuffer<int>> many;
    for (int i = 0; i < 10; ++i) {
        many.emplace_back(i % 2 ? other : 0, 50);
        many.back().upload(counted(50, i));
    }
    for (int i = 0; i < 10; ++i) CHECK(many[i].download() == counted(50, i));
    PinnedBuffer<int> h(5), moved;
    for (int i = 0; i < 5; ++i) h[i] = i;
    moved = std::move(h);
    CHECK(moved[4] == 4);
    CHECK(moved.bytes() == 20);
    CHECK(h.data() == nullptr);
}

TEST_CASE(
    "owners: memory that a device does not have is one line that says how much and for what") {
    if (no_device()) return;
    const size_t too_much = wt::device_free_bytes(0) + (size_t(1) << 40);
    std::string what;
    try {
        DeviceBuffer<char> b(0, too_much, "activations of conv1");
    } catch (const wt::Error& e) {
        what = e.what();
    }
    CHECK(what.find("out of memory on GPU 0: " + wt::human_bytes(too_much) +
                    " for activations of conv1, ") == 0);
    CHECK(what.find(" free") != std::string::npos);
    CHECK(what.find('\n') == std::string::npos);
    CHECK(cudaGetLastError() == cudaSuccess);
    DeviceBuffer<char> fits(0, 1000);
    CHECK(fits.data() != nullptr);
}

TEST_CASE("owners: sizes as people read them") {
    CHECK(wt::human_bytes(512) == "512 bytes");
    CHECK(wt::human_bytes(size_t(12) << 20) == "12.0 MiB");
    CHECK(wt::human_bytes((size_t(1) << 30) + (size_t(1) << 29)) == "1.50 GiB");
}

TEST_CASE("owners: streams and events belong to their device, whichever is current") {
    if (no_device()) return;
    const int other = other_device();
    Stream s(other), t(0);
    CHECK(s.device() == other);
    CHECK(current() == 0);
    DeviceBuffer<int> far(other, 1000), near(0, 1000);
    PinnedBuffer<int> in(1000), out(1000);
    for (int i = 0; i < 1000; ++i) in[i] = i, out[i] = -1;
    const Event there(other), timed(other, true), later(other, true);
    timed.record(s.get());
    WT_CUDA(cudaMemcpyAsync(far.data(), in.data(), far.bytes(), cudaMemcpyHostToDevice, s.get()));
    there.record(s.get());
    later.record(s.get());
    t.wait(there);
    WT_CUDA(cudaMemcpyPeerAsync(near.data(), 0, far.data(), other, far.bytes(), t.get()));
    WT_CUDA(
        cudaMemcpyAsync(out.data(), near.data(), near.bytes(), cudaMemcpyDeviceToHost, t.get()));
    t.synchronize();
    CHECK(std::memcmp(in.data(), out.data(), in.bytes()) == 0);
    later.synchronize();
    CHECK(later.since(timed) >= 0.0f);
    Stream moved = std::move(s);
    CHECK(moved.device() == other);
    moved.synchronize();
    Event e;  // empty: nothing to destroy
    e = Event(other);
    e.record(moved.get());
    e.synchronize();
    CHECK(current() == 0);
    CHECK(cudaGetLastError() == cudaSuccess);
}

TEST_CASE("owners: a graph replays what was captured, is empty by default, and moves") {
    if (no_device()) return;
    for (int device : {0, other_device()}) {
        const Stream s(device);
        DeviceBuffer<int> a(device, 256), b(device, 256);
        PinnedBuffer<int> in(256);
        for (int i = 0; i < 256; ++i) in[i] = 0;
        Graph g;
        CHECK_FALSE(static_cast<bool>(g));
        g = Graph(s, [&] {
            WT_CUDA(
                cudaMemcpyAsync(a.data(), in.data(), in.bytes(), cudaMemcpyHostToDevice, s.get()));
            WT_CUDA(
                cudaMemcpyAsync(b.data(), a.data(), a.bytes(), cudaMemcpyDeviceToDevice, s.get()));
            WT_CUDA(cudaMemsetAsync(a.data(), 0, 4, s.get()));
        });
        CHECK(static_cast<bool>(g));
        CHECK(current() == 0);
        for (int round = 1; round <= 3; ++round) {
            for (int i = 0; i < 256; ++i) in[i] = round + i;
            g.launch(s);
            s.synchronize();
            CHECK(b.download() == counted(256, round));
            CHECK(a.download()[0] == 0);
            CHECK(a.download()[1] == round + 1);
        }
        Graph h = std::move(g);
        CHECK_FALSE(static_cast<bool>(g));  // NOLINT
        h.launch(s);
        s.synchronize();
    }
}

TEST_CASE("owners: an error while capturing comes out, and the stream works again") {
    if (no_device()) return;
    const Stream s(0);
    DeviceBuffer<int> a(0, 4);
    CHECK_THROWS_WITH_AS(Graph(s, [] { throw wt::Error("no such variant"); }), "no such variant",
                         wt::Error);
    CHECK_THROWS_AS(Graph(s, [&] { s.synchronize(); }), wt::Error);
    cudaGetLastError();
    WT_CUDA(cudaMemsetAsync(a.data(), 0, a.bytes(), s.get()));
    s.synchronize();
    CHECK(a.download() == std::vector<int>(4, 0));
}

TEST_CASE("owners: a failed call says what, where and which error") {
    if (no_device()) return;
    std::string what;
    try {
        WT_CUDA(cudaSetDevice(1000));
    } catch (const wt::Error& e) {
        what = e.what();
    }
    CHECK(what.find("cudaErrorInvalidDevice (") == 0);
    CHECK(what.find("from cudaSetDevice(1000) at ") != std::string::npos);
    CHECK(what.find("test_cuda_owners.cpp:") != std::string::npos);
    CHECK(cudaGetLastError() == cudaSuccess);
}

TEST_CASE("owners: peer access can be asked for again, and is refused to oneself without harm") {
    if (no_device()) return;
    CHECK(wt::enable_peer_access(0, 0));
    if (wt::device_count() < 2) {
        MESSAGE("skip: one device");
        return;
    }
    const bool first = wt::enable_peer_access(0, 1);
    CHECK(wt::enable_peer_access(0, 1) == first);
    CHECK(cudaGetLastError() == cudaSuccess);
    CHECK(current() == 0);
}

TEST_CASE("owners: a range does nothing where no profiler listens") {
    const wt::Range outer("outer"), inner("inner");
}
