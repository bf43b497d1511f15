// bin/vgpu: the virtual GPUs of this machine, their settings, and what their threads, barriers and
// launches cost. This program is of the vgpu target only. VGPU_THREADS=1 bin/vgpu gives the figures
// of one core.
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "host/cuda/buffer.h"
#include "host/cuda/stream.h"
#include "host/vgpu/exec/fiber.h"
#include "host/vgpu/exec/grid.h"
#include "kernels/launch.h"
#include "kernels/ptx/cp_async.h"
#include "kernels/ptx/mma_sync.h"
#include "kernels/ptx/tma.h"
#include "kernels/ptx/wgmma.h"
#include "kernels/tile/tensor_map.h"
#include "tools/common_cli.h"

namespace {

using namespace wt;

__global__ void nothing() {}

__global__ void axpy(float* y, const float* x, float a, int64_t n) {
    const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (i < n) y[i] += a * x[i];
}

__global__ void barriers(int times) {
    for (int i = 0; i < times; ++i) __syncthreads();
}

__global__ void shuffles(float* out, int times) {
    float v = static_cast<float>(threadIdx.x);
    for (int i = 0; i < times; ++i) v += __shfl_xor_sync(0xffffffffu, v, 1 << i % 5);
    if (v == -1.0f) *out = v;
}

// mma.sync m16n8k16 as a warp's tile of 64 x 32 needs them: 16 a step.
constexpr int kMmaM = 4, kMmaN = 4;
__global__ void mma_tiles(float* out, int times, bool at_once) {
    float d[kMmaM][kMmaN][4] = {};
    uint32_t a[kMmaM][4], b[kMmaN][2];
    for (auto& r : a)
        for (uint32_t& v : r) v = 0x3f803f80u * (threadIdx.x % 2);
    for (auto& r : b)
        for (uint32_t& v : r) v = 0x3f803f80u;
    for (int i = 0; i < times; ++i)
        if (at_once)
            ptx::mma_tile_m16n8k16_bf16(d, a, b);
        else
            for (int m = 0; m < kMmaM; ++m)
                for (int n = 0; n < kMmaN; ++n) ptx::mma_m16n8k16_bf16(d[m][n], a[m], b[n]);
    float sum = 0;
    for (auto& r : d)
        for (auto& q : r)
            for (float v : q) sum += v;
    if (sum == -1.0f) *out = sum;
}

// Two warpgroups, each 64 x 256 with k = 64 a step, from the same tile of zeros.
struct WgmmaTiles {
    alignas(1024) unsigned char a[64 * 128], b[256 * 128];
};
__global__ void wgmma_chains(float* out, int times) {
    WgmmaTiles& s = shared_storage<WgmmaTiles>();
    for (size_t i = threadIdx.x; i < sizeof s / 4; i += blockDim.x)
        reinterpret_cast<uint32_t*>(&s)[i] = 0;
    __syncthreads();
    float d[128] = {};
    const uint64_t a = ptx::wgmma_descriptor(s.a, 0, 1024, ptx::Swizzle::b128),
                   b = ptx::wgmma_descriptor(s.b, 0, 1024, ptx::Swizzle::b128);
    for (int i = 0; i < times; ++i) {
        ptx::wgmma_fence();
        for (unsigned k = 0; k < 4; ++k)
            ptx::wgmma_bf16<256>(d, ptx::wgmma_advance(a, 32 * k), ptx::wgmma_advance(b, 32 * k),
                                 true);
        ptx::wgmma_commit();
        ptx::wgmma_wait<1>();
    }
    ptx::wgmma_wait<0>();
    float sum = 0;
    for (float v : d) sum += v;
    if (sum == -1.0f) *out = sum;
}

struct AsyncStorage {
    alignas(1024) unsigned char tile[16 * 1024];
    ptx::Mbarrier bar[2];
};

__global__ void arrivals(int times) {
    AsyncStorage& s = shared_storage<AsyncStorage>();
    ptx::mbarrier_init(s.bar[0], 1);
    for (int i = 0; i < times; ++i) {
        ptx::mbarrier_arrive(s.bar[0]);
        ptx::mbarrier_wait(s.bar[0], static_cast<uint32_t>(i) & 1);
    }
}

// Two threads that wait for each other in turn.
__global__ void echoes(int times) {
    AsyncStorage& s = shared_storage<AsyncStorage>();
    if (threadIdx.x == 0)
        for (auto& b : s.bar) ptx::mbarrier_init(b, 1);
    __syncthreads();
    for (int i = 0; i < times; ++i) {
        if (threadIdx.x == 0) ptx::mbarrier_arrive(s.bar[0]);
        ptx::mbarrier_wait(s.bar[threadIdx.x ^ 1], static_cast<uint32_t>(i) & 1);
        if (threadIdx.x == 1) ptx::mbarrier_arrive(s.bar[1]);
    }
}

__global__ void async_copies(const unsigned char* from, int times) {
    AsyncStorage& s = shared_storage<AsyncStorage>();
    for (int i = 0; i < times; ++i) {
        ptx::cp_async_16(s.tile + threadIdx.x * 16, from + threadIdx.x * 16);
        ptx::cp_async_commit();
        ptx::cp_async_wait<0>();
    }
}

__global__ void boxes(const __grid_constant__ CUtensorMap map, int times) {
    AsyncStorage& s = shared_storage<AsyncStorage>();
    ptx::mbarrier_init(s.bar[0], 1);
    for (int i = 0; i < times; ++i) {
        ptx::mbarrier_arrive_expect_tx(s.bar[0], sizeof s.tile);
        ptx::tma_load(s.tile, map, s.bar[0], 0, 0);
        ptx::mbarrier_wait(s.bar[0], static_cast<uint32_t>(i) & 1);
    }
}

// The best of `repeats` runs, in nanoseconds.
template <class F>
double best_ns(int repeats, F&& f) {
    double best = 1e30;
    for (int r = 0; r < repeats; ++r) {
        const auto start = std::chrono::steady_clock::now();
        f();
        best = std::min(
            best, std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start)
                      .count());
    }
    return best;
}

#ifdef VGPU_ASAN
double switch_ns() { return 0; }  // it would be a switch that AddressSanitizer is not told of
#else
void* there = nullptr;
void* here = nullptr;

// A bare switch: two contexts hand the core to each other.
void echo() {
    for (;;) vgpu::vgpu_switch(&there, here);
}
double switch_ns() {
    vgpu::FiberPool pool;
    there = pool.fresh(0, echo)->sp;
    constexpr int kTimes = 20000;
    return best_ns(50,
                   [] {
                       for (int i = 0; i < kTimes; ++i) vgpu::vgpu_switch(&here, there);
                   }) /
           (2 * kTimes);
}
#endif

void setting(const char* name, const char* meaning, const char* otherwise) {
    const char* value = std::getenv(name);
    std::printf("  %-15s %-8s %s\n", name, value && *value ? value : otherwise, meaning);
}

int run(int argc, char** argv) {
    CommandLine app(
        "Shows the virtual GPUs, their settings (environment variables) and what threads, barriers and launches cost here.");
    app.parse(argc, argv);

    const int devices = device_count();
    for (int d = 0; d < devices; ++d)
        std::printf("%s, %s, %d cores\n", device_name(d).c_str(),
                    human_bytes(device_free_bytes(d)).c_str(), vgpu::core_count());
    std::printf("\nsettings\n");
    setting("VGPU_DEVICES", "virtual GPUs", "2");
    setting("VGPU_THREADS", "cores a grid may use", std::to_string(vgpu::core_count()).c_str());
    setting("VGPU_MEMORY", "memory of each; without it, half of the host's is shared out", "-");
    setting("VGPU_STACK", "stack of a CUDA thread", "128K");
    setting(
        "VGPU_SEED",
        "0: ascending order; else the order of blocks, threads and unordered streams, and when asynchronous copies end, is drawn",
        "0");
    setting("VGPU_PROFILE", "1: where the time went, per range and kernel, at the end", "0");
    setting("VGPU_CHECK", "1: memory that nobody wrote reads as NaN; checks that cost time", "0");
    setting("VGPU_PEER", "0: no device may use another's memory", "1");
    setting(
        "VGPU_PEER_FAULT",
        "hang:0-1 or wrong:0-1: copies from device 0's memory to 1's never end, or deliver something else",
        "-");
    setting("VGPU_CAPABILITY", "compute capability of all devices, or of each (9.0,7.5)", "9.0");
    setting("VGPU_ARCHS", "architectures that the kernels count as built for", "80 90");
    setting("OMP_WAIT_POLICY",
            "passive: threads that wait for each other sleep (host/vgpu/exec/share.h)", "-");
    if (devices == 0) return 0;

    const Stream stream(0);
    const int64_t n = int64_t{1} << 18;  // 2 MiB in all: the threads' cost, not the memory's
    DeviceBuffer<float> x(0, n), y(0, n);
    const auto time = [&](int repeats, auto&&... launch_arguments) {
        return best_ns(repeats, [&] {
            launch("measure", launch_arguments...);
            stream.synchronize();
        });
    };
    WT_CUDA(cudaMemsetAsync(x.data(), 0, n * sizeof(float), stream.get()));
    WT_CUDA(cudaMemsetAsync(y.data(), 0, n * sizeof(float), stream.get()));
    const auto cores = static_cast<unsigned>(vgpu::core_count());
    const dim3 blocks(static_cast<unsigned>(n / 256));
    std::printf("\ncosts, best of several\n");
    std::printf("  %8.1f ns    fiber switch\n", switch_ns());
    std::printf("  %8.2f ns    element-wise kernel (y += a x), a thread, on %u core%s\n",
                time(200, LaunchShape{blocks, 256, stream.get()}, axpy, y.data(),
                     static_cast<const float*>(x.data()), 2.0f, n) /
                    double(n),
                cores, cores == 1 ? "" : "s");
    constexpr int kTimes = 200;
    for (unsigned threads : {32u, 256u, 1024u})
        std::printf(
            "  %8.1f ns    __syncthreads of %u threads, a thread\n",
            time(100, LaunchShape{1, threads, stream.get()}, barriers, kTimes) / kTimes / threads,
            threads);
    std::printf(
        "  %8.1f ns    warp shuffle, a thread\n",
        time(100, LaunchShape{1, 256, stream.get()}, shuffles, y.data(), kTimes) / kTimes / 256);
    constexpr int kSteps = 50, kMmaWarps = 8;
    for (const bool at_once : {false, true})
        std::printf("  %8.1f GFLOP/s a core, mma.sync m16n8k16 of bf16, %s\n",
                    kSteps * kMmaWarps * kMmaM * kMmaN * (2.0 * 16 * 8 * 16) /
                        time(100, LaunchShape{1, 32 * kMmaWarps, stream.get()}, mma_tiles, y.data(),
                             kSteps, at_once),
                    at_once ? "a warp's tile of 64 x 32 at once" : "one by one");
    std::printf("  %8.1f GFLOP/s a core, wgmma m64n256k16 of bf16, 4 to a group\n",
                kSteps * 2 * (2.0 * 64 * 256 * 64) /
                    time(20, LaunchShape{1, 256, stream.get(), sizeof(WgmmaTiles)}, wgmma_chains,
                         y.data(), kSteps));
    const auto one_block = [&](unsigned threads) {
        LaunchShape shape{1, threads, stream.get()};
        shape.shared = sizeof(AsyncStorage);
        return shape;
    };
    std::printf("  %8.1f ns    mbarrier: an arrival and a wait that need not wait\n",
                time(100, one_block(1), arrivals, 1000) / 1000);
    std::printf("  %8.1f ns    mbarrier: there and back between two threads\n",
                time(100, one_block(2), echoes, 1000) / 1000);
    std::printf("  %8.1f ns    cp.async of 16 bytes with its wait\n",
                time(100, one_block(256), async_copies,
                     reinterpret_cast<const unsigned char*>(x.data()), kTimes) /
                    kTimes / 256);
    const CUtensorMap map = tiled_map(DType::bf16, x.data(), {64, 1024}, {128}, {64, 128}, 128);
    std::printf("  %8.1f ns    TMA load of 64 x 128 bf16, 128-byte swizzle (16 KiB)\n",
                time(100, one_block(1), boxes, map, kTimes) / kTimes);
    std::printf("  %8.2f us    launch of one block and synchronize\n",
                time(2000, LaunchShape{1, 32, stream.get()}, nothing) * 1e-3);
    constexpr int kQueued = 1000;
    std::printf("  %8.2f us    launch in a queue of %d\n",
                best_ns(20,
                        [&] {
                            for (int i = 0; i < kQueued; ++i)
                                launch("nothing", LaunchShape{1, 32, stream.get()}, nothing);
                            stream.synchronize();
                        }) *
                    1e-3 / kQueued,
                kQueued);
    return 0;
}

}  // namespace

int main(int argc, char** argv) { return run_program(argc, argv, "vgpu", run); }
