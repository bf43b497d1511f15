// The virtual GPU's grid runner: threads, barriers, warps, atomics, CUB.
#include <doctest/doctest.h>

#include <cub/block/block_reduce.cuh>
#include <cub/cub.cuh>

#include <algorithm>
#include <numeric>
#include <vector>

#include "test/vgpu_run.h"

using namespace wt::test;

namespace {

const uint64_t kSeeds[] = {0, 1, 7, 12345};

template <class T>
T& shared() {
    return *static_cast<T*>(vgpu::shared_memory());
}

__global__ void count_visits(int* visits, unsigned* ids) {
    const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    const unsigned i = block * blockDim.x * blockDim.y * blockDim.z + thread;
    ++visits[i];
    ids[i] = threadIdx.x | threadIdx.y << 10 | threadIdx.z << 20;
}

// Thread t's value goes to thread t+1, then t+2, ...: right only if every barrier holds all
// threads.
__global__ void rotate(int* out, int rounds) {
    int* s = &shared<int>();
    const int n = static_cast<int>(blockDim.x * blockDim.y * blockDim.z),
              t = static_cast<int>(vgpu::linear_thread());
    int v = t;
    for (int r = 0; r < rounds; ++r) {
        s[t] = v;
        __syncthreads();
        v = s[(t + n - 1) % n];
        __syncthreads();
    }
    out[static_cast<int>(blockIdx.x) * n + t] = v;
}

__global__ void counting_barriers(int* out) {
    const int t = static_cast<int>(threadIdx.x), n = static_cast<int>(blockDim.x);
    int* o = out + t * 6;
    o[0] = __syncthreads_count(t % 3 == 0);
    o[1] = __syncthreads_and(t >= 0);
    o[2] = __syncthreads_and(t > 0);
    o[3] = __syncthreads_or(t == n - 1);
    o[4] = __syncthreads_or(t < 0);
    o[5] = __syncthreads_count(1);
}

// Warp 0 produces, warps 1 and 2 consume, through barriers 1 (full) and 2 (empty): the producer
// only arrives at "full", the consumers only at "empty".
__global__ void produce_consume(int* out, int rounds) {
    int* box = &shared<int>();
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int r = 0; r < rounds; ++r) {
        if (warp == 0) {
            if (r) vgpu::bar_sync(2, 96);
            box[lane] = r * 100 + static_cast<int>(lane);
            vgpu::bar_arrive(1, 96);
        } else {
            vgpu::bar_sync(1, 96);
            out[(r * 2 + static_cast<int>(warp) - 1) * 32 + static_cast<int>(lane)] = box[lane];
            if (r + 1 < rounds) vgpu::bar_arrive(2, 96);
        }
    }
}

enum Shuffle { idx, up, down, bfly };

template <class T>
__global__ void shuffle(T* out, int kind, int k, int width) {
    const unsigned t = vgpu::linear_thread();
    const T v = static_cast<T>(1000 + 3 * t);
    const unsigned m = 0xffffffffu;
    const unsigned d = static_cast<unsigned>(k);
    out[t] = kind == idx    ? __shfl_sync(m, v, k, width)
             : kind == up   ? __shfl_up_sync(m, v, d, width)
             : kind == down ? __shfl_down_sync(m, v, d, width)
                            : __shfl_xor_sync(m, v, k, width);
}

// The PTX ISA's definition of shfl, lane by lane.
int shuffle_source(int kind, int lane, int k, int width) {
    const int first = lane / width * width, last = first + width - 1;
    int j = 0;
    bool in = true;
    switch (kind) {
        case idx: j = first + (k & (width - 1)); break;
        case up: j = lane - k, in = j >= first; break;
        case down: j = lane + k, in = j <= last; break;
        default: j = lane ^ k, in = j <= last; break;
    }
    return in ? j : lane;
}

__global__ void votes(unsigned* out) {
    const unsigned t = threadIdx.x, m = 0xffffffffu;
    unsigned* o = out + t * 10;
    o[0] = __ballot_sync(m, t % 5 == 0);
    o[1] = static_cast<unsigned>(__any_sync(m, t == 40));
    o[2] = static_cast<unsigned>(__all_sync(m, t >= 32));
    o[3] = __activemask();
    o[4] = __reduce_add_sync(m, t);
    o[5] = static_cast<unsigned>(__reduce_min_sync(m, static_cast<int>(t) - 35));
    o[6] = __reduce_max_sync(m, t ^ 21u);
    o[7] = static_cast<unsigned>(__reduce_max_sync(m, -static_cast<int>(t)));
    o[8] = __reduce_xor_sync(m, t * t);
    __syncwarp();
    // Halves of a warp apart from each other, one of them twice.
    if (t % 32 < 16) {
        o[9] = __reduce_add_sync(0xffffu, 1u);
        o[9] += __ballot_sync(0xffffu, 1) & 0xffffu;
    } else {
        o[9] = __reduce_add_sync(0xffff0000u, 2u);
    }
}

constexpr int kRepeats = 50;
__global__ void add_atomically(int* i, unsigned long long* u, float* f, double* d, int* lowest,
                               int* highest, unsigned* bits) {
    const int t = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    atomicAdd(i, t);
    atomicAdd(u, 1ull << 33);
    for (int r = 0; r < kRepeats; ++r) atomicAdd(f, 1.0f);  // often enough for cores to collide
    atomicAdd(d, 0.5);
    atomicMin(lowest, -t);
    atomicMax(highest, t);
    atomicOr(bits, 1u << (t % 32));
}

__global__ void take_slots(int* slots, unsigned* next, unsigned* wrap) {
    slots[atomicAdd(next, 1u)] = 1;
    atomicInc(wrap, 9);
}

// Threads leave early, others shuffle in pairs, none meets a barrier.
__global__ void ragged(int* out, int n) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= n) return;
    const unsigned lane = threadIdx.x % 32;
    out[i] = i;
    if (i / 2 * 2 + 1 < n) out[i] = __shfl_xor_sync(3u << (lane & 30u), i, 1);
}

// 20 KB of frame in each of three levels, across a barrier.
__attribute__((noinline)) int deep(int level, int seed) {
    volatile int frame[5 * 1024];
    for (int i = 0; i < 5 * 1024; i += 64) frame[i] = seed + i;
    __syncthreads();
    int sum = level ? deep(level - 1, seed + 1) : 0;
    for (int i = 0; i < 5 * 1024; i += 64) sum += frame[i] - i;
    return sum;
}
__global__ void deep_stack(int* out) { out[threadIdx.x] = deep(2, static_cast<int>(threadIdx.x)); }

struct ReduceStorage {
    union {
        cub::BlockReduce<float, 96>::TempStorage sum;
        cub::BlockReduce<int, 96>::TempStorage most;
        cub::BlockScan<int, 96>::TempStorage scan;
    };
    cub::WarpReduce<int, 8>::TempStorage warp[12];
};

__global__ void cub_all(const float* in, float* sums, int* ints) {
    auto& s = shared<ReduceStorage>();
    const int t = static_cast<int>(threadIdx.x);
    const float all = cub::BlockReduce<float, 96>(s.sum).Sum(in[t]);
    __syncthreads();
    const float some = cub::BlockReduce<float, 96>(s.sum).Sum(in[t], 41);
    __syncthreads();
    const int most = cub::BlockReduce<int, 96>(s.most).Reduce(
        t * 37 % 101, [](int a, int b) { return max(a, b); });
    __syncthreads();
    int before = 0, total = 0;
    cub::BlockScan<int, 96>(s.scan).ExclusiveSum(t + 1, before, total);
    const int eight = cub::WarpReduce<int, 8>(s.warp[t / 8]).Sum(t);
    const int three = cub::WarpReduce<int, 8>(s.warp[t / 8])
                          .Reduce(
                              t, [](int a, int b) { return a + b; }, 3);
    ints[t] = before;
    if (t == 0) sums[0] = all, sums[1] = some, ints[96] = most, ints[97] = total;
    if (t % 8 == 0) ints[98 + t / 8] = eight, ints[110 + t / 8] = three;
}

__global__ void polls(int* out) {
    volatile int& flag = shared<int>();
    if (threadIdx.x == 0) {
        flag = 0;
        while (flag < static_cast<int>(blockDim.x) - 1) __nanosleep(20);
        *out = flag;
    } else {
        flag = flag + 1;
    }
}

[[maybe_unused]] __global__ void reads_unwritten(float* out) {
    float* s = &shared<float>();
    if (threadIdx.x == 0) s[0] = 1.0f;  // no other
    __syncthreads();
    out[blockIdx.x * blockDim.x + threadIdx.x] = s[threadIdx.x];
}

}  // namespace

TEST_CASE("vgpu: every thread of every block runs once") {
    const std::pair<dim3, dim3> shapes[] = {{1, 1},    {7, 33},   {{3, 2, 2}, {5, 3, 2}},
                                            {1000, 1}, {2, 1024}, {{1, 4}, {1, 1, 64}}};
    for (uint64_t seed : kSeeds)
        for (const auto& [grid, block] : shapes) {
            const unsigned threads = block.x * block.y * block.z,
                           n = threads * grid.x * grid.y * grid.z;
            std::vector<int> visits(n);
            std::vector<unsigned> ids(n);
            const auto failure =
                run({grid, block, 0, seed}, count_visits, visits.data(), ids.data());
            REQUIRE_MESSAGE(!failure, failure.message);
            CHECK(std::all_of(visits.begin(), visits.end(), [](int v) { return v == 1; }));
            for (unsigned i = 0; i < n; i += 17) {
                const unsigned t = i % threads;
                CHECK(ids[i] ==
                      (t % block.x | t / block.x % block.y << 10 | t / block.x / block.y << 20));
            }
        }
}

TEST_CASE("vgpu: barriers hold the whole block") {
    for (uint64_t seed : kSeeds)
        for (dim3 block : {dim3(1), dim3(33), dim3(256), dim3(1024), dim3(5, 7, 3)}) {
            const int n = static_cast<int>(block.x * block.y * block.z), rounds = 5;
            std::vector<int> out(static_cast<size_t>(3 * n));
            const auto failure = run({3, block, n * sizeof(int), seed}, rotate, out.data(), rounds);
            REQUIRE_MESSAGE(!failure, failure.message);
            bool right = true;
            for (int i = 0; i < 3 * n; ++i)
                right &= out[static_cast<size_t>(i)] == ((i % n - rounds) % n + n) % n;
            CHECK(right);
        }
}

TEST_CASE("vgpu: counting barriers") {
    for (uint64_t seed : kSeeds) {
        std::vector<int> out(100 * 6);
        const auto failure = run({1, 100, 0, seed}, counting_barriers, out.data());
        REQUIRE_MESSAGE(!failure, failure.message);
        for (size_t t = 0; t < 100; ++t) {
            const std::vector<int> got(&out[t * 6], &out[t * 6] + 6), want{34, 1, 0, 1, 0, 100};
            CHECK(got == want);
        }
    }
}

TEST_CASE("vgpu: named barriers order a producer and its consumers") {
    for (uint64_t seed : kSeeds) {
        std::vector<int> out(6 * 64, -1);
        const auto failure = run({1, 96, 128, seed}, produce_consume, out.data(), 6);
        REQUIRE_MESSAGE(!failure, failure.message);
        for (int i = 0; i < 6 * 64; ++i)
            CHECK(out[static_cast<size_t>(i)] == i / 64 * 100 + i % 32);
    }
}

TEST_CASE_TEMPLATE("vgpu: shuffles match the PTX definition", T, int, float, double, long long) {
    for (uint64_t seed : {0, 5})
        for (int kind : {idx, up, down, bfly})
            for (int width : {32, 16, 8, 2, 1})
                for (int k : {0, 1, 2, 5, 16, 31}) {
                    std::vector<T> out(64);
                    const auto failure = run({1, dim3(8, 8), 0, static_cast<uint64_t>(seed)},
                                             shuffle<T>, out.data(), kind, k, width);
                    REQUIRE_MESSAGE(!failure, failure.message);
                    bool right = true;
                    for (int t = 0; t < 64; ++t)
                        right &=
                            out[static_cast<size_t>(t)] ==
                            static_cast<T>(
                                1000 + 3 * (t / 32 * 32 + shuffle_source(kind, t % 32, k, width)));
                    CHECK_MESSAGE(right, "kind " << kind << ", width " << width << ", k " << k);
                }
}

TEST_CASE("vgpu: a shuffle from a lane that does not exist is a NaN") {
    std::vector<float> out(33);
    const auto failure = run({1, 33}, shuffle<float>, out.data(), int(down), 1, 32);
    REQUIRE_MESSAGE(!failure, failure.message);
    CHECK(out[30] == 1093.0f);
    CHECK(out[31] == 1093.0f);  // its own: the segment ends
    CHECK(out[32] != out[32]);
}

TEST_CASE("vgpu: votes and warp reductions") {
    for (uint64_t seed : kSeeds) {
        constexpr unsigned n = 70;  // two warps and six lanes
        std::vector<unsigned> out(n * 10);
        const auto failure = run({1, n, 0, seed}, votes, out.data());
        // The third warp lacks the upper half's lanes, so the lower half's mask is cut to six.
        REQUIRE_MESSAGE(!failure, failure.message);
        for (unsigned t = 0; t < n; ++t) {
            const unsigned first = t / 32 * 32, last = std::min(first + 32, n);
            unsigned ballot = 0, sum = 0, most = 0, parity = 0;
            for (unsigned l = first; l < last; ++l)
                ballot |= unsigned(l % 5 == 0) << (l - first), sum += l,
                    most = std::max(most, l ^ 21u), parity ^= l * l;
            const unsigned* o = &out[t * 10];
            CHECK(o[0] == ballot);
            CHECK(o[1] == (first == 32));
            CHECK(o[2] == (first >= 32));
            CHECK(o[3] == (last - first == 32 ? ~0u : 63u));
            CHECK(o[4] == sum);
            CHECK(static_cast<int>(o[5]) == static_cast<int>(first) - 35);
            CHECK(o[6] == most);
            CHECK(static_cast<int>(o[7]) == -static_cast<int>(first));
            CHECK(o[8] == parity);
            CHECK(o[9] == (t % 32 >= 16 ? 32u : first < 64 ? 16u + 0xffffu : 6u + 63u));
        }
    }
}

TEST_CASE("vgpu: atomics across blocks") {
    int i = 0, lowest = 0, highest = 0;
    unsigned long long u = 0;
    float f = 0;
    double d = 0;
    unsigned bits = 0;
    const int n = 400 * 100;
    const auto failure =
        run({400, 100, 0, 3}, add_atomically, &i, &u, &f, &d, &lowest, &highest, &bits);
    REQUIRE_MESSAGE(!failure, failure.message);
    CHECK(i == static_cast<int>(int64_t{n} * (n - 1) / 2));
    CHECK(u == (1ull << 33) * n);
    CHECK(f == float(n) * kRepeats);  // exact: below 2^24
    CHECK(d == n * 0.5);
    CHECK(lowest == -(n - 1));
    CHECK(highest == n - 1);
    CHECK(bits == ~0u);

    std::vector<int> slots(n);
    unsigned next = 0, wrap = 0;
    REQUIRE(!run({400, 100}, take_slots, slots.data(), &next, &wrap));
    CHECK(std::accumulate(slots.begin(), slots.end(), 0) == n);
    CHECK(wrap == n % 10);
}

TEST_CASE("vgpu: threads that return early, and sub-masks") {
    for (uint64_t seed : kSeeds)
        for (int n : {1, 2, 31, 64, 301}) {
            std::vector<int> out(400, -1);
            const auto failure = run({4, 96, 0, seed}, ragged, out.data(), n);
            REQUIRE_MESSAGE(!failure, failure.message);
            for (int i = 0; i < 400; ++i)
                CHECK(out[static_cast<size_t>(i)] == (i >= n ? -1 : i / 2 * 2 + 1 < n ? i ^ 1 : i));
        }
}

TEST_CASE("vgpu: stacks of nested functions survive barriers") {
    std::vector<int> out(64);
    const auto failure = run({1, 64}, deep_stack, out.data());
    REQUIRE_MESSAGE(!failure, failure.message);
    for (int t = 0; t < 64; ++t) CHECK(out[static_cast<size_t>(t)] == 80 * (3 * t + 3));
}

TEST_CASE("vgpu: CUB's reductions and scan") {
    std::vector<float> in(96), sums(2);
    // sums are exact
    for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i * i % 19) - 4.0f;
    std::vector<int> ints(122);
    for (uint64_t seed : kSeeds) {
        const auto failure = run({1, 96, sizeof(ReduceStorage), seed}, cub_all,
                                 static_cast<const float*>(in.data()), sums.data(), ints.data());
        REQUIRE_MESSAGE(!failure, failure.message);
        CHECK(sums[0] == std::accumulate(in.begin(), in.end(), 0.0f));
        CHECK(sums[1] == std::accumulate(in.begin(), in.begin() + 41, 0.0f));
        int most = 0;
        for (int t = 0; t < 96; ++t) {
            most = std::max(most, t * 37 % 101);
            CHECK(ints[static_cast<size_t>(t)] == t * (t + 1) / 2);
        }
        CHECK(ints[96] == most);
        CHECK(ints[97] == 96 * 97 / 2);
        for (int g = 0; g < 12; ++g) {
            CHECK(ints[static_cast<size_t>(98 + g)] == 64 * g + 28);
            CHECK(ints[static_cast<size_t>(110 + g)] == 24 * g + 3);
        }
    }
}

TEST_CASE("vgpu: a polling thread lets the others run") {
    int out = 0;
    const auto failure = run({1, 64, sizeof(int)}, polls, &out);
    REQUIRE_MESSAGE(!failure, failure.message);
    CHECK(out == 63);
}

#ifdef __SANITIZE_ADDRESS__
TEST_CASE("vgpu: shared memory that nobody wrote reads as NaN, in every block anew") {
    std::vector<float> out(3 * 32);
    REQUIRE(!run({3, 32, 32 * sizeof(float)}, reads_unwritten, out.data()));
    for (size_t i = 0; i < out.size(); ++i) CHECK((out[i] == 1.0f) == (i % 32 == 0));
}
#endif
