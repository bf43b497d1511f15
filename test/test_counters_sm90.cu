// Counters of compiled PTX (make PTX=1) against arithmetic. Other builds only compile this: their
// kernels do not count.
#include <doctest/doctest.h>

#include <vector>

#include "host/cuda/buffer.h"
#include "host/cuda/stream.h"
#include "kernels/launch.h"
#include "kernels/operations.h"
#include "kernels/product_plan.h"
#include "kernels/ptx/ldmatrix.h"
#include "kernels/tile/wgmma_tile.h"
#include "test/program.h"
#include "test/seeds.h"

#ifdef VGPU
#include "host/vgpu/ptx_exec/counters.h"
#include "host/vgpu/ptx_exec/kernels.h"
#endif

namespace wt::counters_test {

// Not in an unnamed namespace, so that nvcc keeps what no host code of its own launches.
__global__ void copy_16(const uint4* in, uint4* out, int stride) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * stride;
    out[i] = in[i];
}
__global__ void copy_4(const uint32_t* in, uint32_t* out, int stride) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * stride;
    out[i] = in[i];
}

struct Words {
    alignas(1024) uint32_t at[2048];
};
__global__ void store_words(int stride) {
    auto& s = shared_storage<Words>();
    s.at[threadIdx.x * stride % 2048] = threadIdx.x;
}
__global__ void store_16(int stride) {
    auto& s = shared_storage<Words>();
    const unsigned at = threadIdx.x * stride * 4 % 2048;
    *reinterpret_cast<uint4*>(s.at + at) = uint4{at, at, at, at};
}
// Rows of 16 bytes of four matrices, as accumulators of wgmma go to swizzled lines of 128 bytes;
// or one below the other in lines of that length.
__global__ void store_rows(int chunk, int as_they_lie) {
    auto* to = reinterpret_cast<unsigned char*>(shared_storage<Words>().at);
    const int row = threadIdx.x % 16, unit = 2 * chunk + threadIdx.x / 16;
    const uint32_t r[4] = {threadIdx.x, threadIdx.x, threadIdx.x, threadIdx.x};
    ptx::stmatrix_x4(to + (as_they_lie ? row * 128 + unit * 16 : swizzled<128>(row, unit)), r);
}

// What is counted must be there as it is written: assembly for nvcc, and for g++, which does not
// count, something that it understands.
#ifdef VGPU
#define FMA(a) a = a * a + a
#define FMA_AND_EXP(a) FMA(a)
#define LOAD(b, p) b = *(p)
#else
#define FMA(a) asm volatile("fma.rn.f32 %0, %0, %0, %0;" : "+f"(a))
#define FMA_AND_EXP(a)                                                                        \
    asm volatile(                                                                             \
        "fma.rn.f32 %0, %0, %0, %0;\n\tfma.rn.f32 %0, %0, %0, %0;\n\tfma.rn.f32 %0, %0, %0, " \
        "%0;\n\tex2.approx.f32 %0, %0;"                                                       \
        : "+f"(a))
#define LOAD(b, p) asm volatile("ld.global.f32 %0, [%1];" : "=f"(b) : "l"(p))
#endif

// Ten turns of three products and sums and one exponential: of every warp 30 and 10.
__global__ void by_hand(const float* in, float* out, int turns) {
    float a = in[threadIdx.x];
#pragma unroll 1
    for (int i = 0; i < turns; ++i) FMA_AND_EXP(a);
    __syncthreads();
    out[threadIdx.x] = a;
}
// As many turns as the lane's number.
__global__ void by_lane(float* out) {
    float a = 1;
#pragma unroll 1
    for (unsigned i = 0; i < threadIdx.x % 32; ++i) FMA(a);
    out[threadIdx.x] = a;
}
// Odd lanes load in even turns, even lanes in odd ones.
__global__ void in_turn(const float* in, float* out, int turns) {
    float a = 0;
#pragma unroll 1
    for (int i = 0; i < turns; ++i)
        if ((i + threadIdx.x) % 2) {
            float b;
            LOAD(b, in + 32 * i + threadIdx.x);
            a += b;
        }
    out[threadIdx.x] = a;
}
__global__ void add_up(unsigned* out) { atomicAdd(out + threadIdx.x / 32 * 64, 1u); }

}  // namespace wt::counters_test

#ifdef VGPU

using namespace wt;
using namespace wt::counters_test;
using vgpu::ptx_exec::Access;
using vgpu::ptx_exec::AccessCounters;
using vgpu::ptx_exec::Class;
using vgpu::ptx_exec::KernelCounters;

namespace {

// The counters of the one kernel that f launches.
template <class F>
KernelCounters count(F f) {
    const Stream stream(0);
    vgpu::ptx_exec::start_counting();
    f(stream.get());
    stream.synchronize();
    const std::vector<KernelCounters> all = vgpu::ptx_exec::stop_counting();
    REQUIRE(all.size() == 1);
    return all[0];
}

uint64_t of(const KernelCounters& k, Class c) { return k.instructions[static_cast<size_t>(c)]; }

// Of programs that run the PTX of sm_90, all but those that look for races.
bool counts() {
    int major = 0;
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
    const bool should = vgpu::ptx_exec::present() && major >= 9 && !test::races_wanted();
    CHECK(vgpu::ptx_exec::can_count() == should);
    return should && vgpu::ptx_exec::can_count();
}

void check_units(const AccessCounters& c, uint64_t requests, uint64_t units, uint64_t least) {
    CHECK(c.requests == requests);
    CHECK(c.units == units);
    CHECK(c.least == least);
}

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test PTX=1` runs

TEST_CASE("counters: sectors of a copy") {
    if (!counts()) return;
    constexpr int kBlocks = 3, kThreads = 96, kWarps = kBlocks * kThreads / 32;
    DeviceBuffer<uint4> in(0, kBlocks * kThreads * 8), out(0, kBlocks * kThreads * 8);
    struct Case {
        int stride;
        uint64_t sectors;  // of a warp's 32 lanes of 16 bytes
    };
    for (const auto& [stride, sectors] : {Case{1, 16}, Case{2, 32}, Case{8, 32}}) {
        CAPTURE(stride);
        const KernelCounters k = count([&](cudaStream_t s) {
            launch("copy_16", {kBlocks, kThreads, s}, copy_16, in.data(), out.data(), stride);
        });
        CHECK(k.blocks == kBlocks);
        CHECK(k.warps == kWarps);
        check_units(k.of(Access::load_global), kWarps, kWarps * sectors, kWarps * 16);
        check_units(k.of(Access::store_global), kWarps, kWarps * sectors, kWarps * 16);
        CHECK(k.block_sectors == kWarps * sectors);
        CHECK(k.of(Access::load_global).bytes == kBlocks * kThreads * 16);
        CHECK(k.of(Access::load_shared).requests == 0);
    }
    for (const auto& [stride, sectors] : {Case{0, 1}, Case{1, 4}, Case{2, 8}, Case{8, 32}}) {
        CAPTURE(stride);
        const KernelCounters k = count([&](cudaStream_t s) {
            launch("copy_4", {kBlocks, kThreads, s}, copy_4,
                   reinterpret_cast<const uint32_t*>(in.data()),
                   reinterpret_cast<uint32_t*>(out.data()), stride);
        });
        check_units(k.of(Access::load_global), kWarps, kWarps * sectors, kWarps * (stride ? 4 : 1));
        CHECK(of(k, Class::global) == 2 * kWarps);
    }
    // A block of 40 threads: the second warp has 8.
    const KernelCounters k = count([&](cudaStream_t s) {
        launch("copy_16", {1, 40, s}, copy_16, in.data(), out.data(), 1);
    });
    CHECK(k.warps == 2);
    check_units(k.of(Access::load_global), 2, 20, 20);
    CHECK(k.of(Access::load_global).lanes == 40);
    CHECK(k.lines.size() == 2);
    CHECK(k.lines[0].file == "test/test_counters_sm90.cu");
}

TEST_CASE("counters: wavefronts of shared memory") {
    if (!counts()) return;
    const auto store = [&](auto kernel, auto... args) {
        const KernelCounters k = count([&](cudaStream_t s) {
            launch("store", {1, 32, s, sizeof(Words)}, kernel, args...);
        });
        CHECK(k.of(Access::store_shared).requests == 1);
        return k.of(Access::store_shared).units;
    };
    CHECK(store(store_words, 1) == 1);
    CHECK(store(store_words, 2) == 2);
    CHECK(store(store_words, 3) == 1);
    CHECK(store(store_words, 4) == 4);
    CHECK(store(store_words, 32) == 32);
    CHECK(store(store_words, 33) == 1);
    CHECK(store(store_words, 0) == 1);  // one word
    CHECK(store(store_16, 1) == 4);     // 512 bytes
    CHECK(store(store_16, 2) == 8);
    CHECK(store(store_16, 8) == 32);
    for (int chunk = 0; chunk < 4; ++chunk) {
        CHECK(store(store_rows, chunk, 0) == 4);
        CHECK(store(store_rows, chunk, 1) == 32);
    }
}

TEST_CASE("counters: instructions as counted by hand") {
    if (!counts()) return;
    constexpr int kThreads = 256, kWarps = kThreads / 32, kTurns = 10;
    DeviceBuffer<float> in(0, 32 * kTurns + kThreads), out(0, kThreads);
    KernelCounters k = count([&](cudaStream_t s) {
        launch("by_hand", {1, kThreads, s}, by_hand, in.data(), out.data(), kTurns);
    });
    CHECK(of(k, Class::fp32) == 3 * kTurns * kWarps);
    CHECK(of(k, Class::special) == kTurns * kWarps);
    CHECK(of(k, Class::barrier) == kWarps);
    CHECK(of(k, Class::global) == 2 * kWarps);
    CHECK(k.thread_instructions == 32 * k.all_instructions());
    // The loop is not entered.
    k = count([&](cudaStream_t s) {
        launch("by_hand", {1, kThreads, s}, by_hand, in.data(), out.data(), 0);
    });
    CHECK(of(k, Class::fp32) == 0);

    // The last lane's 31 turns are the warp's.
    k = count([&](cudaStream_t s) { launch("by_lane", {1, kThreads, s}, by_lane, out.data()); });
    CHECK(of(k, Class::fp32) == 31 * kWarps);
    // Lanes that do the same in other turns do not do it together.
    k = count([&](cudaStream_t s) {
        launch("in_turn", {1, kThreads, s}, in_turn, in.data(), out.data(), kTurns);
    });
    check_units(k.of(Access::load_global), kTurns * kWarps, 4 * kTurns * kWarps,
                2 * kTurns * kWarps);
    CHECK(k.of(Access::load_global).lanes == kTurns * kThreads / 2);
}

TEST_CASE("counters: atomics") {
    if (!counts()) return;
    DeviceBuffer<unsigned> out(0, 256);
    const KernelCounters k = count([&](cudaStream_t s) {
        launch("add_up", {1, 128, s}, add_up, out.data());
    });
    check_units(k.of(Access::atomic_global), 4, 4, 4);
    CHECK(of(k, Class::atomic) == 4);
}

TEST_CASE("counters: TMA and products of conv2 on wgmma are those of its plan") {
    if (!counts()) return;
    const ConvProblem p{.n = 1,
                        .h = 27,
                        .w = 27,
                        .c = 96,
                        .k = 256,
                        .r = 5,
                        .s = 5,
                        .pad_h = 2,
                        .pad_w = 2,
                        .dtype = DType::bf16};
    const auto table = conv_fprop_variants();
    const auto* v = &table[0];
    for (const auto& row : table)
        if (std::string(row.name) == "wgmma_whole_sm90") v = &row;  // its last wave in one kernel
    REQUIRE(std::string(v->name) == "wgmma_whole_sm90");
    REQUIRE(v->refuses(p) == "");
    DeviceBuffer<bf16> x(0, p.x_count()), w(0, p.w_count()), y(0, p.y_count());
    DeviceBuffer<float> bias(0, p.k);
    DeviceBuffer<std::byte> workspace(0, std::max<size_t>(v->workspace_bytes(p), 1));
    const KernelCounters k = count([&](cudaStream_t s) {
        ConvFpropArgs a{};
        a.x = x.data();
        a.w = w.data();
        a.bias = bias.data();
        a.y = y.data();
        a.workspace = workspace.data();
        a.stream = s;
        v->launch(p, a);
    });
    const ProductPlan plan = conv_wgmma_plan(ConvPass::fprop, p);
    const auto stages =
        static_cast<uint64_t>(plan.units) * plan.steps * plan.multicast;  // of blocks
    const auto rows_a = static_cast<uint64_t>(plan.bm) * (plan.bk / plan.box),
               rows_b = static_cast<uint64_t>(plan.bn) / plan.multicast;
    const AccessCounters& loads = k.of(Access::tma_load);
    CHECK(loads.rows == stages * (rows_a + rows_b));
    CHECK(loads.requests == stages * (plan.bk / plan.box + 1));
    CHECK(loads.bytes == stages * (plan.bm + plan.bn) * plan.bk * 2);
    // What lies outside x is not read.
    CHECK(loads.units < loads.bytes / 32);
    const AccessCounters& stores = k.of(Access::tma_store);
    CHECK(stores.units * 32 == static_cast<uint64_t>(p.y_count()) * 2);
    REQUIRE(k.matrix.size() == 1);
    CHECK(k.matrix[0].flops == 2.0 * static_cast<double>(stages) * plan.bm * plan.bn * plan.bk);
    const uint64_t products = stages * (plan.bm / 64) * (plan.bk / 16);
    CHECK(k.matrix[0].warps == 4 * products);
    CHECK(k.matrix[0].shared_bytes == products * (64 + plan.bn) * 32);
    CHECK(k.of(Access::store_shared).units == k.of(Access::store_shared).least);
}

TEST_SUITE_END();

TEST_CASE("counters: bin/compare --counters is refused where kernels do not count") {
    if (vgpu::ptx_exec::can_count()) return;
    const test::TempDir dir;
    const test::Result r = test::run(dir, test::program("compare") + " gemm --counters");
    CHECK(r.status == 2);
    const std::string said = test::without_build_kind(r.err);
    CHECK(std::count(said.begin(), said.end(), '\n') == 1);
    CHECK(said.find("make PTX=1") != std::string::npos);
}

#endif
