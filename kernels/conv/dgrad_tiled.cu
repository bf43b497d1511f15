// Gradient of the convolution's input as implicit GEMM in shared-memory tiles on ordinary threads:
// 128 input pixels x 128 channels x 16 (tap, filter) pairs a block, 64 x 64 also where a stride is
// above 1. The outputs that read a pixel are gathered on their way to shared memory; a weight is
// never transposed in memory.
#include "kernels/conv/operand_iterators.h"
#include "kernels/conv/tiled_common.h"

namespace wt::conv_tiled {

template <class Tile, int V, class T, EpilogueOp F>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerSM)
    dgrad_kernel(ConvShape v, const T* dy, const T* w, SplitKOutput<T> r) {
    const BlockTile tile = my_tile<Tile>(r);
    const simt::ThreadOrigin origin = simt::thread_origin<Tile>();
    const int k0 = tile.split * r.split.steps * Tile::BK;
    constexpr bool kStrided = Tile::BM == Small::BM;
    simt::AlongK<Tile, Tile::BM, OutputPatches<T, V, kStrided>> load_a(
        {dy + tile.group * v.kg, v, r.rows}, tile.m, k0);
    simt::AlongMN<Tile, Tile::BN, FiltersByTap<T, V>> load_b(
        {w + filter_offset(v, tile.group, 0, 0, 0, 0), v}, tile.n, k0);

    Vec<8> acc[8];
    unroll<8>([&](auto i) { acc[i] = splat<8>(0); });
    auto& shared = shared_storage<typename Tile::SharedStorage>();
    simt::product<Tile>(shared, load_a, load_b, tile.steps, origin, acc);
    store_tile<Tile, F>(r, tile, origin, acc);
}

static Extents dgrad_extents(const ConvProblem& p) {
    return {.rows = p.n * p.h * p.w,
            .cols = p.cg(),
            .k = p.r * p.s * p.kg(),
            .vectors = whole_vectors(p, p.cg(), p.kg()),
            .small = p.stride_h * p.stride_w > 1};
}

static std::string refuses_dgrad(const ConvProblem& p) {
    return p.fold > 1 ? "does not read folded input" : too_large(p);
}

static size_t dgrad_workspace(const ConvProblem& p) {
    const Extents e = dgrad_extents(p);
    return split_workspace(e.split(p.groups), e.rows, e.cols, p.groups, false);
}

static void launch_dgrad(const ConvProblem& p, const ConvDgradArgs& a) {
    const Extents e = dgrad_extents(p);
    by_dtype(p.dtype, [&]<class T>() {
        const SplitKOutput<T> r = dgrad_output<T>(p, a, e.split(p.groups));
        by_drelu(p, [&]<EpilogueOp F>() {
            by_tile<T>(e, [&]<class Tile, int V>() {
                launch("conv_dgrad.tiled",
                       {.grid = product_grid<Tile>(r),
                        .block = dim3(Tile::kThreads),
                        .stream = a.stream,
                        .shared = sizeof(typename Tile::SharedStorage)},
                       dgrad_kernel<Tile, V, T, F>, ConvShape(p), static_cast<const T*>(a.dy),
                       static_cast<const T*>(a.w), r);
            });
            reduce_partials<F>("conv_dgrad.tiled sum", r, a.stream);
        });
    });
}

extern const ConvDgrad dgrad = {.name = "tiled",
                                .refuses = refuses_dgrad,
                                .workspace = dgrad_workspace,
                                .launch = launch_dgrad};

}  // namespace wt::conv_tiled
