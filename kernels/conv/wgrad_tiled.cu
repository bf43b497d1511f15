// Gradient of the filters as implicit GEMM in shared-memory tiles on ordinary threads: 128 filters
// x 128 taps a block, summed over the output pixels of the whole batch. There are few tiles and
// many pixels, so the pixels are split over blocks and the partial sums added in order
// (kernels/tile/split_k.h). The bias gradient is the row sums of dy, taken by the blocks of the
// first tap tile while dy is in shared memory.
#include "kernels/conv/operand_iterators.h"
#include "kernels/conv/tiled_common.h"
#include "kernels/tile/matrix_iterators.h"

namespace wt::conv_tiled {

template <class Tile, int V, class T>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerSM)
    wgrad_kernel(ConvShape v, const T* x, const T* dy, SplitKOutput<float> r) {
    const BlockTile tile = my_tile<Tile>(r);
    const simt::ThreadOrigin origin = simt::thread_origin<Tile>();
    const int k0 = tile.split * r.split.steps * Tile::BK;
    simt::AlongMN<Tile, Tile::BM, ContiguousMN<T, V>> load_a(
        {dy + tile.group * v.kg, v.k, v.kg, v.n * v.p * v.q}, tile.m, k0);
    simt::AlongMN<Tile, Tile::BN, InputByPixel<T, V>> load_b({x + tile.group * v.cg, v}, tile.n,
                                                             k0);

    Vec<8> acc[8];
    unroll<8>([&](auto i) { acc[i] = splat<8>(0); });
    auto& shared = shared_storage<typename Tile::SharedStorage>();
    simt::product<Tile>(shared, load_a, load_b, tile.steps, origin, acc, r.row_sums && tile.n == 0);
    store_tile<Tile>(r, tile, origin, acc, shared.row_sum);
}

static Extents wgrad_extents(const ConvProblem& p) {
    return {.rows = p.kg(),
            .cols = p.r * p.s * p.cg(),
            .k = p.n * p.p() * p.q(),
            .vectors = whole_vectors(p, p.cg(), p.kg())};
}

static size_t wgrad_workspace(const ConvProblem& p) {
    const Extents e = wgrad_extents(p);
    return split_workspace(e.split(p.groups), e.rows, e.cols, p.groups, p.bias);
}

static void launch_wgrad(const ConvProblem& p, const ConvWgradArgs& a) {
    const Extents e = wgrad_extents(p);
    const SplitKOutput<float> r = wgrad_output(p, a.dw, a.db, e.split(p.groups), a.workspace);
    by_dtype(p.dtype, [&]<class T>() {
        by_tile<T>(e, [&]<class Tile, int V>() {
            launch("conv_wgrad.tiled",
                   {.grid = product_grid<Tile>(r),
                    .block = dim3(Tile::kThreads),
                    .stream = a.stream,
                    .shared = sizeof(typename Tile::SharedStorage)},
                   wgrad_kernel<Tile, V, T>, ConvShape(p), static_cast<const T*>(a.x),
                   static_cast<const T*>(a.dy), r);
        });
    });
    reduce_partials("conv_wgrad.tiled sum", r, a.stream);
}

extern const ConvWgrad wgrad = {
    .name = "tiled", .refuses = refuses, .workspace = wgrad_workspace, .launch = launch_wgrad};

}  // namespace wt::conv_tiled
