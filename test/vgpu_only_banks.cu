// Shared memory's banks: how many wavefronts the accesses of the tiled products take, counted from
// the addresses that the kernels compute. 32 banks of 4 bytes; a wavefront serves each bank with
// one word, which any number of lanes may want. A warp's accesses of 16 bytes go 8 lanes at a time
// (PTX's ldmatrix and stmatrix: a matrix at a time).
#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <vector>

#include "host/cuda/buffer.h"
#include "host/cuda/stream.h"
#include "kernels/launch.h"
#include "kernels/tile/mma_sm80.h"
#include "kernels/tile/simt.h"
#include "kernels/tile/wgmma_store.h"

namespace {

using namespace wt;

// Of the accesses of a warp's 32 lanes, or of as many warps as there are addresses for; the most of
// any warp.
int wavefronts(const std::vector<int>& addresses, int width) {
    int most = 0;
    const size_t together = 128 / width;
    for (size_t warp = 0; warp < addresses.size(); warp += 32) {
        int sum = 0;
        for (size_t first = warp; first < warp + 32; first += together) {
            std::set<int> words[32];
            for (size_t lane = first; lane < first + together; ++lane)
                for (int word = addresses[lane] / 4; word < (addresses[lane] + width) / 4; ++word)
                    words[word % 32].insert(word);
            size_t most_words = 0;
            for (const auto& w : words) most_words = std::max(most_words, w.size());
            sum += static_cast<int>(most_words);
        }
        most = std::max(most, sum);
    }
    return most;
}

template <class F>
__global__ void addresses_kernel(F f, int* out) {
    out[threadIdx.x] = f();
}

// f() of each of a block's threads.
template <class F>
std::vector<int> of_threads(int threads, F f) {
    const Stream stream(0);
    DeviceBuffer<int> out(0, threads);
    launch("addresses", {dim3(1), dim3(threads), stream.get()}, addresses_kernel<F>, f, out.data());
    stream.synchronize();
    return out.download();
}

// Where the four registers of a fragment come from, for every line that a warp may begin at.
template <class Tile, mma::Major M, mma::Side S, int R>
int fragment_wavefronts() {
    using T = typename Tile::T;
    constexpr bool kWords = M == mma::Major::mn && sizeof(T) == 4;
    constexpr int kLines = S == mma::Side::a ? Tile::WM : Tile::WN;
    int most = 0;
    for (int first = 0; first < R; first += kLines)
        most = std::max(
            most,
            wavefronts(of_threads(32, [=] { return mma::Fragments<T, M, S, R>(first).offset; }),
                       kWords ? 4 : 16));
    return most;
}

template <class T, int R>
std::vector<int> copies_along_mn(int threads) {
    constexpr int kPerRow = R * sizeof(T) / 16;
    return of_threads(threads, [] {
        return mma::offset_along_mn<T, R>(threadIdx.x / kPerRow, threadIdx.x % kPerRow);
    });
}

template <class T>
void check_mma() {
    using Big = mma::Tile<T, 128, 128, 2, 2>;
    using Small = mma::Tile<T, 64, 64, 2, 2>;
    using mma::Major, mma::Side;
    // The least: 32 lanes x 16 bytes, 4 wavefronts; 32 words, 1.
    CHECK(fragment_wavefronts<Big, Major::k, Side::a, 128>() == 4);
    CHECK(fragment_wavefronts<Big, Major::k, Side::b, 128>() == 4);
    CHECK(fragment_wavefronts<Small, Major::k, Side::a, 64>() == 4);
    CHECK(fragment_wavefronts<mma::Tile<T, 128, 96, 4, 1>, Major::k, Side::b, 96>() == 4);
    const int mn = sizeof(T) == 4 ? 1 : 4;
    CHECK(fragment_wavefronts<Big, Major::mn, Side::a, 128>() == mn);
    CHECK(fragment_wavefronts<Big, Major::mn, Side::b, 128>() == mn);
    CHECK(fragment_wavefronts<Small, Major::mn, Side::a, 64>() == mn);
    CHECK(
        wavefronts(of_threads(Big::kThreads,
                              [] { return mma::offset_along_k(threadIdx.x / 4, threadIdx.x % 4); }),
                   16) == 4);
    CHECK(wavefronts(copies_along_mn<T, 128>(128), 16) == 4);
    CHECK(wavefronts(copies_along_mn<T, 64>(128), 16) == 4);
}

template <class Tile, int V>
void check_simt() {
    const auto reads = [](auto address) {
        return wavefronts(of_threads(Tile::kThreads, address), 16);
    };
    for (int half : {0, 1}) {
        CHECK(reads([=] { return (simt::thread_origin<Tile>().n + 32 * half) * 4; }) == 4);
        CHECK(reads([=] { return (simt::thread_origin<Tile>().m + 4 * half) * 4; }) == 4);
    }
    // Operands along k are stored transposed, a word at a time.
    constexpr int kPerRow = Tile::BK / V;
    const auto stores = of_threads(Tile::kThreads, [] {
        return (threadIdx.x % kPerRow * V * Tile::kPitchA + threadIdx.x / kPerRow) * 4;
    });
    CHECK(wavefronts(stores, 4) == 2);
}

template <int kSpan>
int stmatrix_wavefronts(int chunk) {
    return wavefronts(
        of_threads(32,
                   [=] { return swizzled<kSpan>(threadIdx.x % 16, 2 * chunk + threadIdx.x / 16); }),
        16);
}

// Pairs of floats of a piece of weights, in rows of 128 bytes.
int pair_wavefronts(int group, bool in_turn) {
    const auto address = [=] {
        const FragmentCoord at = fragment_coord();
        const int of_row = in_turn ? group_at_turn(at.row, group) : group;
        return swizzled<128>(at.row, of_row * 2 + at.col / 4) + at.col % 4 * 4;
    };
    return wavefronts(of_threads(128, address), 8);
}

}  // namespace

TEST_CASE("banks: mma.sync's tiles are copied and read without conflicts") {
    check_mma<bf16>();
    check_mma<float>();
}

TEST_CASE("banks: SIMT tiles are read without conflicts, stored by two threads to a bank") {
    check_simt<simt::Tile<128, 128>, 4>();
    check_simt<simt::Tile<128, 128>, 8>();
    check_simt<simt::Tile<64, 64>, 4>();
}

TEST_CASE("banks: accumulators of wgmma are stored without conflicts") {
    for (int chunk = 0; chunk < 4; ++chunk) CHECK(stmatrix_wavefronts<128>(chunk) == 4);
    for (int chunk = 0; chunk < 2; ++chunk) CHECK(stmatrix_wavefronts<64>(chunk) == 4);
    for (int group = 0; group < 4; ++group) {
        CHECK(pair_wavefronts(group, true) == 2);
        CHECK(pair_wavefronts(group, false) == 4);  // as they lie
    }
}
