// The products of Winograd's planes on ordinary threads, from the tiles of kernels/tile/simt.h as
// gemm/tiled.cu, but a batch of them in one launch.
#include "kernels/conv/winograd_products.h"
#include "kernels/tile/matrix_iterators.h"
#include "kernels/tile/simt.h"

namespace wt::conv_winograd {

namespace {

constexpr int kVector = 4;

template <class Tile, bool AlongK, int R>
using Loader = std::conditional_t<AlongK, simt::AlongK<Tile, R, ContiguousK<float, kVector>>,
                                  simt::AlongMN<Tile, R, ContiguousMN<float, kVector>>>;

template <class Tile, GemmLayout L>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerSM)
    winograd_tiled_kernel(Products p) {
    const BlockTile tile = my_tile<Tile>(p.out);
    const simt::ThreadOrigin origin = simt::thread_origin<Tile>();
    const int k0 = tile.split * p.out.split.steps * Tile::BK;
    Loader<Tile, L != GemmLayout::tn, Tile::BM> load_a(
        {p.a + tile.group * p.stride_a, p.lda, p.out.rows, p.k}, tile.m, k0);
    Loader<Tile, L == GemmLayout::nt, Tile::BN> load_b(
        {p.b + tile.group * p.stride_b, p.ldb, p.out.out.cols, p.k}, tile.n, k0);

    Vec<8> acc[8];
    unroll<8>([&](auto i) { acc[i] = splat<8>(0); });
    auto& shared = shared_storage<typename Tile::SharedStorage>();
    simt::product<Tile>(shared, load_a, load_b, tile.steps, origin, acc);
    store_tile<Tile>(p.out, tile, origin, acc);
}

}  // namespace

void multiply_tiled(const char* name, const Products& p, cudaStream_t stream) {
    using Big = simt::Tile<128, 128>;
    using Small = simt::Tile<64, 64>;
    by_layout(p.layout, [&]<GemmLayout L>() {
        if (wants_big(p.out.rows, p.out.out.cols))
            launch_products<Big>(name, p, stream, winograd_tiled_kernel<Big, L>);
        else
            launch_products<Small>(name, p, stream, winograd_tiled_kernel<Small, L>);
    });
}

}  // namespace wt::conv_winograd
