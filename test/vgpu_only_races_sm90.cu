// What a build with RACES=1 finds: each kernel here is right until one thing is left out. In other
// builds the kernels tell of nothing, and there is nothing to test. With PTX=1 the kernels are what
// nvcc makes of them.
#include <string>
#include <vector>

#include "kernels/common/dtype.h"
#include "kernels/launch.h"
#include "kernels/ptx/cluster.h"
#include "kernels/ptx/cp_async.h"
#include "kernels/ptx/griddep.h"
#include "kernels/ptx/ldmatrix.h"
#include "kernels/ptx/tma.h"
#include "kernels/ptx/warp.h"
#include "kernels/ptx/wgmma.h"

// With a name: nvcc leaves out kernels that nothing else in the file can call.
namespace races {

using namespace wt;

struct Memory {
    alignas(1024) int data[2][256];
    alignas(128) uint8_t bytes[256];
    ptx::Mbarrier full, empty;
};
constexpr size_t kBytes = sizeof(Memory);

// ---- barriers -----------------------------------------------------------------------------------

__global__ void blocks_barrier(int* out, int left) {
    Memory& s = shared_storage<Memory>();
    const int t = static_cast<int>(threadIdx.x);
    for (int turn = 0; turn < 3; ++turn) {
        s.data[0][t] = t + turn;
        if (left != 1) __syncthreads();
        out[t] = s.data[0][(t + 1) % 128];
        if (left != 2) __syncthreads();
    }
}

__global__ void warps_barrier(int* out, int left) {
    Memory& s = shared_storage<Memory>();
    const int t = static_cast<int>(threadIdx.x);
    s.data[0][t] = t;
    if (left == 1)
        __shfl_sync(~0u, t, 0);  // lets the others go on, and orders nothing
    else if (left == 2)
        __syncwarp(t % 2 ? 0xaaaaaaaau : 0x55555555u);
    else
        __syncwarp();
    out[t] = s.data[0][t ^ 1];
}

// A half of the block hands tiles to the other by named barriers.
__global__ void named_barriers(int* out, int left) {
    Memory& s = shared_storage<Memory>();
    const int t = static_cast<int>(threadIdx.x) % 64;
    for (int turn = 0; turn < 4; ++turn) {
        if (threadIdx.x < 64) {
            if (left == 1) s.data[0][t] = t + turn;  // before it is free
            if (turn > 0) ptx::bar_sync(2, 128);
            if (left != 1) s.data[0][t] = t + turn;
            ptx::bar_arrive(1, 128);
        } else {
            ptx::bar_sync(1, 128);
            out[t] = s.data[0][63 - t];
            if (turn < 3) ptx::bar_arrive(2, 128);
        }
    }
}

// The same by mbarriers, whose last arrival is an elected lane's for its warp.
__global__ void mbarriers(int* out, int left) {
    Memory& s = shared_storage<Memory>();
    const int t = static_cast<int>(threadIdx.x) % 64;
    if (threadIdx.x == 0) ptx::mbarrier_init(s.full, 64), ptx::mbarrier_init(s.empty, 2);
    __syncthreads();
    for (int turn = 0; turn < 4; ++turn) {
        if (threadIdx.x < 64) {
            if (left == 1) s.data[0][t] = t + turn;
            ptx::mbarrier_wait(s.empty, (turn + 1) % 2);
            if (left != 1) s.data[0][t] = t + turn;
            ptx::mbarrier_arrive(s.full);
        } else {
            ptx::mbarrier_wait(s.full, turn % 2);
            out[t] = s.data[0][63 - t];
            if (left != 2) __syncwarp();
            if (t % 32 == 0) ptx::mbarrier_arrive(s.empty);
        }
    }
}

__global__ void clusters(int* out, int left) {
    Memory& s = shared_storage<Memory>();
    const int t = static_cast<int>(threadIdx.x), rank = static_cast<int>(ptx::cluster_rank());
    ptx::cluster_arrive(), ptx::cluster_wait();  // all have started
    s.data[0][t] = t + rank;
    if (left == 1) __syncthreads();
    if (left == 2) ptx::cluster_arrive_relaxed();
    if (left == 0) ptx::cluster_arrive();
    if (left != 1) ptx::cluster_wait();
    out[rank * 64 + t] = ptx::map_shared_pointer(&s, 1 - rank)->data[0][63 - t];
    ptx::cluster_arrive(), ptx::cluster_wait();
}

// Block 0 writes into block 1's memory, which reads that and says so; then block 0 writes again.
// left 1: the arrival that hands over is one for what has been read; 2: block 1 says so too early.
__global__ void letters(int* out, int left) {
    Memory& s = shared_storage<Memory>();
    const int t = static_cast<int>(threadIdx.x);
    if (t == 0) {
        ptx::mbarrier_init(s.full, 64), ptx::mbarrier_init(s.empty, 64);
        ptx::fence_mbarrier_init();
    }
    ptx::cluster_arrive_relaxed(), ptx::cluster_wait();
    for (int turn = 0; turn < 3; ++turn) {
        if (ptx::cluster_rank() == 0) {
            ptx::map_shared_pointer(&s, 1)->data[0][t] = turn + t;
            const uint32_t full = ptx::map_shared(&s.full, 1);
            if (left == 1)
                ptx::mbarrier_arrive_cluster_read(full);
            else
                ptx::mbarrier_arrive_cluster(full);
            ptx::mbarrier_wait(s.empty, turn % 2);
        } else {
            ptx::mbarrier_wait(s.full, turn % 2);
            const uint32_t empty = ptx::map_shared(&s.empty, 0);
            if (left == 2) ptx::mbarrier_arrive_cluster_read(empty);
            out[t] = s.data[0][t];
            if (left != 2) ptx::mbarrier_arrive_cluster_read(empty);
        }
    }
    ptx::cluster_arrive_relaxed(), ptx::cluster_wait();
}

// What another block's thread has read may be overwritten behind a relaxed arrival; left 1: there
// is none.
__global__ void read_and_overwrite(int* out, int left) {
    Memory& s = shared_storage<Memory>();
    const int t = static_cast<int>(threadIdx.x), rank = static_cast<int>(ptx::cluster_rank());
    s.data[0][t] = t + rank;
    ptx::cluster_arrive(), ptx::cluster_wait();
    out[rank * 64 + t] = ptx::map_shared_pointer(&s, 1 - rank)->data[0][t];
    if (left == 0) ptx::cluster_arrive_relaxed(), ptx::cluster_wait();
    s.data[0][t] = 0;
    ptx::cluster_arrive_relaxed(), ptx::cluster_wait();
}

// ---- what is no race ----------------------------------------------------------------------------

__global__ void neighbours(int* out, int) {
    Memory& s = shared_storage<Memory>();
    const int t = static_cast<int>(threadIdx.x);
    s.bytes[t] = static_cast<uint8_t>(t);
    reinterpret_cast<uint16_t*>(s.data[0])[t] = static_cast<uint16_t>(t);
    reinterpret_cast<uint8_t*>(out)[blockIdx.x * 64 + t] = s.bytes[t];
    if (t == 0) s.data[1][0] = 0;
    __syncthreads();
    atomicAdd(&s.data[1][0], 1);
    atomicAdd(out + 64, 1);
    __syncthreads();
    if (s.data[1][0] < 0) out[65] = s.data[1][1] = 0;  // read by all
}

// ---- global memory ------------------------------------------------------------------------------

__global__ void overlapping(int* out, int left) {
    const int t = static_cast<int>(threadIdx.x), i = static_cast<int>(blockIdx.x) * 64 + t;
    out[i] = t;
    if (left == 1 && blockIdx.x == 1 && t == 5) out[3] = 0;                  // another block's
    if (left == 2 && i == 0) out[1] = 0;                                     // another thread's
    if (left == 3 && t == 5) atomicAdd(out + (blockIdx.x ^ 1) * 64 + 5, 1);  // updated and written
}

__global__ void outside(int* out, int left) {
    Memory& s = shared_storage<Memory>();
    const int t = static_cast<int>(threadIdx.x);
    if (left == 4) {  // not outside, but not on 8 bytes
        if (t < 16) *reinterpret_cast<int2*>(out + 2 * t + (t == 9)) = {1, 2};
        return;
    }
    reinterpret_cast<int*>(&s)[t + (left == 1 && t == 63 ? static_cast<int>(kBytes / 4) - 63 : 0)] =
        t;
    out[t + (left == 2 && t == 63)] = t;
    if (left == 3 && out[-1] == 7) out[0] = 1;
}

__global__ void early(int* out, int left) {
    const int t = static_cast<int>(threadIdx.x);
    if (left == 1 && t == 7) out[t] = 0;
    ptx::griddep_wait();
    out[t] = t;
}

__global__ void uninitialised(int* out, int left) {
    Memory& s = shared_storage<Memory>();
    const int t = static_cast<int>(threadIdx.x);
    // the block before has written it, which is no help
    if (left != 1 || t != 5 || blockIdx.x == 0) s.data[0][t] = t;
    if (left != 2 || t != 5) s.data[1][t] = t;
    ptx::fence_proxy_async();
    __syncthreads();
    out[128 * blockIdx.x + t] = s.data[0][127 - t];
    if (t > 0) return;
    ptx::bulk_store(out + 256 + 128 * blockIdx.x, s.data[1], 512);
    ptx::bulk_commit();
    ptx::bulk_wait<0>();
}

// ---- asynchronous copies ------------------------------------------------------------------------

// A tile written by all threads is stored by the first one, then written again.
__global__ void store_tile(int* out, int left) {
    Memory& s = shared_storage<Memory>();
    const int t = static_cast<int>(threadIdx.x);
    for (int turn = 0; turn < 3; ++turn) {
        s.data[0][t] = t + turn;
        // 2: of one thread in each warp
        if (left != 1 && (left != 2 || t % 32)) ptx::fence_proxy_async();
        if (left != 4) __syncthreads();
        if (t == 0) {
            ptx::bulk_store(out + 128 * turn, s.data[0], 512);
            ptx::bulk_commit();
            if (left != 3) ptx::bulk_wait_read<0>();
        }
        if (left != 5) __syncthreads();
    }
    if (t == 0) ptx::bulk_wait<0>();
}
// The fence may also be the storing thread's own, behind the barrier.
__global__ void store_tile_fenced_behind(int* out, int) {
    Memory& s = shared_storage<Memory>();
    s.data[0][threadIdx.x] = 1;
    __syncthreads();
    if (threadIdx.x) return;
    ptx::fence_proxy_async();
    ptx::bulk_store(out, s.data[0], 512);
    ptx::bulk_commit();
    ptx::bulk_wait<0>();
}

// cp.async is of its thread: its own wait does for it, a barrier for the others.
__global__ void copy_tile(int* in, int left) {
    Memory& s = shared_storage<Memory>();
    const int t = static_cast<int>(threadIdx.x);
    ptx::cp_async_4(&s.data[0][t], in + t);
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
    if (left != 1) __syncthreads();
    s.data[1][t] = s.data[0][127 - t];
    if (left != 2) __syncthreads();
    ptx::cp_async_4(&s.data[0][t], in + t);
    ptx::cp_async_wait<0>();
}

__global__ void load_tile(int* in, int left) {
    Memory& s = shared_storage<Memory>();
    const int t = static_cast<int>(threadIdx.x);
    if (t == 0) ptx::mbarrier_init(s.full, 1);
    __syncthreads();
    int sum = 0;
    for (int turn = 0; turn < 3; ++turn) {
        if (t == 0) {
            ptx::mbarrier_arrive_expect_tx(s.full, 512);
            ptx::bulk_load(s.data[0], in, 512, s.full);
        }
        if (left == 3 && t == 64) in[5] = 0;
        if (left == 1)
            __syncthreads();  // orders the threads, not the copy
        else
            ptx::mbarrier_wait(s.full, turn % 2);
        if (left == 2) __syncthreads();
        sum += s.data[0][t];
        if (left == 1) ptx::mbarrier_wait(s.full, turn % 2);
        if (left != 2) __syncthreads();
    }
    s.data[1][t] = sum;
}

// What stores write is there behind a wait that is not just for the reading, and each block's own.
__global__ void store_tiles(int* out, int left) {
    Memory& s = shared_storage<Memory>();
    const int t = static_cast<int>(threadIdx.x);
    int* mine = out + 128 * (left == 1 ? 0 : blockIdx.x);
    s.data[0][t] = t;
    ptx::fence_proxy_async();
    __syncthreads();
    if (t == 0) {
        ptx::bulk_store(mine, s.data[0], 512);
        ptx::bulk_commit();
        if (left == 2)
            ptx::bulk_wait_read<0>();
        else
            ptx::bulk_wait<0>();
    }
    if (left != 3) __syncthreads();
    mine[t] += 1;
}
__global__ void store_boxes(const __grid_constant__ CUtensorMap map, int left) {
    Memory& s = shared_storage<Memory>();
    s.data[0][threadIdx.x] = 1;
    ptx::fence_proxy_async();
    __syncthreads();
    if (threadIdx.x) return;
    ptx::tma_store(map, s.data[0], 0,
                   static_cast<int>(4 * blockIdx.x) - (left == 1 && blockIdx.x == 1));
    ptx::bulk_commit();
    ptx::bulk_wait<0>();
}

// ---- tensor cores -------------------------------------------------------------------------------

struct Operands {
    alignas(1024) bf16 a[64][64], b[64][64];
};
__global__ void products(float* out, int left) {
    Operands& s = shared_storage<Operands>();
    float d[32] = {};
    for (int turn = 0; turn < 3; ++turn) {
        for (int e = static_cast<int>(threadIdx.x); e < 4096; e += 128)
            s.a[e / 64][e % 64] = s.b[e / 64][e % 64] = from_float<bf16>(1);
        if (left != 1) ptx::fence_proxy_async();
        if (left != 2) __syncthreads();
        ptx::wgmma_fence();
        for (int step = 0; step < 4; ++step)
            ptx::wgmma_bf16<64>(
                d, ptx::wgmma_descriptor(&s.a[0][16 * step], 0, 1024, ptx::Swizzle::b128),
                ptx::wgmma_descriptor(&s.b[0][16 * step], 0, 1024, ptx::Swizzle::b128), true);
        ptx::wgmma_commit();
        if (left == 3 && threadIdx.x == 0) s.a[0][0] = from_float<bf16>(2);
        ptx::wgmma_wait<0>();
        __syncthreads();
    }
    for (int i = 0; i < 32; ++i) out[threadIdx.x * 32 + i] = d[i];
}

__global__ void matrices(int* out, int left) {
    Memory& s = shared_storage<Memory>();
    const int t = static_cast<int>(threadIdx.x);
    uint32_t r[4] = {1, 2, 3, 4};
    ptx::stmatrix_x4(&s.data[0][t % 32 * 4], r);
    if (left != 1) __syncwarp();
    ptx::ldmatrix_x4(r, &s.data[0][(31 - t % 32) * 4]);
    if (left != 2) __syncwarp();
    s.data[0][(t * 4 + 4) % 128] = 0;
    out[t] = static_cast<int>(r[0]);
}

}  // namespace races

#ifdef VGPU
#include <doctest/doctest.h>

#include "host/cuda/buffer.h"
#include "host/vgpu/diagnosis/races.h"
#include "host/vgpu/ptx_exec/kernels.h"
#include "kernels/tile/tensor_map.h"
#include "test/vgpu_run.h"

namespace {

using namespace races;
using test::has;
using test::run;
using test::Shape;

bool wanted() {
    if (!vgpu::Races::wanted()) MESSAGE("not built with RACES=1");
    return vgpu::Races::wanted();
}

// Under every seed: nothing where `part` is null, else a failure that says it.
template <int kCode = 719>
void expect(const Shape& shape, auto kernel, auto out, int left, const char* part,
            const char* part2 = "", const char* part3 = "") {
    Shape s = shape;
    for (s.seed = 0; s.seed < 4; ++s.seed) {
        const vgpu::GridFailure f = run(s, kernel, out, left);
        CAPTURE(left);
        CAPTURE(s.seed);
        if (!part) {
            CHECK_MESSAGE(f.code == 0, f.message);
            continue;
        }
        CHECK_MESSAGE(f.code == kCode, f.message);
        CHECK_MESSAGE(has(f.message, part), f.message);
        CHECK_MESSAGE(has(f.message, part2), f.message);
        CHECK_MESSAGE(has(f.message, part3), f.message);
    }
}

constexpr const char *kShared = "race (shared memory", *kGlobal = "race (global memory",
                     *kNothing = "nothing orders the two", *kFence = "no fence.proxy.async";

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("races: barriers order what lies before and behind them") {
    if (!wanted()) return;
    int out[256];
    const Shape two_warps{1, 64, kBytes}, four_warps{1, 128, kBytes};
    expect(four_warps, blocks_barrier, out, 0, nullptr);
    expect(four_warps, blocks_barrier, out, 1, kShared, kNothing);
    expect(four_warps, blocks_barrier, out, 2, kShared, kNothing, "vgpu_only_races_sm90.cu:");
    expect(two_warps, warps_barrier, out, 0, nullptr);
    expect(two_warps, warps_barrier, out, 1, kShared, kNothing);
    expect(two_warps, warps_barrier, out, 2, kShared, kNothing);
    expect(four_warps, named_barriers, out, 0, nullptr);
    expect(four_warps, named_barriers, out, 1, kShared, kNothing);
    expect(four_warps, mbarriers, out, 0, nullptr);
    expect(four_warps, mbarriers, out, 1, kShared, kNothing);
    expect(four_warps, mbarriers, out, 2, kShared, kNothing);
    const Shape cluster{2, 64, kBytes, 0, 2};
    expect(cluster, clusters, out, 0, nullptr);
    expect(cluster, clusters, out, 1, kShared, "of the cluster");
    expect(cluster, clusters, out, 2, kShared, "of the cluster");
    expect(cluster, letters, out, 0, nullptr);
    expect(cluster, letters, out, 1, kShared, "of the cluster");
    expect(cluster, letters, out, 2, kShared, "of the cluster");
    expect(cluster, read_and_overwrite, out, 0, nullptr);
    expect(cluster, read_and_overwrite, out, 1, kShared, "of the cluster");
}

TEST_CASE("races: neighbouring bytes, atomics and common reads are none") {
    if (!wanted()) return;
    DeviceBuffer<int> out(0, 256);
    expect({4, 64, kBytes}, neighbours, out.data(), 0, nullptr);
}

TEST_CASE(
    "races: blocks and threads that write the same global memory, and the same grid launched again") {
    if (!wanted()) return;
    DeviceBuffer<int> out(0, 256);
    expect({4, 64}, overlapping, out.data(), 0, nullptr);
    expect({4, 64}, overlapping, out.data(), 1, kGlobal, "another block");
    expect({4, 64}, overlapping, out.data(), 2, kGlobal, kNothing);
    expect({4, 64}, overlapping, out.data(), 3, kGlobal, "another block");
    expect({4, 64}, overlapping, out.data(), 0, nullptr);
}

// PTX says which memory an access means, and of how many bytes it is.
TEST_CASE("PTX: accesses outside shared memory, and that are not aligned") {
    if (!vgpu::ptx_exec::present()) {
        MESSAGE("not built with PTX=1");
        return;
    }
    DeviceBuffer<int> out(0, 64);
    const Shape shape{1, 64, kBytes};
    expect(shape, outside, out.data(), 0, nullptr);
    expect<700>(shape, outside, out.data(), 1,
                "thread (63,0,0): access outside shared memory at test/vgpu_only_races_sm90.cu:",
                "4 bytes at 0xc00 of 3072");
    expect<716>(shape, outside, out.data(), 4,
                "thread (9,0,0): misaligned access at test/vgpu_only_races_sm90.cu:", "8 bytes at");
}

TEST_CASE("races: accesses outside shared memory and allocations, to the byte") {
    if (!wanted()) return;
    DeviceBuffer<int> out(0, 64);
    const Shape shape{1, 64, kBytes};
    expect(shape, outside, out.data(), 0, nullptr);
    if (!vgpu::ptx_exec::present())
        expect<700>(shape, outside, out.data(), 1,
                    "out of bounds: this thread writes at test/vgpu_only_races_sm90.cu:",
                    "of shared memory");
    expect<700>(shape, outside, out.data(), 2,
                "out of bounds: this thread writes at test/vgpu_only_races_sm90.cu:",
                "pass the end of an allocation of 256 bytes");
    expect<700>(shape, outside, out.data(), 3,
                "out of bounds: this thread reads at test/vgpu_only_races_sm90.cu:",
                "in no live allocation");
}

TEST_CASE("races: shared memory that nobody has written") {
    if (!wanted()) return;
    DeviceBuffer<int> out(0, 512);
    const Shape shape{2, 128, kBytes};
    expect(shape, uninitialised, out.data(), 0, nullptr);
    expect(
        shape, uninitialised, out.data(), 1,
        "uninitialised (shared memory, offset 0x14): this thread reads at test/vgpu_only_races_sm90.cu:");
    expect(
        shape, uninitialised, out.data(), 2,
        "uninitialised (shared memory, offset 0x414): an asynchronous operation of this thread reads at test/vgpu_only_races_sm90.cu:");
}

TEST_CASE("races: global memory before griddep_wait, in a kernel that may start early") {
    if (!wanted()) return;
    DeviceBuffer<int> out(0, 64);
    Shape shape{1, 64};
    expect(shape, early, out.data(), 1, nullptr);
    shape.dependent = true;
    expect(shape, early, out.data(), 0, nullptr);
    expect(shape, early, out.data(), 1, "before griddep_wait", "vgpu_only_races_sm90.cu:");
}

TEST_CASE("races: TMA sees ordinary stores only behind a fence, and reads until it is waited for") {
    if (!wanted()) return;
    DeviceBuffer<int> out(0, 384);
    const Shape shape{1, 128, kBytes};
    expect(shape, store_tile, out.data(), 0, nullptr);
    expect(shape, store_tile, out.data(), 1, kFence, "vgpu_only_races_sm90.cu:");
    expect(shape, store_tile, out.data(), 2, kFence);
    expect(shape, store_tile, out.data(), 3, kShared, "an asynchronous operation reads");
    expect(shape, store_tile, out.data(), 4, "shared memory", "asynchronous operation");
    expect(shape, store_tile, out.data(), 5, kShared);
    expect(shape, store_tile_fenced_behind, out.data(), 0, nullptr);
}

TEST_CASE("races: cp.async is an access of its thread") {
    if (!wanted()) return;
    DeviceBuffer<int> in(0, 128);
    const Shape shape{1, 128, kBytes};
    expect(shape, copy_tile, in.data(), 0, nullptr);
    expect(shape, copy_tile, in.data(), 1, kShared, kNothing);
    expect(shape, copy_tile, in.data(), 2, kShared, kNothing);
}

TEST_CASE(
    "races: a load by TMA is there for those who wait for its barrier, and not before those who read are done") {
    if (!wanted()) return;
    DeviceBuffer<int> in(0, 256);
    const Shape shape{1, 128, kBytes};
    expect(shape, load_tile, in.data(), 0, nullptr);
    expect(shape, load_tile, in.data(), 1, kShared, "asynchronous operation writes");
    expect(shape, load_tile, in.data(), 2, kShared, "asynchronous operation");
    expect(shape, load_tile, in.data(), 3, kGlobal, "asynchronous operation");
}

TEST_CASE("races: what TMA stores to global memory") {
    if (!wanted()) return;
    DeviceBuffer<int> out(0, 256);
    const Shape shape{2, 128, kBytes};
    expect(shape, store_tiles, out.data(), 0, nullptr);
    expect(shape, store_tiles, out.data(), 1, kGlobal, "another block");
    expect(shape, store_tiles, out.data(), 2, kGlobal, "an asynchronous operation writes");
    expect(shape, store_tiles, out.data(), 3, kGlobal, kNothing);
    const CUtensorMap map = tiled_map(DType::f32, out.data(), {32, 8}, {128}, {32, 4}, 0);
    expect(shape, store_boxes, map, 0, nullptr);
    expect(shape, store_boxes, map, 1, kGlobal, "an asynchronous operation of this thread writes",
           "another block");
}

TEST_CASE("races: wgmma's operands are fenced, there, and left alone until the wait") {
    if (!wanted()) return;
    std::vector<float> out(128 * 32);
    const Shape shape{1, 128, sizeof(Operands)};
    expect(shape, products, out.data(), 0, nullptr);
    expect(shape, products, out.data(), 1, kFence);
    expect(shape, products, out.data(), 2, kShared, "asynchronous operation");
    expect(shape, products, out.data(), 3, kShared, "an asynchronous operation reads");
}

TEST_CASE("races: ldmatrix and stmatrix are accesses of the lanes whose rows they are") {
    if (!wanted()) return;
    int out[64];
    const Shape shape{1, 32, kBytes};
    expect(shape, matrices, out, 0, nullptr);
    expect(shape, matrices, out, 1, kShared);
    expect(shape, matrices, out, 2, kShared);
}

TEST_SUITE_END();
#endif  // VGPU
