// The virtual GPU's runtime: memory, copies, peers, errors that stay and errors that do not, launch
// limits.
#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "host/cuda/buffer.h"
#include "host/cuda/stream.h"
#include "host/vgpu/runtime/arena.h"
#include "kernels/launch.h"

namespace {

using wt::DeviceBuffer;
using wt::Stream;

__global__ void fill(int* x, int value, int n) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) x[i] = value;
}

struct Operands {
    int n;
    const int* from;
    float scale;
    int* to;
};
__global__ void copy_struct(Operands o) {
    if (static_cast<int>(threadIdx.x) < o.n) o.to[threadIdx.x] = o.from[threadIdx.x];
}

__global__ void shapes(int* out, short a, double b, Operands o, char c, float f) {
    out[0] = a, out[1] = static_cast<int>(b), out[2] = o.n, out[3] = static_cast<int>(o.scale),
    out[4] = c;
    out[5] = static_cast<int>(f);
}

struct alignas(64) Wide {
    int v[16];
};
__global__ void wide(int* out, char, Wide w) {
    out[0] = w.v[15], out[1] = static_cast<int>(reinterpret_cast<uintptr_t>(&w) % 64);
}

bool has(const std::string& text, const std::string& part) {
    const bool yes = text.find(part) != std::string::npos;
    if (!yes) MESSAGE("text: " << text);
    return yes;
}

// For tests that fail device 0 on purpose: whatever happens, the tests after them find it in order.
struct ResetAfter {
    ~ResetAfter() {
        cudaSetDevice(0);
        cudaDeviceReset();
    }
};

// The text of an error, cleared.
std::string text(cudaError_t e) {
    std::string s = cudaGetErrorString(e);
    cudaGetLastError();
    return s;
}

template <class... P, class... A>
cudaError_t try_launch(cudaLaunchConfig_t c, void (*kernel)(P...), A... a) {
    const cudaError_t e = cudaLaunchKernelEx(&c, kernel, a...);
    cudaGetLastError();
    return e;
}

cudaLaunchConfig_t config(dim3 grid, dim3 block, size_t shared = 0, cudaStream_t s = nullptr) {
    cudaLaunchConfig_t c{};
    c.gridDim = grid, c.blockDim = block, c.dynamicSmemBytes = shared, c.stream = s;
    return c;
}

// Runs the hidden test case in a process of its own; what it wrote.
std::string child(const std::string& name, const std::string& environment = "") {
    const std::string command =
        environment + " /proc/" + std::to_string(getpid()) + "/exe -ns -tc='" + name + "' 2>&1";
    FILE* f = popen(command.c_str(), "r");
    REQUIRE(f);
    std::string out;
    std::array<char, 4096> part;
    while (const size_t n = fread(part.data(), 1, part.size(), f)) out.append(part.data(), n);
    pclose(f);
    return out;
}

}  // namespace

TEST_CASE("vgpu memory: copies and memsets, whole and in part") {
    DeviceBuffer<int> a(0, 1000), b(1, 1000);
    std::vector<int> host(1000);
    for (int i = 0; i < 1000; ++i) host[i] = i;
    a.upload(host);
    CHECK(a.download() == host);
    WT_CUDA(cudaMemcpy(b.data() + 100, a.data() + 200, 400, cudaMemcpyDeviceToDevice));
    WT_CUDA(cudaDeviceSynchronize());
    CHECK(cudaMemset(b.data(), 0xFF, 400) == cudaErrorInvalidValue);  // device 1's
    CHECK(has(text(cudaErrorInvalidValue), "the memory is device 1's"));
    {
        wt::DeviceGuard on(1);
        WT_CUDA(cudaMemset(b.data(), 0xFF, 400));
    }
    auto back = b.download();
    CHECK(back[99] == -1);
    CHECK(back[100] == 200);
    CHECK(back[199] == 299);
    WT_CUDA(cudaMemcpyPeer(b.data(), 1, a.data(), 0, 4000));
    CHECK(b.download() == host);
    int one = 0;
    WT_CUDA(cudaMemcpy(&one, b.data() + 7, 4, cudaMemcpyDefault));
    CHECK(one == 7);
    // Large enough to be shared among cores; odd size.
    const size_t n = (9 << 20) + 13;
    std::vector<unsigned char> big(n), again(n);
    for (size_t i = 0; i < n; ++i) big[i] = static_cast<unsigned char>(i * 7 + i / 255);
    DeviceBuffer<unsigned char> d(0, n), e(0, n);
    d.upload(big);
    WT_CUDA(cudaMemcpy(e.data(), d.data(), n, cudaMemcpyDeviceToDevice));
    CHECK(e.download() == big);
}

TEST_CASE("vgpu memory: two-dimensional copies and memsets keep what lies between the rows") {
    for (size_t rows : {1, 5, 3000}) {
        const size_t width = rows == 3000 ? 2000 : 24, dpitch = width + 8, spitch = width + 16;
        std::vector<unsigned char> src(spitch * rows);
        for (size_t i = 0; i < src.size(); ++i) src[i] = static_cast<unsigned char>(i * 31);
        DeviceBuffer<unsigned char> d(0, dpitch * rows);
        WT_CUDA(cudaMemset(d.data(), 0xAA, d.bytes()));
        WT_CUDA(cudaMemcpy2D(d.data(), dpitch, src.data(), spitch, width, rows,
                             cudaMemcpyHostToDevice));
        auto back = d.download();
        bool right = true;
        for (size_t r = 0; r < rows; ++r)
            for (size_t i = 0; i < dpitch; ++i)
                right &= back[r * dpitch + i] == (i < width ? src[r * spitch + i] : 0xAA);
        CHECK(right);
        WT_CUDA(cudaMemset2D(d.data(), dpitch, 0, width, rows));
        WT_CUDA(cudaDeviceSynchronize());
        back = d.download();
        right = true;
        for (size_t i = 0; i < back.size(); ++i)
            right &= back[i] == (i % dpitch < width ? 0 : 0xAA);
        CHECK(right);
    }
    DeviceBuffer<unsigned char> d(0, 100);
    CHECK(cudaMemset2D(d.data(), 4, 0, 8, 2) == cudaErrorInvalidPitchValue);
    cudaGetLastError();
}

TEST_CASE("vgpu memory: a copy must lie inside one live allocation and go the way it says") {
    DeviceBuffer<int> a(0, 100), b(0, 100);
    std::vector<int> h(200);
    CHECK(cudaMemcpy(a.data(), h.data(), 401, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
    CHECK(has(text(cudaErrorInvalidValue), "401 bytes at"));
    CHECK(cudaMemcpy(a.data() + 50, h.data(), 204, cudaMemcpyHostToDevice) ==
          cudaErrorInvalidValue);
    CHECK(
        has(text(cudaErrorInvalidValue), "pass the end of an allocation of 400 bytes on device 0"));
    CHECK(cudaMemset(a.data() + 99, 0, 8) == cudaErrorInvalidValue);
    CHECK(cudaMemcpy2D(a.data(), 200, h.data(), 200, 100, 3, cudaMemcpyHostToDevice) ==
          cudaErrorInvalidValue);
    CHECK(cudaMemcpy(a.data(), h.data(), 400, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
    CHECK(has(text(cudaErrorInvalidValue),
              "the kind of the copy says that the destination is host memory"));
    CHECK(cudaMemcpy(a.data(), h.data(), 400, static_cast<cudaMemcpyKind>(9)) ==
          cudaErrorInvalidMemcpyDirection);
    CHECK(cudaMemset(h.data(), 0, 8) == cudaErrorInvalidValue);
    wt::PinnedBuffer<int> pinned(10);
    CHECK(cudaMemcpyAsync(a.data(), pinned.data(), 44, cudaMemcpyHostToDevice, nullptr) ==
          cudaErrorInvalidValue);
    int* freed = a.data();
    a = DeviceBuffer<int>();
    CHECK(cudaMemcpy(freed, h.data(), 4, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
    CHECK(has(text(cudaErrorInvalidValue), "are in no live allocation of device 0"));
    CHECK(cudaFree(freed) == cudaErrorInvalidValue);
    CHECK(cudaFree(b.data() + 1) == cudaErrorInvalidValue);
    CHECK(cudaFree(nullptr) == cudaSuccess);
    CHECK(cudaGetLastError() == cudaErrorInvalidValue);
    CHECK(cudaGetLastError() == cudaSuccess);
}

TEST_CASE("vgpu memory: what a pointer is") {
    DeviceBuffer<int> d(1, 10);
    wt::PinnedBuffer<int> pinned(10);
    int pageable = 0;
    cudaPointerAttributes a;
    WT_CUDA(cudaPointerGetAttributes(&a, d.data() + 9));
    CHECK(a.type == cudaMemoryTypeDevice);
    CHECK(a.device == 1);
    WT_CUDA(cudaPointerGetAttributes(&a, pinned.data() + 9));
    CHECK(a.type == cudaMemoryTypeHost);
    WT_CUDA(cudaPointerGetAttributes(&a, &pageable));
    CHECK(a.type == cudaMemoryTypeUnregistered);
    WT_CUDA(cudaPointerGetAttributes(&a, d.data() + 10));
    CHECK(a.type == cudaMemoryTypeUnregistered);
}

TEST_CASE("vgpu memory: the device's limit is an error that does not stay") {
    size_t free = 0, total = 0, now = 0;
    WT_CUDA(cudaMemGetInfo(&free, &total));
    CHECK(free <= total);
    void* p = &free;
    CHECK(cudaMalloc(&p, free + 1) == cudaErrorMemoryAllocation);
    CHECK(p == nullptr);
    CHECK(has(text(cudaErrorMemoryAllocation), "asked for on device 0"));
    CHECK(cudaMalloc(&p, ~size_t(0)) == cudaErrorMemoryAllocation);
    CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
    CHECK(cudaGetLastError() == cudaSuccess);
    WT_CUDA(cudaMalloc(&p, 1 << 20));
    WT_CUDA(cudaMemGetInfo(&now, &total));
    CHECK(now == free - (1 << 20));
    WT_CUDA(cudaFree(p));
    WT_CUDA(cudaMemGetInfo(&now, &total));
    CHECK(now == free);
    CHECK_THROWS_WITH_AS(DeviceBuffer<char>(1, size_t(1) << 50, "weights"),
                         doctest::Contains("for weights"), wt::Error);
    CHECK(cudaGetLastError() == cudaSuccess);
}

TEST_CASE(
    "vgpu memory: allocations are aligned, apart, and keep their contents while others come and go") {
    std::mt19937 random(7);
    struct Block {
        unsigned char* p;
        size_t bytes;
        unsigned char tag;
    };
    std::vector<Block> live;
    // An arena of its own, out of the devices' way.
    vgpu::Arena arena(vgpu::kMaxDevices - 1, size_t(256) << 20);
    for (int i = 0; i < 3000; ++i) {
        if (live.size() > 60 || (!live.empty() && random() % 3 == 0)) {
            const size_t k = random() % live.size();
            const Block b = live[k];
            CHECK_FALSE(
                std::any_of(b.p, b.p + b.bytes, [&](unsigned char c) { return c != b.tag; }));
            CHECK(arena.release(b.p));
            CHECK_FALSE(arena.contains(b.p, 1));
            live.erase(live.begin() + static_cast<long>(k));
        } else {
            const size_t bytes =
                random() % 8 ? 1 + random() % 5000 : (random() % 3 << 20) + 1 + random() % 100000;
            Block b{static_cast<unsigned char*>(arena.allocate(bytes)), bytes,
                    static_cast<unsigned char>(i)};
            REQUIRE(b.p);
            CHECK(reinterpret_cast<uintptr_t>(b.p) % (bytes >= size_t(2) << 20 ? 2 << 20 : 256) ==
                  0);
            CHECK(arena.contains(b.p, bytes));
            CHECK_FALSE(arena.contains(b.p, bytes + 1));
            std::memset(b.p, b.tag, bytes);
            live.push_back(b);
        }
    }
    arena.release_all();
    CHECK(arena.used() == 0);
}

TEST_CASE("vgpu memory: stream-ordered allocation and free") {
    ResetAfter reset;
    const Stream s(0);
    int *p, *q;
    WT_CUDA(cudaMallocAsync(&p, 400, s.get()));
    wt::launch("fill", {dim3(1), dim3(100), s.get()}, fill, p, 5, 100);
    std::vector<int> h(100);
    WT_CUDA(cudaMemcpyAsync(h.data(), p, 400, cudaMemcpyDeviceToHost, s.get()));
    WT_CUDA(cudaFreeAsync(p, s.get()));
    CHECK(h[99] == 5);
    s.synchronize();
    CHECK(cudaFree(p) == cudaErrorInvalidValue);
    cudaGetLastError();
    // Used after its free in the same stream.
    WT_CUDA(cudaMallocAsync(&q, 400, s.get()));
    WT_CUDA(cudaFreeAsync(q, s.get()));
    wt::launch("fill", {dim3(1), dim3(100), s.get()}, fill, q, 5, 100);
    CHECK(cudaStreamSynchronize(s.get()) == cudaErrorIllegalAddress);
    CHECK(has(vgpu::last_failure(), "argument 0 points to freed memory of device 0"));
}

TEST_CASE(
    "vgpu peers: without access a kernel fails and says which devices; with access it works") {
    ResetAfter reset;
    // a test before may have enabled it
    if (cudaDeviceDisablePeerAccess(1) != cudaSuccess) cudaGetLastError();
    DeviceBuffer<int> mine(0, 10);
    DeviceBuffer<int> theirs(1, 10);
    theirs.upload(std::vector<int>(10, 3));
    int can = 0;
    WT_CUDA(cudaDeviceCanAccessPeer(&can, 0, 1));
    CHECK(can == 1);
    WT_CUDA(cudaDeviceCanAccessPeer(&can, 0, 0));
    CHECK(can == 0);
    CHECK(cudaDeviceDisablePeerAccess(1) == cudaErrorPeerAccessNotEnabled);
    cudaGetLastError();
    {
        const Stream s(0);
        wt::launch("copy", {dim3(1), dim3(32), s.get()}, copy_struct,
                   Operands{10, theirs.data(), 1.0f, mine.data()});
        CHECK(cudaStreamSynchronize(s.get()) == cudaErrorIllegalAddress);
        CHECK(has(vgpu::last_failure(), "copy_struct"));
        CHECK(has(
            vgpu::last_failure(),
            "on device 0: argument 0 points to memory of device 1, and peer access is not enabled "
            "(cudaDeviceEnablePeerAccess)"));
        // Stays: everything on this device says so, the other device works.
        int* p;
        CHECK(cudaMalloc(&p, 4) == cudaErrorIllegalAddress);
        CHECK(cudaMemset(mine.data(), 0, 4) == cudaErrorIllegalAddress);
        CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
        CHECK(try_launch(config({1}, {1}, 0, s.get()), fill, mine.data(), 1, 1) ==
              cudaErrorIllegalAddress);
        CHECK(cudaPeekAtLastError() == cudaErrorIllegalAddress);
        CHECK(has(cudaGetErrorString(cudaErrorIllegalAddress), "peer access is not enabled"));
        wt::DeviceGuard other(1);
        CHECK(cudaGetLastError() == cudaSuccess);
        CHECK(cudaMemset(theirs.data(), 0, 4) == cudaSuccess);
        CHECK(cudaDeviceSynchronize() == cudaSuccess);
    }
    mine = DeviceBuffer<int>();  // its owner must not outlive the reset
    WT_CUDA(cudaDeviceReset());
    mine = DeviceBuffer<int>(0, 10);
    theirs.upload(std::vector<int>(10, 3));
    WT_CUDA(cudaDeviceEnablePeerAccess(1, 0));
    CHECK(cudaDeviceEnablePeerAccess(1, 0) == cudaErrorPeerAccessAlreadyEnabled);
    CHECK(cudaGetLastError() == cudaErrorPeerAccessAlreadyEnabled);
    CHECK(cudaDeviceEnablePeerAccess(0, 0) == cudaErrorInvalidDevice);
    CHECK(cudaDeviceEnablePeerAccess(77, 0) == cudaErrorInvalidDevice);
    cudaGetLastError();
    const Stream s(0);
    wt::launch("copy", {dim3(1), dim3(32), s.get()}, copy_struct,
               Operands{10, theirs.data(), 1.0f, mine.data()});
    s.synchronize();
    CHECK(mine.download() == std::vector<int>(10, 3));
    WT_CUDA(cudaDeviceDisablePeerAccess(1));
    setenv("VGPU_PEER", "0", 1);
    WT_CUDA(cudaDeviceCanAccessPeer(&can, 0, 1));
    CHECK(can == 0);
    CHECK(cudaDeviceEnablePeerAccess(1, 0) == cudaErrorPeerAccessUnsupported);
    cudaGetLastError();
    unsetenv("VGPU_PEER");
    // Copies need no access.
    WT_CUDA(cudaMemcpyPeer(mine.data(), 0, theirs.data(), 1, 40));
}

TEST_CASE("vgpu launch: arguments of every size arrive, converted and aligned") {
    DeviceBuffer<int> out(0, 6);
    const Stream s(0);
    wt::launch("shapes", {dim3(1), dim3(1), s.get()}, shapes, out.data(), 1, 2.5f,
               Operands{3, nullptr, 4.0f, out.data()}, 'c', 6.0);
    s.synchronize();
    CHECK(out.download() == std::vector<int>{1, 2, 3, 4, 'c', 6});
    Wide w{};
    w.v[15] = 99;
    wt::launch("wide", {dim3(1), dim3(1), s.get()}, wide, out.data(), 'x', w);
    s.synchronize();
    CHECK(out.download()[0] == 99);
    CHECK(out.download()[1] == 0);
    // One past the end is no fault; an int that looks like the upper half of a pointer is none.
    wt::launch("copy", {dim3(1), dim3(1), s.get()}, copy_struct,
               Operands{0, out.data() + 6, 1.0f, nullptr});
    s.synchronize();
}

namespace {
struct Flagged {  // seven bytes of padding behind the flag
    int64_t number;
    bool flag;
};
__global__ void read_flag(Flagged f, int* out) { *out = f.flag ? int(f.number) : 0; }
}  // namespace

TEST_CASE("vgpu launch: a freed pointer left in an argument's padding is not an argument") {
    const Stream stream(0);
    DeviceBuffer<int> out(0, 1);
    void* freed = nullptr;
    REQUIRE(cudaMalloc(&freed, 64) == cudaSuccess);
    REQUIRE(cudaFree(freed) == cudaSuccess);
    alignas(Flagged) std::byte bytes[sizeof(Flagged)];
    // its lowest byte is 0: a false flag before the rest of the pointer
    std::memcpy(bytes + 8, &freed, 8);
    auto& f = *new (bytes) Flagged;
    f.number = 7;
    f.flag = false;
    cudaLaunchConfig_t config{};
    config.gridDim = 1, config.blockDim = 1, config.stream = stream.get();
    CHECK(cudaLaunchKernelEx(&config, read_flag, f, out.data()) == cudaSuccess);
    CHECK(cudaStreamSynchronize(stream.get()) == cudaSuccess);
    CHECK(out.download()[0] == 0);
}

TEST_CASE("vgpu launch: kernels may use page-locked host memory, and no other of the host's") {
    ResetAfter reset;
    wt::PinnedBuffer<int> pinned(8);
    wt::launch("fill", {dim3(1), dim3(32), nullptr}, fill, pinned.data(), 4, 8);
    wt::launch("fill", {dim3(1), dim3(32), nullptr}, fill, static_cast<int*>(nullptr), 4, 0);
    WT_CUDA(cudaDeviceSynchronize());
    CHECK(pinned[7] == 4);
    std::vector<int> pageable(8);
    wt::launch("fill", {dim3(1), dim3(32), nullptr}, fill, pageable.data(), 4, 8);
    CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
    CHECK(has(vgpu::last_failure(), "argument 0 points to host memory that is not page-locked"));
}

TEST_CASE("vgpu launch: what hardware refuses") {
    DeviceBuffer<int> d(0, 4);
    int* p = d.data();
    CHECK(try_launch(config({1}, {1025}), fill, p, 1, 4) == cudaErrorInvalidConfiguration);
    CHECK(try_launch(config({1}, {32, 32, 2}), fill, p, 1, 4) == cudaErrorInvalidConfiguration);
    CHECK(try_launch(config({1}, {1, 1, 65}), fill, p, 1, 4) == cudaErrorInvalidConfiguration);
    CHECK(try_launch(config({0}, {1}), fill, p, 1, 4) == cudaErrorInvalidConfiguration);
    CHECK(try_launch(config({1}, {0}), fill, p, 1, 4) == cudaErrorInvalidConfiguration);
    CHECK(try_launch(config({1, 65536}, {1}), fill, p, 1, 4) == cudaErrorInvalidConfiguration);
    CHECK(try_launch(config({1}, {32}, 48 * 1024 + 1), fill, p, 1, 4) == cudaErrorInvalidValue);
    CHECK(has(text(cudaErrorInvalidValue), "without cudaFuncAttributeMaxDynamicSharedMemorySize"));
    CHECK(try_launch(config({1}, {32}, 48 * 1024), fill, p, 1, 4) == cudaSuccess);
    CHECK(cudaFuncSetAttribute(fill, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 * 1024) ==
          cudaErrorInvalidValue);
    CHECK(cudaFuncSetAttribute(fill, cudaFuncAttributeMaxDynamicSharedMemorySize, 100 * 1024) ==
          cudaSuccess);
    CHECK(try_launch(config({1}, {32}, 100 * 1024), fill, p, 1, 4) == cudaSuccess);
    CHECK(try_launch(config({1}, {32}, 100 * 1024 + 1), fill, p, 1, 4) == cudaErrorInvalidValue);
    cudaFuncAttributes a;
    CHECK(cudaFuncGetAttributes(&a, fill) == cudaSuccess);
    CHECK(a.maxDynamicSharedSizeBytes == 100 * 1024);
    int blocks = 0;
    CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, fill, 256, 100 * 1024) ==
          cudaSuccess);
    CHECK(blocks == 2);
    const Stream other(1);
    CHECK(try_launch(config({1}, {1}, 0, other.get()), fill, p, 1, 4) ==
          cudaErrorInvalidResourceHandle);
    CHECK(has(text(cudaErrorInvalidResourceHandle),
              "the stream belongs to device 1, but device 0 is current"));
    cudaLaunchAttribute cluster{};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {2, 1, 1};
    auto c = config({3}, {32});
    c.attrs = &cluster, c.numAttrs = 1;
    CHECK(try_launch(c, fill, p, 1, 4) == cudaErrorInvalidClusterSize);
    CHECK(cudaDeviceSynchronize() == cudaSuccess);
    // By untyped call, once the types are known.
    int value = 8, n = 4;
    void* args[] = {&p, &value, &n};
    c = config({1}, {32});
    CHECK(cudaLaunchKernelExC(&c, reinterpret_cast<const void*>(fill), args) == cudaSuccess);
    CHECK(cudaDeviceSynchronize() == cudaSuccess);
    CHECK(d.download() == std::vector<int>(4, 8));
    CHECK(cudaLaunchKernelExC(&c, reinterpret_cast<const void*>(&text), args) ==
          cudaErrorInvalidDeviceFunction);
    CHECK(cudaGetLastError() == cudaErrorInvalidDeviceFunction);
}

TEST_CASE("vgpu errors: names, texts, and the last error of each call") {
    CHECK(std::string(cudaGetErrorName(cudaErrorIllegalAddress)) == "cudaErrorIllegalAddress");
    CHECK(has(cudaGetErrorString(cudaErrorLaunchTimeout), "the launch timed out"));
    CHECK(std::string(cudaGetErrorString(static_cast<cudaError_t>(12345))) ==
          "unrecognized error code");
    CHECK(cudaSetDevice(99) == cudaErrorInvalidDevice);
    CHECK(cudaPeekAtLastError() == cudaErrorInvalidDevice);
    CHECK(cudaGetLastError() == cudaErrorInvalidDevice);
    CHECK(cudaGetLastError() == cudaSuccess);
    int device = -1;
    CHECK(cudaGetDevice(&device) == cudaSuccess);
    CHECK(device == 0);
    cudaDeviceProp prop;
    CHECK(cudaGetDeviceProperties(&prop, 1) == cudaSuccess);
    CHECK(std::string(prop.name) == "virtual GPU 1");
    int value = 0;
    CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0) ==
          cudaSuccess);
    CHECK(value == 227 * 1024);
    CHECK(cudaStreamSynchronize(reinterpret_cast<cudaStream_t>(&value)) ==
          cudaErrorInvalidResourceHandle);
    CHECK(cudaEventDestroy(reinterpret_cast<cudaEvent_t>(&value)) ==
          cudaErrorInvalidResourceHandle);
    cudaGetLastError();
}

// ---- processes of their own ---------------------------------------------------------------------

TEST_CASE("vgpu child: limits" * doctest::skip()) {
    size_t free = 0, total = 0;
    int n = 0;
    const cudaError_t e = cudaGetDeviceCount(&n);
    if (!e) cudaMemGetInfo(&free, &total);
    std::printf("%s: %d devices, %zu bytes, seed %llu\n", cudaGetErrorName(e), n, total,
                static_cast<unsigned long long>(vgpu::seed()));
}

TEST_CASE("vgpu child: work left at the end" * doctest::skip()) {
    cudaStream_t s;
    WT_CUDA(cudaStreamCreate(&s));
    vgpu::enqueue(s, "late", [] { std::printf("ran at the end\n"), std::fflush(stdout); });
    std::printf("main is done\n");
    std::exit(0);
}

TEST_CASE("vgpu child: a buffer that outlives the runtime" * doctest::skip()) {
    static DeviceBuffer<int> outlives;  // before the first call of the runtime: dies after it
    outlives = DeviceBuffer<int>(0, 10);
    static DeviceBuffer<int> dies_before(1, 10);
    std::printf("main is done\n");
    std::exit(0);
}

TEST_CASE("vgpu child: kernel reads past an allocation" * doctest::skip()) {
    DeviceBuffer<int> a(0, 33), b(0, 64);
    wt::launch("copy", {dim3(1), dim3(64), nullptr}, copy_struct,
               Operands{34, a.data(), 1.0f, b.data()});
    cudaDeviceSynchronize();
}

TEST_CASE("vgpu child: kernel reads memory freed behind a pointer" * doctest::skip()) {
    DeviceBuffer<int> b(0, 64);
    int* a;
    WT_CUDA(cudaMalloc(&a, 256));
    WT_CUDA(cudaFree(a));
    vgpu::enqueue(nullptr, "reader", [&] { std::memcpy(b.data(), a, 4); });
    cudaDeviceSynchronize();
}

TEST_CASE("vgpu child: new memory" * doctest::skip()) {
    DeviceBuffer<float> a(0, 1000);
    bool all = true;
    for (float v : a.download()) all &= v != v;
    std::printf("%s\n", all ? "all NaN" : "not filled");
}

TEST_CASE(
    "vgpu processes: the environment sets devices, memory and seed; queued work runs before the end") {
    CHECK(has(child("vgpu child: limits", "VGPU_DEVICES=3 VGPU_MEMORY=64M VGPU_SEED=11"),
              "cudaSuccess: 3 devices, 67108864 bytes, seed 11"));
    CHECK(has(child("vgpu child: limits", "VGPU_DEVICES=0"), "cudaErrorNoDevice: 0 devices"));
    CHECK(has(child("vgpu child: limits", "VGPU_MEMORY=much"),
              "VGPU_MEMORY=much: must be a size such as"));
    CHECK(has(child("vgpu child: limits", "VGPU_DEVICES=x"), "VGPU_DEVICES=x: must be 0 to 16"));
    CHECK(has(child("vgpu child: work left at the end"), "main is done\nran at the end"));
    CHECK(child("vgpu child: a buffer that outlives the runtime").ends_with("main is done\n"));
    CHECK(has(child("vgpu child: limits", "VGPU_SEED=-x"), "VGPU_SEED=-x: must be a number"));
    CHECK(has(child("vgpu child: new memory", "VGPU_CHECK=1"), "all NaN"));
}

#ifdef __SANITIZE_ADDRESS__
TEST_CASE("vgpu sanitized: reads out of bounds and after free are AddressSanitizer's reports") {
    const std::string options = "ASAN_OPTIONS=detect_leaks=0";
    std::string out = child("vgpu child: kernel reads past an allocation", options);
    CHECK(has(out, "AddressSanitizer: use-after-poison"));
    CHECK(has(out, "copy_struct"));
    out = child("vgpu child: kernel reads memory freed behind a pointer", options);
    CHECK(has(out, "AddressSanitizer: use-after-poison"));
}
#endif
