// Clusters: ranks, the barrier in two halves, distributed shared memory, arrivals at another
// block's mbarrier, multicast.
#include <doctest/doctest.h>

#include <vector>

#include "host/cuda/buffer.h"
#include "host/cuda/device.h"
#include "host/cuda/stream.h"
#include "kernels/launch.h"
#include "kernels/ptx/cluster.h"
#include "kernels/ptx/tma.h"
#include "kernels/tile/tensor_map.h"
#include "test/seeds.h"

namespace {

using namespace wt;
using test::SeedGuard;
using test::seeds;

bool too_old() {
    if (const int sm = device_sm(0); sm && sm < 90) {
        MESSAGE("skip: clusters need sm_90, this is sm_", sm);
        return true;
    }
    return false;
}

__device__ void cluster_sync() {
    __syncwarp();  // the barrier's halves want whole warps
    ptx::cluster_arrive();
    ptx::cluster_wait();
}

// Without any barrier: a plain loop over the threads of all blocks.
__global__ void ranks(int* out) {
    const unsigned block = blockIdx.x + gridDim.x * blockIdx.y;
    if (threadIdx.x == blockDim.x - 1) {
        out[block * 2] = static_cast<int>(ptx::cluster_rank());
        out[block * 2 + 1] = static_cast<int>(ptx::cluster_size());
    }
}

struct Ring {
    int value[96];
};

// Values travel around the ring of blocks: each is written into the next block's memory, then read
// from the one before.
__global__ void ring(int rounds, int* out) {
    Ring& s = shared_storage<Ring>();
    const int t = static_cast<int>(threadIdx.x), rank = static_cast<int>(ptx::cluster_rank()),
              size = static_cast<int>(ptx::cluster_size());
    int v = static_cast<int>(blockIdx.x) * 1000 + t;
    cluster_sync();  // every block has started
    for (int r = 0; r < rounds; ++r) {
        Ring* next = ptx::map_shared_pointer(&s, static_cast<uint32_t>((rank + 1) % size));
        next->value[(t + 1) % static_cast<int>(blockDim.x)] = v;
        ptx::cluster_arrive();
        const int mine = r + t;  // work between the halves
        ptx::cluster_wait();
        v = s.value[t] + mine;
        const Ring* before =
            ptx::map_shared_pointer(&s, static_cast<uint32_t>((rank + size - 1) % size));
        v ^= before->value[0];
        cluster_sync();
    }
    out[blockIdx.x * blockDim.x + threadIdx.x] = v;
    cluster_sync();  // no block exits while another reads its memory
}

std::vector<int> ring_expected(int blocks, int size, int threads, int rounds) {
    std::vector<int> v(blocks * threads), shared(blocks * threads);
    for (int b = 0; b < blocks; ++b)
        for (int t = 0; t < threads; ++t) v[b * threads + t] = b * 1000 + t;
    for (int r = 0; r < rounds; ++r) {
        for (int b = 0; b < blocks; ++b)
            for (int t = 0; t < threads; ++t)
                shared[(b / size * size + (b + 1) % size) * threads + (t + 1) % threads] =
                    v[b * threads + t];
        for (int b = 0; b < blocks; ++b)
            for (int t = 0; t < threads; ++t)
                v[b * threads + t] = (shared[b * threads + t] + r + t) ^
                                     shared[(b / size * size + (b + size - 1) % size) * threads];
    }
    return v;
}

// Some threads return before the others meet: the barrier does not wait for them.
__global__ void some_leave(int* out) {
    Ring& s = shared_storage<Ring>();
    if (threadIdx.x >= 32 + 32 * ptx::cluster_rank()) return;
    s.value[threadIdx.x] =
        static_cast<int>(ptx::cluster_rank()) * 100 + static_cast<int>(threadIdx.x);
    cluster_sync();
    if (threadIdx.x < 32) {
        const Ring* other = ptx::map_shared_pointer(&s, ptx::cluster_rank() ^ 1);
        out[blockIdx.x * 32 + threadIdx.x] = other->value[threadIdx.x];
    }
    cluster_sync();
}

struct Inbox {
    alignas(128) int data[4][32];
    ptx::Mbarrier full, empty;
};

// Every block but the first waits until the first has written into its memory and arrived at its
// barrier, and answers at the first one's barrier.
__global__ void letters(int rounds, int* out) {
    Inbox& s = shared_storage<Inbox>();
    const uint32_t rank = ptx::cluster_rank(), size = ptx::cluster_size();
    const int lane = static_cast<int>(threadIdx.x);
    if (threadIdx.x == 0) {
        ptx::mbarrier_init(s.full, 32);
        ptx::mbarrier_init(s.empty, (size - 1) * 32);
        ptx::fence_mbarrier_init();
    }
    cluster_sync();
    unsigned sum = 0;
    for (int r = 0; r < rounds; ++r) {
        const uint32_t parity = static_cast<uint32_t>(r) & 1;
        if (rank == 0) {
            for (uint32_t b = 1; b < size; ++b) {
                ptx::map_shared_pointer(&s, b)->data[0][lane] =
                    r * 100 + lane + static_cast<int>(b);
                ptx::mbarrier_arrive_cluster(ptx::map_shared(&s.full, b));
            }
            ptx::mbarrier_wait(s.empty, parity);
        } else {
            ptx::mbarrier_wait(s.full, parity);
            sum = sum * 3 + static_cast<unsigned>(s.data[0][lane ^ 1]);
            __syncwarp();  // lane ^ 1 has read
            ptx::mbarrier_arrive_cluster(ptx::map_shared(&s.empty, 0));
        }
    }
    out[blockIdx.x * 32 + threadIdx.x] = static_cast<int>(sum);
    cluster_sync();
}

// Block r loads piece r of every stage and sends it to all blocks of the cluster but every third
// round's last one, which loads its own; all consume all pieces, and say so to all.
__global__ void share(const __grid_constant__ CUtensorMap map, int rounds, int* out) {
    struct Stages {
        alignas(1024) int piece[2][4][32];
        ptx::Mbarrier full[2], empty[2];
    };
    Stages& s = shared_storage<Stages>();
    const uint32_t rank = ptx::cluster_rank(), size = ptx::cluster_size();
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    if (threadIdx.x == 0) {
        for (int i = 0; i < 2; ++i) {
            ptx::mbarrier_init(s.full[i], 1);
            // one arrival of each block: everybody sends to everybody
            ptx::mbarrier_init(s.empty[i], size);
        }
        ptx::fence_mbarrier_init();
    }
    cluster_sync();
    unsigned sum = 0;
    for (int r = 0; r < rounds; ++r) {
        const int stage = r % 2;
        const uint32_t parity = static_cast<uint32_t>(r / 2) & 1;
        if (warp == 0) {
            if (lane == 0) {
                ptx::mbarrier_wait(s.empty[stage], parity ^ 1);
                ptx::mbarrier_arrive_expect_tx(s.full[stage], size * 128);
                const int first =
                    (static_cast<int>(blockIdx.x / size) * rounds + r) * static_cast<int>(size);
                ptx::tma_load_multicast(s.piece[stage][rank], map, s.full[stage],
                                        static_cast<uint16_t>((1u << size) - 1), 0,
                                        first + static_cast<int>(rank));
            }
        } else {
            ptx::mbarrier_wait(s.full[stage], parity);
            for (uint32_t p = 0; p < size; ++p)
                sum = sum * 7 +
                      static_cast<unsigned>(s.piece[stage][p][(lane + static_cast<int>(p)) % 32]);
            __syncwarp();
            if (lane < static_cast<int>(size))
                ptx::mbarrier_arrive_cluster(
                    ptx::map_shared(&s.empty[stage], static_cast<uint32_t>(lane)));
        }
    }
    if (warp == 1) out[blockIdx.x * 32 + static_cast<unsigned>(lane)] = static_cast<int>(sum);
    cluster_sync();
}

// To some blocks only; the others' memory stays.
__global__ void multicast_to(const __grid_constant__ CUtensorMap map, uint16_t blocks, int* out) {
    Inbox& s = shared_storage<Inbox>();
    s.data[0][threadIdx.x] = -1;
    ptx::fence_proxy_async();
    const uint32_t rank = ptx::cluster_rank();
    if (threadIdx.x == 0) {
        ptx::mbarrier_init(s.full, 1);
        ptx::fence_mbarrier_init();
    }
    cluster_sync();
    if (threadIdx.x == 0) {
        if (blocks >> rank & 1) ptx::mbarrier_arrive_expect_tx(s.full, 128);
        if (rank == 1) ptx::tma_load_multicast(s.data[0], map, s.full, blocks, 0, 3);
    }
    if (blocks >> rank & 1) ptx::mbarrier_wait(s.full, 0);
    out[blockIdx.x * 32 + threadIdx.x] = s.data[0][threadIdx.x];
    cluster_sync();
}

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("ptx: cluster: ranks count along x, then y") {
    if (too_old()) return;
    DeviceBuffer<int> out(0, 6 * 4 * 2);
    const Stream stream(0);
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(6, 4);
    config.blockDim = dim3(40);
    config.stream = stream.get();
    cudaLaunchAttribute cluster[1];
    cluster[0].id = cudaLaunchAttributeClusterDimension;
    cluster[0].val.clusterDim.x = 3;
    cluster[0].val.clusterDim.y = 2;
    cluster[0].val.clusterDim.z = 1;
    config.attrs = cluster;
    config.numAttrs = 1;
    for (const uint64_t seed : seeds(2)) {
        const SeedGuard guard(seed);
        WT_CUDA(cudaMemsetAsync(out.data(), 0xff, out.size() * sizeof(int), stream.get()));
        WT_CUDA(cudaLaunchKernelEx(&config, ranks, out.data()));
        stream.synchronize();
        const std::vector<int> v = out.download();
        for (int y = 0; y < 4; ++y)
            for (int x = 0; x < 6; ++x) {
                CHECK(v[(x + 6 * y) * 2] == x % 3 + 3 * (y % 2));
                CHECK(v[(x + 6 * y) * 2 + 1] == 6);
            }
    }
}

TEST_CASE("ptx: cluster: distributed shared memory around a ring of blocks") {
    if (too_old()) return;
    constexpr int kThreads = 96, kRounds = 5, kBlocks = 24;
    DeviceBuffer<int> out(0, kBlocks * kThreads);
    for (const uint64_t seed : seeds(4)) {
        const SeedGuard guard(seed);
        CAPTURE(seed);
        for (const int size : {1, 2, 3, 8}) {
            CAPTURE(size);
            const Stream stream(0);
            LaunchShape shape{kBlocks, kThreads, stream.get(), sizeof(Ring)};
            shape.cluster = static_cast<unsigned>(size);
            launch("ring", shape, ring, kRounds, out.data());
            stream.synchronize();
            CHECK(out.download() == ring_expected(kBlocks, size, kThreads, kRounds));
        }
    }
}

TEST_CASE("ptx: cluster: the barrier does not wait for threads that have returned") {
    if (too_old()) return;
    DeviceBuffer<int> out(0, 4 * 32);
    for (const uint64_t seed : seeds(4)) {
        const SeedGuard guard(seed);
        CAPTURE(seed);
        const Stream stream(0);
        LaunchShape shape{4, 96, stream.get(), sizeof(Ring)};
        shape.cluster = 2;
        launch("some_leave", shape, some_leave, out.data());
        stream.synchronize();
        const std::vector<int> v = out.download();
        for (int i = 0; i < 128; ++i) CHECK(v[i] == (i / 32 % 2 ? 0 : 100) + i % 32);
    }
}

TEST_CASE("ptx: cluster: arrivals at another block's mbarrier") {
    if (too_old()) return;
    constexpr int kRounds = 7, kSize = 4;
    DeviceBuffer<int> out(0, 8 * 32);
    for (const uint64_t seed : seeds(6)) {
        const SeedGuard guard(seed);
        CAPTURE(seed);
        const Stream stream(0);
        LaunchShape shape{8, 32, stream.get(), sizeof(Inbox)};
        shape.cluster = kSize;
        launch("letters", shape, letters, kRounds, out.data());
        stream.synchronize();
        const std::vector<int> v = out.download();
        for (int b = 0; b < 8; ++b)
            for (int lane = 0; lane < 32; ++lane) {
                int sum = 0;
                for (int r = 0; b % kSize && r < kRounds; ++r)
                    sum = sum * 3 + r * 100 + (lane ^ 1) + b % kSize;
                CHECK(v[b * 32 + lane] == sum);
            }
    }
}

TEST_CASE("ptx: cluster: multicast copies and their bytes reach every block of the mask") {
    if (too_old()) return;
    constexpr int kRounds = 6, kBlocks = 8;
    std::vector<int> data(kBlocks * kRounds * 32 * 4);
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<int>(i * 7919 % 100003);
    DeviceBuffer<int> in(0, data.size()), out(0, kBlocks * 32);
    in.upload(data);
    const CUtensorMap map =
        tiled_map(DType::f32, in.data(), {32, data.size() / 32}, {128}, {32, 1}, 0);
    for (const uint64_t seed : seeds(8)) {
        const SeedGuard guard(seed);
        CAPTURE(seed);
        for (const int size : {2, 4}) {
            const Stream stream(0);
            LaunchShape shape{kBlocks, 64, stream.get(), 4096};
            shape.cluster = static_cast<unsigned>(size);
            launch("share", shape, share, map, kRounds, out.data());
            stream.synchronize();
            const std::vector<int> v = out.download();
            for (int b = 0; b < kBlocks; ++b)
                for (int lane = 0; lane < 32; ++lane) {
                    unsigned sum = 0;
                    for (int r = 0; r < kRounds; ++r)
                        for (int p = 0; p < size; ++p)
                            sum = sum * 7 + static_cast<unsigned>(
                                                data[((b / size * kRounds + r) * size + p) * 32 +
                                                     (lane + p) % 32]);
                    CHECK(static_cast<unsigned>(v[b * 32 + lane]) == sum);
                }
        }
        const Stream stream(0);
        LaunchShape shape{4, 32, stream.get(), sizeof(Inbox)};
        shape.cluster = 4;
        launch("multicast_to", shape, multicast_to, map, static_cast<uint16_t>(0b1101), out.data());
        stream.synchronize();
        const std::vector<int> v = out.download();
        for (int i = 0; i < 4 * 32; ++i) CHECK(v[i] == (i / 32 == 1 ? -1 : data[3 * 32 + i % 32]));
    }
}

TEST_SUITE_END();
