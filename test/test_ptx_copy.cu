// cp.async: sizes, zero fill, groups.
#include <doctest/doctest.h>

#include <vector>

#include "host/cuda/buffer.h"
#include "host/cuda/stream.h"
#include "kernels/launch.h"
#include "kernels/ptx/cp_async.h"
#include "test/seeds.h"

namespace {

using namespace wt;
using test::SeedGuard;
using test::seeds;

struct Pieces {
    alignas(16) unsigned char of16[64 * 16], of8[64 * 8], of4[64 * 4];
};

// Thread t copies t % (size + 1) bytes of each size; with 0 bytes its source is nowhere.
__global__ void copy_pieces(const unsigned char* in, unsigned char* out) {
    Pieces& s = shared_storage<Pieces>();
    const int t = static_cast<int>(threadIdx.x);
    const auto source = [&](int size) { return t % (size + 1) ? in + t * 16 : nullptr; };
    ptx::cp_async_16(s.of16 + t * 16, source(16), t % 17);
    ptx::cp_async_8(s.of8 + t * 8, source(8), t % 9);
    ptx::cp_async_4(s.of4 + t * 4, source(4), t % 5);
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
    __syncthreads();
    const auto* bytes = reinterpret_cast<const unsigned char*>(&s);
    for (int i = t; i < static_cast<int>(sizeof s); i += static_cast<int>(blockDim.x))
        out[i] = bytes[i];
}

// A pipeline of kStages tiles of 16 bytes a thread: tile i + kStages - 1 is under way while i is
// summed. The thread sums its right neighbour's bytes too, so a barrier is needed.
template <int kStages>
struct Stages {
    alignas(16) int tile[kStages][128][4];
};
template <int kStages>
__global__ void sum_tiles(const int* in, int tiles, int* out) {
    auto& s = shared_storage<Stages<kStages>>();
    const int t = static_cast<int>(threadIdx.x), n = static_cast<int>(blockDim.x);
    const auto fetch = [&](int tile) {
        if (tile < tiles) ptx::cp_async_16(s.tile[tile % kStages][t], in + (tile * n + t) * 4);
        ptx::cp_async_commit();  // empty past the end: the count of groups stays right
    };
    for (int i = 0; i < kStages - 1; ++i) fetch(i);
    unsigned sum = 0;
    for (int i = 0; i < tiles; ++i) {
        ptx::cp_async_wait<kStages - 2>();
        __syncthreads();
        fetch(i + kStages - 1);
        for (int k = 0; k < 4; ++k)
            sum = sum * 3 + static_cast<unsigned>(s.tile[i % kStages][t][k] -
                                                  s.tile[i % kStages][(t + 1) % n][k]);
    }
    out[t] = static_cast<int>(sum);
}

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("ptx: cp.async copies 4, 8 and 16 bytes and fills with zeros") {
    std::vector<unsigned char> in(64 * 16), expected(sizeof(Pieces));
    for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<unsigned char>(i * 37 + 11);
    size_t at = 0;
    for (const size_t size : {16, 8, 4})
        for (size_t t = 0; t < 64; ++t)
            for (size_t b = 0; b < size; ++b)
                expected[at++] = b < t % (size + 1) ? in[t * 16 + b] : 0;
    DeviceBuffer<unsigned char> source(0, in.size()), out(0, expected.size());
    source.upload(in);
    for (const uint64_t seed : seeds(6)) {
        const SeedGuard guard(seed);
        CAPTURE(seed);
        const Stream stream(0);
        launch("copy_pieces", {1, 64, stream.get(), sizeof(Pieces)}, copy_pieces,
               static_cast<const unsigned char*>(source.data()), out.data());
        stream.synchronize();
        const bool equal = out.download() == expected;
        CHECK(equal);
    }
}

TEST_CASE("ptx: cp.async keeps groups apart: a pipeline of 2, 3 and 4 stages") {
    constexpr int kThreads = 128, kTiles = 11;
    std::vector<int> in(kTiles * kThreads * 4), expected(kThreads);
    for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<int>(i * i % 1009);
    for (int t = 0; t < kThreads; ++t)
        for (int i = 0; i < kTiles; ++i)
            for (int k = 0; k < 4; ++k)
                expected[t] = static_cast<int>(
                    static_cast<unsigned>(expected[t]) * 3 +
                    static_cast<unsigned>(in[(i * kThreads + t) * 4 + k] -
                                          in[(i * kThreads + (t + 1) % kThreads) * 4 + k]));
    DeviceBuffer<int> source(0, in.size()), out(0, kThreads);
    source.upload(in);
    for (const uint64_t seed : seeds(8)) {
        const SeedGuard guard(seed);
        CAPTURE(seed);
        const Stream stream(0);
        const int* p = source.data();
        launch("sum_tiles", {1, kThreads, stream.get(), sizeof(Stages<2>)}, sum_tiles<2>, p, kTiles,
               out.data());
        stream.synchronize();
        CHECK(out.download() == expected);
        launch("sum_tiles", {1, kThreads, stream.get(), sizeof(Stages<3>)}, sum_tiles<3>, p, kTiles,
               out.data());
        stream.synchronize();
        CHECK(out.download() == expected);
        launch("sum_tiles", {1, kThreads, stream.get(), sizeof(Stages<4>)}, sum_tiles<4>, p, kTiles,
               out.data());
        stream.synchronize();
        CHECK(out.download() == expected);
    }
}

TEST_SUITE_END();
