// mbarriers: phases and parities, arrivals of threads and of copies, pipelines of warps that
// produce and consume.
#include <doctest/doctest.h>

#include <vector>

#include "host/cuda/buffer.h"
#include "host/cuda/device.h"
#include "host/cuda/stream.h"
#include "kernels/launch.h"
#include "kernels/ptx/cluster.h"
#include "kernels/ptx/cp_async.h"
#include "kernels/ptx/tma.h"
#include "test/seeds.h"

namespace {

using namespace wt;
using test::SeedGuard;
using test::seeds;

bool too_old() {
    if (const int sm = device_sm(0); sm && sm < 90) {
        MESSAGE("skip: mbarriers that count bytes need sm_90, this is sm_", sm);
        return true;
    }
    return false;
}

struct OneBarrier {
    alignas(128) int data[32];
    ptx::Mbarrier bar, again;
};

// What one thread sees of a barrier of 3 arrivals. Each answer: is the phase of that parity over?
__global__ void phases(const int* in, int* out) {
    OneBarrier& s = shared_storage<OneBarrier>();
    ptx::Mbarrier& bar = s.bar;
    const auto ask = [&](uint32_t parity) { *out++ = ptx::mbarrier_try_wait(bar, parity); };
    ptx::mbarrier_init(bar, 3);
    ptx::fence_proxy_async();
    ask(1);  // yes: the phase before the first
    ask(0);  // no
    ptx::mbarrier_arrive(bar);
    ptx::mbarrier_arrive(bar);
    ask(0);  // no
    ptx::mbarrier_arrive(bar);
    ask(0);  // yes
    ask(1);  // no: the second phase
    // Bytes too: all arrivals come first.
    ptx::mbarrier_expect_tx(bar, 64);
    ptx::mbarrier_arrive(bar);
    ptx::mbarrier_arrive(bar);
    ptx::mbarrier_arrive_expect_tx(bar, 64);
    ask(1);  // no
    ptx::bulk_load(s.data, in, 128, bar);
    ptx::mbarrier_wait(bar, 1);
    ask(1);  // yes
    *out++ = s.data[31];
    // The bytes come first.
    ptx::bulk_load(s.data + 16, in, 64, bar);
    ptx::mbarrier_arrive(bar);
    ptx::mbarrier_arrive(bar);
    ask(0);  // no
    ptx::mbarrier_arrive_expect_tx(bar, 64);
    ptx::mbarrier_wait(bar, 0);
    *out++ = s.data[31];
    ptx::mbarrier_inval(bar);
    ptx::mbarrier_init(bar, 1);
    ask(1);  // yes
    ptx::mbarrier_arrive(bar);
    ask(0);  // yes
}

constexpr int kStages = 3, kItems = 32;  // of 4 bytes a lane and stage
struct Pipeline {
    alignas(128) int data[kStages][kItems];
    ptx::Mbarrier full[kStages], empty[kStages];
};

// Warp 0 fills stages, each lane arriving; the other warps sum them.
__global__ void produce_and_consume(int rounds, int* out) {
    Pipeline& s = shared_storage<Pipeline>();
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32,
              consumers = static_cast<int>(blockDim.x) / 32 - 1;
    if (threadIdx.x == 0)
        for (int i = 0; i < kStages; ++i) {
            ptx::mbarrier_init(s.full[i], 32);
            ptx::mbarrier_init(s.empty[i], static_cast<uint32_t>(consumers));
        }
    __syncthreads();
    unsigned sum = 0;
    for (int i = 0; i < rounds; ++i) {
        const int stage = i % kStages;
        const uint32_t parity = static_cast<uint32_t>(i / kStages) & 1;
        if (warp == 0) {
            ptx::mbarrier_wait(s.empty[stage], parity ^ 1);
            s.data[stage][lane] = i * 1000 + lane;
            ptx::mbarrier_arrive(s.full[stage]);
        } else {
            ptx::mbarrier_wait(s.full[stage], parity);
            sum = sum * 5 + static_cast<unsigned>(s.data[stage][(lane + warp) % kItems]);
            __syncwarp();
            if (lane == 0) ptx::mbarrier_arrive(s.empty[stage]);
        }
    }
    if (warp) out[(warp - 1) * 32 + lane] = static_cast<int>(sum);
}

// The same with one thread that starts copies of 128 bytes, and bytes that are expected.
__global__ void fetch_and_consume(const int* in, int rounds, int* out) {
    Pipeline& s = shared_storage<Pipeline>();
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32,
              consumers = static_cast<int>(blockDim.x) / 32 - 1;
    if (threadIdx.x == 0)
        for (int i = 0; i < kStages; ++i) {
            ptx::mbarrier_init(s.full[i], 1);
            ptx::mbarrier_init(s.empty[i], static_cast<uint32_t>(consumers));
        }
    if (threadIdx.x == 0) ptx::fence_mbarrier_init();  // copies complete on `full`
    __syncthreads();
    unsigned sum = 0;
    for (int i = 0; i < rounds; ++i) {
        const int stage = i % kStages;
        const uint32_t parity = static_cast<uint32_t>(i / kStages) & 1;
        if (warp == 0) {
            if (lane) continue;
            ptx::mbarrier_wait(s.empty[stage], parity ^ 1);
            if (i % 2) ptx::mbarrier_arrive_expect_tx(s.full[stage], sizeof s.data[0]);
            ptx::bulk_load(s.data[stage], in + i * kItems, 64, s.full[stage]);
            ptx::bulk_load(s.data[stage] + 16, in + i * kItems + 16, 64, s.full[stage]);
            // fewer than none were outstanding
            if (i % 2 == 0) ptx::mbarrier_arrive_expect_tx(s.full[stage], sizeof s.data[0]);
        } else {
            ptx::mbarrier_wait(s.full[stage], parity);
            sum = sum * 5 + static_cast<unsigned>(s.data[stage][(lane + warp) % kItems]);
            __syncwarp();
            if (lane == 0) ptx::mbarrier_arrive(s.empty[stage]);
        }
    }
    if (warp) out[(warp - 1) * 32 + lane] = static_cast<int>(sum);
}

// cp.async completes on the barrier: no thread waits for its own copies.
__global__ void copy_and_consume(const int* in, int rounds, int* out) {
    Pipeline& s = shared_storage<Pipeline>();
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32,
              consumers = static_cast<int>(blockDim.x) / 32 - 1;
    if (threadIdx.x == 0)
        for (int i = 0; i < kStages; ++i) {
            ptx::mbarrier_init(s.full[i], 32);
            ptx::mbarrier_init(s.empty[i], static_cast<uint32_t>(consumers));
        }
    __syncthreads();
    unsigned sum = 0;
    for (int i = 0; i < rounds; ++i) {
        const int stage = i % kStages;
        const uint32_t parity = static_cast<uint32_t>(i / kStages) & 1;
        if (warp == 0) {
            ptx::mbarrier_wait(s.empty[stage], parity ^ 1);
            ptx::cp_async_4(&s.data[stage][lane], in + i * kItems + lane);
            ptx::cp_async_mbarrier_arrive_noinc(s.full[stage]);
        } else {
            ptx::mbarrier_wait(s.full[stage], parity);
            sum = sum * 5 + static_cast<unsigned>(s.data[stage][(lane + warp) % kItems]);
            __syncwarp();
            if (lane == 0) ptx::mbarrier_arrive(s.empty[stage]);
        }
    }
    if (warp) out[(warp - 1) * 32 + lane] = static_cast<int>(sum);
}

// A thread that asks for one barrier and, told no, completes what the other thread waits for first:
// asking must end.
__global__ void asks_and_goes_on(int* out) {
    OneBarrier& s = shared_storage<OneBarrier>();
    if (threadIdx.x == 0) {
        ptx::mbarrier_init(s.bar, 1);
        ptx::mbarrier_init(s.again, 1);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        int asked = 0;
        bool told = false;
        while (!ptx::mbarrier_try_wait(s.bar, 0)) {
            ++asked;
            if (!told) ptx::mbarrier_arrive(s.again);
            told = true;
        }
        *out = asked > 0;
    } else if (threadIdx.x == 32) {
        ptx::mbarrier_wait(s.again, 0);
        ptx::mbarrier_arrive(s.bar);
    }
}

constexpr int kRounds = 14;

std::vector<int> expected_sums(const std::vector<int>& data, int consumers) {
    std::vector<int> sums(consumers * 32);
    for (int c = 0; c < consumers; ++c)
        for (int lane = 0; lane < 32; ++lane)
            for (int i = 0; i < kRounds; ++i)
                sums[c * 32 + lane] = static_cast<int>(
                    static_cast<unsigned>(sums[c * 32 + lane]) * 5 +
                    static_cast<unsigned>(data[i * kItems + (lane + c + 1) % kItems]));
    return sums;
}

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("ptx: mbarrier: parities, phases and bytes as one thread sees them") {
    if (too_old()) return;
    for (const uint64_t seed : seeds(3)) {
        const SeedGuard guard(seed);
        CAPTURE(seed);
        const Stream stream(0);
        std::vector<int> data(32);
        for (int i = 0; i < 32; ++i) data[i] = 100 + i;
        DeviceBuffer<int> in(0, 32), out(0, 12);
        in.upload(data);
        launch("phases", {1, 1, stream.get(), sizeof(OneBarrier)}, phases,
               static_cast<const int*>(in.data()), out.data());
        stream.synchronize();
        CHECK(out.download() == std::vector<int>{1, 0, 0, 1, 0, 0, 1, 131, 0, 115, 1, 1});
    }
}

TEST_CASE("ptx: mbarrier: warps produce and consume, by arrivals, by bytes and by cp.async") {
    if (too_old()) return;
    std::vector<int> made(kRounds * kItems), in(kRounds * kItems);
    for (int i = 0; i < kRounds * kItems; ++i) {
        made[i] = i / kItems * 1000 + i % kItems;
        in[i] = i * 7919 % 10007;
    }
    DeviceBuffer<int> source(0, in.size());
    source.upload(in);
    const int* p = source.data();
    for (const uint64_t seed : seeds(8)) {
        const SeedGuard guard(seed);
        CAPTURE(seed);
        for (const int consumers : {1, 3}) {
            DeviceBuffer<int> out(0, consumers * 32);
            const Stream stream(0);
            const LaunchShape shape{1, static_cast<unsigned>(32 * (consumers + 1)), stream.get(),
                                    sizeof(Pipeline)};
            launch("produce_and_consume", shape, produce_and_consume, kRounds, out.data());
            stream.synchronize();
            CHECK(out.download() == expected_sums(made, consumers));
            launch("fetch_and_consume", shape, fetch_and_consume, p, kRounds, out.data());
            stream.synchronize();
            CHECK(out.download() == expected_sums(in, consumers));
            launch("copy_and_consume", shape, copy_and_consume, p, kRounds, out.data());
            stream.synchronize();
            CHECK(out.download() == expected_sums(in, consumers));
        }
    }
}

TEST_CASE(
    "ptx: mbarrier: asking for a phase ends, so that the thread can do what the phase depends on") {
    if (too_old()) return;
    for (const uint64_t seed : seeds(4)) {
        const SeedGuard guard(seed);
        const Stream stream(0);
        DeviceBuffer<int> out(0, 1);
        launch("asks_and_goes_on", {1, 64, stream.get(), sizeof(OneBarrier)}, asks_and_goes_on,
               out.data());
        stream.synchronize();
        CHECK(out.download()[0] == 1);
    }
}

TEST_SUITE_END();
