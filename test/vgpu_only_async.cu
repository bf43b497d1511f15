// What the virtual GPU says of asynchronous operations and clusters gone wrong, and that a kernel
// which lacks a wait is wrong under some seed.
#include <doctest/doctest.h>

#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "host/cuda/buffer.h"
#include "host/cuda/stream.h"
#include "kernels/launch.h"
#include "kernels/ptx/cluster.h"
#include "kernels/ptx/cp_async.h"
#include "kernels/ptx/tma.h"
#include "kernels/tile/tensor_map.h"
#include "test/vgpu_run.h"

using namespace wt;
using namespace wt::test;

namespace {

constexpr uint64_t kSeeds = 20;

struct Memory {
    alignas(1024) int data[2][256];
    ptx::Mbarrier bar, other;
};
constexpr size_t kBytes = sizeof(Memory);

void expect_failure(const vgpu::GridFailure& f, int code, const char* part,
                    const char* part2 = "") {
    CHECK_MESSAGE(f.code == code, f.message);
    CHECK_MESSAGE(has(f.message, part), f.message);
    CHECK_MESSAGE(has(f.message, part2), f.message);
}

// ---- barriers -----------------------------------------------------------------------------------

enum Mistake {
    no_init,
    twice,
    gone,
    too_many,
    no_count,
    bytes_too_many,
    bytes_uncountable,
    unaligned,
    lags,
    two_waits,
};

__global__ void misuse(int what) {
    Memory& s = shared_storage<Memory>();
    switch (what) {
        case no_init: ptx::mbarrier_arrive(s.bar); break;
        case twice: ptx::mbarrier_init(s.bar, 1), ptx::mbarrier_init(s.bar, 1); break;
        case gone:
            ptx::mbarrier_init(s.bar, 1), ptx::mbarrier_inval(s.bar), ptx::mbarrier_wait(s.bar, 1);
            break;
        case too_many:
            ptx::mbarrier_init(s.bar, 1);
            ptx::mbarrier_arrive_expect_tx(s.bar, 16);
            ptx::mbarrier_arrive(s.bar);
            break;
        case no_count: ptx::mbarrier_init(s.bar, 0); break;
        case bytes_too_many:
            ptx::mbarrier_init(s.bar, 2);
            // from shared memory, which nobody checks here
            ptx::bulk_load(s.data, s.data + 1, 64, s.bar);
            ptx::mbarrier_arrive(s.bar);
            ptx::mbarrier_arrive_expect_tx(s.bar, 48);
            break;
        case bytes_uncountable:
            ptx::mbarrier_init(s.bar, 1), ptx::mbarrier_expect_tx(s.bar, 1 << 20);
            break;
        case unaligned:
            ptx::mbarrier_init(
                *reinterpret_cast<ptx::Mbarrier*>(reinterpret_cast<char*>(&s.bar) + sizeof(Memory)),
                1);
            break;
        case lags:
            if (threadIdx.x == 0) ptx::mbarrier_init(s.bar, 1);
            __syncthreads();
            if (threadIdx.x == 1) ptx::mbarrier_wait(s.bar, 0);
            if (threadIdx.x == 2) ptx::mbarrier_arrive(s.bar), ptx::mbarrier_arrive(s.bar);
            break;
        case two_waits:
            if (threadIdx.x == 0) ptx::mbarrier_init(s.bar, 3);
            __syncthreads();
            if (threadIdx.x % 2) ptx::mbarrier_arrive_expect_tx(s.bar, threadIdx.x * 32);
            ptx::mbarrier_wait(s.bar, 0);
            break;
    }
}

// Of a block before: its barriers are not this one's.
__global__ void inherits() {
    Memory& s = shared_storage<Memory>();
    if (blockIdx.x == 0) {
        ptx::mbarrier_init(s.bar, 1);
        ptx::mbarrier_arrive(s.bar);
    } else {
        ptx::mbarrier_arrive(s.bar);
    }
}

// ---- copies -------------------------------------------------------------------------------------

__global__ void copies_amiss(const char* in, int what) {
    Memory& s = shared_storage<Memory>();
    char* to = reinterpret_cast<char*>(s.data);
    switch (what) {
        case 0: ptx::cp_async_16(to + 8, in); break;
        case 1: ptx::cp_async_16(to, in + 4); break;
        case 2: ptx::cp_async_8(to + sizeof(Memory), in); break;
        case 3: ptx::cp_async_4(to, in, 5); break;
        case 4: ptx::cp_async_16(const_cast<char*>(in), in); break;
    }
}

__global__ void boxes_amiss(const __grid_constant__ CUtensorMap map, int what) {
    Memory& s = shared_storage<Memory>();
    char* to = reinterpret_cast<char*>(s.data);
    ptx::mbarrier_init(s.bar, 1);
    switch (what) {
        case 0: ptx::tma_load(to + 64, map, s.bar, 0, 0); break;
        case 1: ptx::tma_load(to + 2176, map, s.bar, 0, 0); break;
        case 2: ptx::tma_load(to, map, s.bar, 0, 0, 0); break;
        case 3: ptx::tma_load_im2col(to, map, s.bar, 0, 0, 0, 0, 0, 0); break;
        case 4: ptx::tma_store(map, to, 0, -1); break;
        case 5: ptx::tma_load(to, map, s.other, 0, 0); break;
        case 6: ptx::tma_load_multicast(to, map, s.bar, 2, 0, 0); break;
        case 7: {
            const CUtensorMap none{};
            ptx::tma_load(to, none, s.bar, 0, 0);
            break;
        }
        case 8: ptx::bulk_load(to, reinterpret_cast<const char*>(&map) + 8, 16, s.bar); break;
        case 9: ptx::bulk_store(to, to + 128, 24); break;
        case 10: ptx::tma_load(to, map, s.bar, 0, 0); break;  // and nobody waits
        case 11:
            ptx::tma_store(map, to, 0, 0);
            ptx::bulk_commit();
            break;
        case 12:
            ptx::mbarrier_arrive_expect_tx(s.bar, 1024 + 256);
            ptx::tma_load(to, map, s.bar, 0, 0);
            ptx::mbarrier_wait(s.bar, 0);
            break;
    }
}

__global__ void columns_amiss(const __grid_constant__ CUtensorMap map) {
    Memory& s = shared_storage<Memory>();
    ptx::mbarrier_init(s.bar, 1);
    ptx::tma_load_im2col(s.data, map, s.bar, 0, 0, 4, 0, 0, 0);
}

CUtensorMap small_map(const void* p) {
    return tiled_map(DType::f32, p, {32, 16}, {128}, {32, 8}, 128);
}

// ---- clusters -----------------------------------------------------------------------------------

[[maybe_unused]] __global__ void cluster_amiss(int what, int* out) {
    Memory& s = shared_storage<Memory>();
    const uint32_t rank = ptx::cluster_rank();
    const auto sync = [] {
        ptx::cluster_arrive();
        ptx::cluster_wait();
    };
    if (what == 0) {  // no barrier before
        ptx::mbarrier_init(s.bar, 1);
        if (rank == 0) ptx::mbarrier_arrive_cluster(ptx::map_shared(&s.bar, 1));
        sync();
    } else if (what == 1) {  // no barrier after
        ptx::mbarrier_init(s.bar, 1);
        sync();
        if (rank == 1) return;
        __nanosleep(1);
        ptx::mbarrier_arrive_cluster(ptx::map_shared(&s.bar, 1));
    } else if (what == 2) {
        ptx::cluster_arrive();
        ptx::cluster_arrive();
    } else if (what == 3) {
        ptx::cluster_wait();
    } else if (what == 4) {
        ptx::cluster_arrive();
    } else if (what == 5) {
        if (rank == 1)
            ptx::cluster_arrive(), ptx::cluster_wait(), ptx::cluster_arrive(), ptx::cluster_wait();
        if (rank == 0) sync(), ptx::mbarrier_init(s.bar, 1), ptx::mbarrier_wait(s.bar, 0);
    } else if (what == 6) {  // a pointer that outlives the block
        const volatile int* p = ptx::map_shared_pointer(s.data[0], rank ^ 1);
        sync();
        if (rank == 1) return;
        __nanosleep(1);
        out[0] = p[0];
    }
}

// ---- kernels that lack something: parts of a whole one that are left out ------------------------

enum Left { nothing, full_wait, empty_wait, read_wait, fence_of_groups, barrier };

constexpr int kTiles = 9;

// Loads tiles through two stages, adds 1 and stores them, through TMA.
__global__ void through(const __grid_constant__ CUtensorMap in,
                        const __grid_constant__ CUtensorMap out, int left) {
    struct Stages {
        alignas(1024) int tile[2][8][32], result[8][32];
        ptx::Mbarrier full[2], empty[2];
    };
    Stages& s = shared_storage<Stages>();
    const int t = static_cast<int>(threadIdx.x);
    if (t == 0)
        for (int i = 0; i < 2; ++i)
            ptx::mbarrier_init(s.full[i], 1), ptx::mbarrier_init(s.empty[i], 32);
    __syncthreads();
    if (t >= 32) {  // one thread of its own warp fetches
        if (t > 32) return;
        for (int i = 0; i < kTiles; ++i) {
            if (left != empty_wait)
                ptx::mbarrier_wait(s.empty[i % 2], static_cast<uint32_t>(i / 2 + 1) & 1);
            ptx::mbarrier_arrive_expect_tx(s.full[i % 2], 1024);
            ptx::tma_load(s.tile[i % 2], in, s.full[i % 2], 0, 8 * i);
        }
        return;
    }
    for (int i = 0; i < kTiles; ++i) {
        if (left != full_wait) ptx::mbarrier_wait(s.full[i % 2], static_cast<uint32_t>(i / 2) & 1);
        int v[8];
        for (int r = 0; r < 8; ++r) v[r] = s.tile[i % 2][r][t];
        ptx::mbarrier_arrive(s.empty[i % 2]);
        if (t == 0 && left != read_wait) ptx::bulk_wait_read<0>();
        __syncwarp();
        for (int r = 0; r < 8; ++r) s.result[r][t] = v[r] + 1;
        ptx::fence_proxy_async();
        __syncwarp();
        if (t == 0) {
            ptx::tma_store(out, s.result, 0, 8 * i);
            ptx::bulk_commit();
        }
    }
    if (t == 0) ptx::bulk_wait_read<0>();
}

bool through_is_right(uint64_t seed, int left) {
    std::vector<int> in(kTiles * 8 * 32), out(in.size());
    std::iota(in.begin(), in.end(), 5);
    const CUtensorMap from = tiled_map(DType::f32, in.data(), {32, kTiles * 8}, {128}, {32, 8}, 0);
    const CUtensorMap to = tiled_map(DType::f32, out.data(), {32, kTiles * 8}, {128}, {32, 8}, 0);
    const auto f = run({1, 64, 8192, seed}, through, from, to, left);
    CHECK_MESSAGE((left != nothing || !f), f.message);
    for (int& v : in) ++v;
    return !f && in == out;
}

// A cp.async pipeline of two stages.
__global__ void copy_through(const int* in, int* out, int left) {
    auto& s = shared_storage<Memory>();
    const int t = static_cast<int>(threadIdx.x);
    const auto fetch = [&](int i) {
        if (i < kTiles) ptx::cp_async_16(s.data[i % 2] + 4 * t, in + i * 256 + 4 * t);
        if (left != fence_of_groups) ptx::cp_async_commit();
    };
    fetch(0);
    for (int i = 0; i < kTiles; ++i) {
        fetch(i + 1);
        if (left != full_wait) ptx::cp_async_wait<1>();
        if (left != barrier) __syncthreads();
        for (int k = 0; k < 4; ++k) out[i * 256 + 4 * t + k] = s.data[i % 2][(4 * t + k + 4) % 256];
        __syncthreads();
    }
}

bool copy_is_right(uint64_t seed, int left) {
    std::vector<int> in(kTiles * 256), out(in.size());
    std::iota(in.begin(), in.end(), 5);
    const auto f = run({1, 64, kBytes, seed}, copy_through, static_cast<const int*>(in.data()),
                       out.data(), left);
    CHECK_MESSAGE(!f, f.message);
    for (int i = 0; i < kTiles * 256; ++i)
        if (out[i] != in[i / 256 * 256 + (i + 4) % 256]) return false;
    return true;
}

// Blocks of a cluster exchange values; a half of the barrier, or the whole, may be left out.
__global__ void exchange(int* out, int left) {
    Memory& s = shared_storage<Memory>();
    const int t = static_cast<int>(threadIdx.x);
    const uint32_t rank = ptx::cluster_rank();
    s.data[0][t] = static_cast<int>(blockIdx.x) * 100 + t;
    if (left != barrier) {
        ptx::cluster_arrive();
        ptx::cluster_wait();
    }
    out[blockIdx.x * blockDim.x + threadIdx.x] = ptx::map_shared_pointer(s.data[0], rank ^ 1)[t];
    ptx::cluster_arrive();
    ptx::cluster_wait();
}

bool exchange_is_right(uint64_t seed, int left) {
    std::vector<int> out(4 * 32);
    Shape shape{4, 32, kBytes, seed};
    shape.cluster = {2};
    const auto f = run(shape, exchange, out.data(), left);
    CHECK_MESSAGE(!f, f.message);
    for (int i = 0; i < 128; ++i)
        if (out[i] != (i / 32 ^ 1) * 100 + i % 32) return false;
    return true;
}

void mutation(const std::string& what, const std::function<bool(uint64_t, int)>& right, int left) {
    INFO(what);
    int wrong = 0;
    for (uint64_t seed = 1; seed <= kSeeds; ++seed) wrong += !right(seed, left);
    CHECK(wrong > 0);
}

}  // namespace

TEST_CASE("vgpu: misused mbarriers are named") {
    for (const uint64_t seed : {uint64_t{0}, uint64_t{3}}) {
        const auto f = [&](int what, unsigned threads = 1) {
            return run({1, threads, kBytes, seed}, misuse, what);
        };
        const char* nobody =
            "barrier at offset 0x800 of shared memory: there is no initialised barrier";
        expect_failure(f(no_init), 719, nobody,
                       "thread (0,0,0): mbarrier_arrive at test/vgpu_only_async.cu:");
        expect_failure(f(twice), 719, "a live barrier already");
        expect_failure(f(gone), 719, nobody);
        expect_failure(f(too_many), 719, "all its arrivals have come, and bytes are outstanding");
        expect_failure(f(no_count), 719, "the count must be 1 to");
        if (seed == 0)
            expect_failure(f(bytes_too_many), 719, "16 bytes more came than its phase expected");
        expect_failure(f(bytes_uncountable), 719, "more than 2^20 - 1 bytes");
        expect_failure(f(unaligned), 719, "not 8 aligned bytes of the block's shared memory");
        if (seed == 0)
            expect_failure(f(lags, 4), 719,
                           "its next phase ended too before this thread saw the end",
                           "thread (1,0,0)");
        const auto g = f(two_waits, 4);
        expect_failure(
            g, 719,
            "deadlock: threads 0-3 wait in mbarrier_wait for parity 0 of the barrier at offset 0x800 (1 of 3 arrivals and 128 bytes to come)",
            "at test/vgpu_only_async.cu:");
        expect_failure(run({2, 1, kBytes, 0}, inherits), 719, nobody, "block (1,0,0)");
    }
}

TEST_CASE("vgpu: cp.async that cannot be") {
    alignas(16) char in[64] = {};
    const auto f = [&](int what) {
        return run({1, 1, kBytes}, copies_amiss, static_cast<const char*>(in), what);
    };
    expect_failure(f(0), 716, "both ends must be aligned to the size",
                   "to offset 8 of shared memory");
    expect_failure(f(1), 716, "both ends must be aligned to the size");
    expect_failure(f(2), 700, "outside the block's shared memory");
    expect_failure(f(3), 719, "the source has more bytes than the copy");
    expect_failure(f(4), 700, "outside the block's shared memory");
}

TEST_CASE("vgpu: TMA operations that cannot be") {
    alignas(16) static float host[32 * 16] = {};
    const CUtensorMap map = small_map(host);
    const auto f = [&](int what, uint64_t seed = 0) {
        return run({1, 1, kBytes, seed}, boxes_amiss, map, what);
    };
    expect_failure(f(0), 716, "offset 64 of shared memory is not aligned to 128",
                   "tma_load at test/vgpu_only_async.cu:");
    expect_failure(f(1), 700, "1024 bytes at offset 2176 are not inside the block's 3072 bytes");
    expect_failure(f(2), 719,
                   "the tensor map is for tiles of 2 dimensions, the instruction for tiles of 3");
    expect_failure(f(3), 719, "the instruction for im2col of 4");
    expect_failure(f(4), 719, "coordinate 1 is -1; stores start inside the tensor");
    expect_failure(f(5), 719, "there is no initialised barrier");
    expect_failure(f(6), 719, "block 1 of its cluster of 1 does not exist");
    expect_failure(f(7), 719, "that is no tensor map");
    expect_failure(f(8), 716, "multiples of 16 bytes");
    expect_failure(f(9), 716, "multiples of 16 bytes");
    expect_failure(f(11), 719,
                   "may still read shared memory when its block has ended (bulk_wait_read)");
    expect_failure(
        f(12), 719,
        "deadlock: thread 0 waits in mbarrier_wait for parity 0 of the barrier at offset 0x800 (0 of 1 arrivals and 256 bytes to come)");
    int found = 0;
    for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
        const auto g = f(10, seed);
        found += has(g.message, "that nobody waited for was under way when a block ended");
    }
    CHECK(found > 0);

    Im2col m{};
    m.n = 1, m.h = 4, m.w = 4, m.c = 32, m.pitch = 32, m.channels = 32, m.pixels = 4,
    m.swizzle = 64;
    const CUtensorMap columns = im2col_map(DType::bf16, host, m);
    expect_failure(run({1, 1, kBytes}, columns_amiss, columns), 719,
                   "(w, h) = (0, 4) lies outside the map's bounding box, (0, 0) to (3, 3)");
}

TEST_CASE("vgpu: TMA stays inside live memory that the device may use") {
    struct ResetAfter {
        ~ResetAfter() { cudaDeviceReset(); }
    } reset;
    const auto failure = [](const CUtensorMap& map) {
        const Stream stream(0);
        launch("boxes_amiss", {1, 1, stream.get(), kBytes}, boxes_amiss, map, 12);
        CHECK_THROWS(stream.synchronize());
        const std::string said = vgpu::last_failure();
        cudaDeviceReset();
        return said;
    };
    CUtensorMap map;
    {
        const DeviceBuffer<float> a(0, 32 * 16);
        map = small_map(a.data());
    }
    const std::string freed = failure(map);
    CHECK_MESSAGE(has(freed, "tma_load at test/vgpu_only_async.cu:"), freed);
    CHECK_MESSAGE(has(freed, "of its tensor, 2048 bytes at "), freed);
    CHECK_MESSAGE(has(freed, "are in no live allocation of device 0"), freed);
    const DeviceBuffer<float> b(0, 32 * 15);
    const std::string beyond = failure(small_map(b.data()));
    CHECK_MESSAGE(has(beyond, "pass the end of an allocation of 1920 bytes"), beyond);
}

TEST_CASE("vgpu: clusters gone wrong") {
    std::vector<int> out(1);
    const auto f = [&](int what, uint64_t seed = 0) {
        Shape shape{2, 1, kBytes, seed};
        shape.cluster = {2};
        return run(shape, cluster_amiss, what, out.data());
    };
    expect_failure(f(0), 719, "block 1 of its cluster of 2 has not started");
    expect_failure(f(1), 719, "block 1 of its cluster of 2 has exited");
    expect_failure(f(2), 719, "the thread has arrived before and not waited since");
    expect_failure(f(3), 719, "the thread has not arrived (cluster_arrive)");
    expect_failure(f(4), 719, "the thread has returned after cluster_arrive without cluster_wait");
    const auto g = f(5);
    expect_failure(g, 719, "deadlock: block (0,0,0) thread 0 waits in mbarrier_wait for parity 0",
                   "block (1,0,0) thread 0 waits in cluster_wait (1 of 2 threads have arrived)");
#ifndef __SANITIZE_ADDRESS__
    expect_failure(f(6), 700,
                   "access to the shared memory of block (1,0,0) of the cluster, which has exited",
                   "block (0,0,0), thread (0,0,0)");
#endif
    Shape shape{3, 1, kBytes};
    shape.cluster = {2};
    expect_failure(run(shape, cluster_amiss, 7, out.data()), 9, "divides the grid");
    for (const uint64_t seed : {0, 1, 2}) CHECK(exchange_is_right(seed, nothing));
}

TEST_CASE("vgpu: a kernel that lacks a wait is wrong under some seed, the whole one under none") {
    for (uint64_t seed = 0; seed <= kSeeds; ++seed) {
        CAPTURE(seed);
        CHECK(through_is_right(seed, nothing));
        CHECK(copy_is_right(seed, nothing));
        CHECK(exchange_is_right(seed, nothing));
    }
    mutation("TMA without the wait for full stages", through_is_right, full_wait);
    mutation("TMA without the wait for empty stages", through_is_right, empty_wait);
    mutation("TMA stores without the wait for their reading", through_is_right, read_wait);
    mutation("cp.async without its wait", copy_is_right, full_wait);
    mutation("cp.async without groups", copy_is_right, fence_of_groups);
    mutation("cp.async without the barrier after its wait", copy_is_right, barrier);
    mutation("a cluster without its barrier", exchange_is_right, barrier);
}

TEST_CASE("vgpu: tensor maps that the driver refuses, with the reason") {
    alignas(16) static float host[64] = {};
    const auto why = [&](const std::vector<uint64_t>& dims, const std::vector<uint64_t>& strides,
                         const std::vector<uint32_t>& box, int swizzle, int shift = 0) {
        try {
            tiled_map(DType::f32, reinterpret_cast<char*>(host) + shift, dims, strides, box,
                      swizzle);
        } catch (const Error& e) {
            return std::string(e.what());
        }
        return std::string("none");
    };
    CHECK(why({32, 16}, {128}, {32, 8}, 128) == "none");
    const auto expect = [](const std::string& text, const char* part) {
        CHECK_MESSAGE(has(text, part), text);
    };
    expect(why({32, 16}, {128}, {32, 8}, 0, 8), "the tensor's address must be a multiple of 16");
    expect(why({32, 16}, {120}, {32, 8}, 0), "globalStrides[0] = 120: must be a multiple of 16");
    expect(why({32, 16}, {uint64_t{1} << 40}, {32, 8}, 0), "below 2^40");
    expect(why({32, 0}, {128}, {32, 8}, 0), "globalDim[1] = 0");
    expect(why({32, 16}, {128}, {32, 257}, 0), "boxDim[1] = 257: must be 1 to 256");
    expect(why({32, 16}, {128}, {30, 8}, 0),
           "120 bytes along dimension 0: must be a multiple of 16");
    expect(why({32, 16}, {128}, {16, 8}, 128),
           "its rows have 64 bytes, which must be the swizzle's 128");
    expect(why({32, 16}, {128}, {12, 8}, 48), "0, 32, 64 or 128 bytes, not 48");
    expect(why({32, 16}, {}, {32, 8}, 0), "one stride less");
    expect(why({32, 16}, {128}, {64, 0}, 0),
           "tensor map of 32 x 16 fp32, box 64 x 0, strides 128 bytes: cudaErrorInvalidValue");
    Im2col m{};
    m.n = 1, m.h = 4, m.w = 4, m.c = 32, m.pitch = 32, m.channels = 32, m.pixels = 4,
    m.swizzle = 64;
    const auto why_columns = [&](Im2col i) {
        try {
            im2col_map(DType::bf16, host, i);
        } catch (const Error& e) {
            return std::string(e.what());
        }
        return std::string("none");
    };
    CHECK(why_columns(m) == "none");
    Im2col n = m;
    n.lower_h = -129;
    expect(why_columns(n), "corners must be -128 to 127");
    n = m, n.pixels = 1025;
    expect(why_columns(n), "pixelsPerColumn must be 1 to 1024");
    n = m, n.upper_w = -4;
    expect(why_columns(n), "the bounding box is empty");
    n = m, n.stride_w = 9;
    expect(why_columns(n), "elementStrides[1] = 9: must be 1 to 8");
    n = m, n.pitch = 33;
    expect(why_columns(n), "globalStrides[0] = 66");
}
