// The products of Winograd's planes on tensor cores of sm_80 and later, operands rounded to tf32:
// from the tiles of kernels/tile/mma_sm80.h as gemm/mma_sm80.cu, but a batch of them in one launch.
#include "kernels/conv/winograd_products.h"
#include "kernels/tile/matrix_iterators.h"
#include "kernels/tile/mma_sm80.h"

namespace wt::conv_winograd {

namespace {

constexpr int kVector = 4;

template <class Tile, bool AlongK, int R>
using Copy = std::conditional_t<AlongK, mma::CopyAlongK<Tile, R, ContiguousK<float, kVector>>,
                                mma::CopyAlongMN<Tile, R, ContiguousMN<float, kVector>>>;

template <class Tile, GemmLayout L>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerSM)
    winograd_mma_kernel(Products p) {
    constexpr mma::Major kA = L == GemmLayout::tn ? mma::Major::mn : mma::Major::k;
    constexpr mma::Major kB = L == GemmLayout::nt ? mma::Major::k : mma::Major::mn;
    const BlockTile tile = my_tile<Tile>(p.out);
    const int k0 = tile.split * p.out.split.steps * Tile::BK;
    Copy<Tile, L != GemmLayout::tn, Tile::BM> copy_a(
        {p.a + tile.group * p.stride_a, p.lda, p.out.rows, p.k}, tile.m, k0);
    Copy<Tile, L == GemmLayout::nt, Tile::BN> copy_b(
        {p.b + tile.group * p.stride_b, p.ldb, p.out.out.cols, p.k}, tile.n, k0);
    auto& shared = shared_storage<typename Tile::SharedStorage>();
    typename Tile::Accumulators acc;
    mma::product<Tile, kA, kB>(shared, copy_a, copy_b, tile.steps, acc);
    mma::store_tile<Tile>(p.out, tile, shared, acc);
}

}  // namespace

void multiply_mma(const char* name, const Products& p, cudaStream_t stream) {
    using Big = mma::Tile<float, 128, 128, 2, 2>;
    using Small = mma::Tile<float, 64, 64, 2, 2>;
    by_layout(p.layout, [&]<GemmLayout L>() {
        if (wants_big(p.out.rows, p.out.out.cols))
            launch_products<Big>(name, p, stream, winograd_mma_kernel<Big, L>);
        else
            launch_products<Small>(name, p, stream, winograd_mma_kernel<Small, L>);
    });
}

}  // namespace wt::conv_winograd
