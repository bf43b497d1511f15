// Convolution forward as implicit GEMM in shared-memory tiles on ordinary threads: 128 output
// pixels x 128 filters x 16 taps a block (64 x 64 for few filters or channels that are no whole 16
// bytes), 8 x 8 a thread. Patches of x are gathered on their way to shared memory; bias and ReLU
// are in the epilogue.
#include "kernels/conv/operand_iterators.h"
#include "kernels/conv/tiled_common.h"
#include "kernels/tile/matrix_iterators.h"

namespace wt::conv_tiled {

template <class Tile, int V, class T>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerSM)
    fprop_kernel(ConvShape v, const T* x, const T* w, SplitKOutput<T> r) {
    const BlockTile tile = my_tile<Tile>(r);
    const simt::ThreadOrigin origin = simt::thread_origin<Tile>();
    const int k0 = tile.split * r.split.steps * Tile::BK, taps = v.r * v.s * v.cg;
    simt::AlongK<Tile, Tile::BM, InputPatches<T, V>> load_a({x + tile.group * v.cg, v, r.rows},
                                                            tile.m, k0);
    simt::AlongK<Tile, Tile::BN, ContiguousK<T, V>> load_b(
        {w + static_cast<int64_t>(tile.group) * v.kg * taps, taps, v.kg, taps}, tile.n, k0);

    Vec<8> acc[8];
    unroll<8>([&](auto i) { acc[i] = splat<8>(0); });
    auto& shared = shared_storage<typename Tile::SharedStorage>();
    simt::product<Tile>(shared, load_a, load_b, tile.steps, origin, acc);
    store_tile<Tile>(r, tile, origin, acc);
}

static Extents fprop_extents(const ConvProblem& p) {
    return {.rows = p.n * p.p() * p.q(),
            .cols = p.kg(),
            .k = p.r * p.s * p.cg(),
            .vectors = whole_vectors(p, p.cg(), p.cg())};
}

static size_t fprop_workspace(const ConvProblem& p) {
    const Extents e = fprop_extents(p);
    return split_workspace(e.split(p.groups), e.rows, e.cols, p.groups, false);
}

static void launch_fprop(const ConvProblem& p, const ConvFpropArgs& a) {
    const Extents e = fprop_extents(p);
    by_dtype(p.dtype, [&]<class T>() {
        const SplitKOutput<T> r = fprop_output<T>(p, a, e.split(p.groups), a.workspace);
        by_tile<T>(e, [&]<class Tile, int V>() {
            launch("conv_fprop.tiled",
                   {.grid = product_grid<Tile>(r),
                    .block = dim3(Tile::kThreads),
                    .stream = a.stream,
                    .shared = sizeof(typename Tile::SharedStorage)},
                   fprop_kernel<Tile, V, T>, ConvShape(p), static_cast<const T*>(a.x),
                   static_cast<const T*>(a.w), r);
        });
        reduce_partials("conv_fprop.tiled sum", r, a.stream);
    });
}

extern const ConvFprop fprop = {
    .name = "tiled", .refuses = refuses, .workspace = fprop_workspace, .launch = launch_fprop};

}  // namespace wt::conv_tiled
