// Gradient of the convolution's input as implicit GEMM on tensor cores of sm_80 and later: input
// pixels x channels, summed over (tap, filter). The outputs that read a pixel are gathered along k;
// the filters lie along their channels and are transposed by ldmatrix, never in memory. Strides
// above 1, where most of what is gathered are zeros, only in the small tile: AlexNet's only strided
// layer is the first, whose input has no gradient.
#include "kernels/conv/mma_common.h"
#include "kernels/conv/operand_iterators.h"

namespace wt::conv_mma {

template <class Tile, class T, EpilogueOp F>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerSM)
    dgrad_kernel(ConvShape v, const T* dy, const T* w, SplitKOutput<T> r) {
    constexpr int V = 16 / sizeof(T);
    constexpr bool kStrided = Tile::BM == Small<T>::BM;
    const BlockTile tile = my_tile<Tile>(r);
    const int k0 = tile.split * r.split.steps * Tile::BK;
    mma::CopyAlongK<Tile, Tile::BM, OutputPatches<T, V, kStrided>> copy_a(
        {dy + tile.group * v.kg, v, r.rows}, tile.m, k0);
    mma::CopyAlongMN<Tile, Tile::BN, FiltersByTap<T, V>> copy_b(
        {w + filter_offset(v, tile.group, 0, 0, 0, 0), v}, tile.n, k0);
    auto& shared = shared_storage<typename Tile::SharedStorage>();
    typename Tile::Accumulators acc;
    mma::product<Tile, mma::Major::k, mma::Major::mn>(shared, copy_a, copy_b, tile.steps, acc);
    mma::store_tile<Tile, F>(r, tile, shared, acc);
}

static std::string refuses_dgrad(const ConvProblem& p) {
    if (p.fold > 1) return "does not read folded input";
    return refuses(p, true);
}

static Extents extents(const ConvProblem& p) {
    return {.rows = p.n * p.h * p.w,
            .cols = p.cg(),
            .k = p.r * p.s * p.kg(),
            .dtype = p.dtype,
            .small = p.stride_h * p.stride_w > 1};
}

static size_t workspace_dgrad(const ConvProblem& p) {
    const Extents e = extents(p);
    return split_workspace(e.split(p.groups), e.rows, e.cols, p.groups, false);
}

static void launch_dgrad(const ConvProblem& p, const ConvDgradArgs& a) {
    const Extents e = extents(p);
    by_dtype(p.dtype, [&]<class T>() {
        const SplitKOutput<T> r = conv_tiled::dgrad_output<T>(p, a, e.split(p.groups));
        conv_tiled::by_drelu(p, [&]<EpilogueOp F>() {
            by_tile<T, false>(e, [&]<class Tile>() {
                launch("conv_dgrad.mma_sm80",
                       {.grid = product_grid<Tile>(r),
                        .block = dim3(Tile::kThreads),
                        .stream = a.stream,
                        .shared = sizeof(typename Tile::SharedStorage)},
                       dgrad_kernel<Tile, T, F>, ConvShape(p), static_cast<const T*>(a.dy),
                       static_cast<const T*>(a.w), r);
            });
            reduce_partials<F>("conv_dgrad.mma_sm80 sum", r, a.stream);
        });
    });
}

extern const ConvDgrad dgrad = {.name = "mma_sm80",
                                .refuses = refuses_dgrad,
                                .workspace = workspace_dgrad,
                                .launch = launch_dgrad};

}  // namespace wt::conv_mma
