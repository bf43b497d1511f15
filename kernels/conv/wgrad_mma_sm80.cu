// Gradient of the filters as implicit GEMM on tensor cores of sm_80 and later: filters x taps,
// summed over the output pixels of the whole batch, which are split over blocks
// (kernels/tile/split_k.h). Neither operand lies along the pixels: ldmatrix transposes both. The
// bias gradient is the row sums of dy, taken by the blocks of the first tap tile while dy is in
// shared memory. Folded input: the same over blocks, the gradients unfolded in a kernel behind.
#include "kernels/conv/mma_common.h"
#include "kernels/conv/operand_iterators.h"

namespace wt::conv_mma {

template <class Tile, class T>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerSM)
    wgrad_kernel(ConvShape v, const T* x, const T* dy, SplitKOutput<float> r) {
    constexpr int V = 16 / sizeof(T);
    const BlockTile tile = my_tile<Tile>(r);
    const int k0 = tile.split * r.split.steps * Tile::BK;
    mma::CopyAlongMN<Tile, Tile::BM, ContiguousMN<T, V>> copy_a(
        {dy + tile.group * v.kg, v.k, v.kg, v.n * v.p * v.q}, tile.m, k0);
    mma::CopyAlongMN<Tile, Tile::BN, InputByPixel<T, V>> copy_b({x + tile.group * v.cg, v}, tile.n,
                                                                k0);
    auto& shared = shared_storage<typename Tile::SharedStorage>();
    typename Tile::Accumulators acc;
    mma::product<Tile, mma::Major::mn, mma::Major::mn>(shared, copy_a, copy_b, tile.steps, acc,
                                                       r.row_sums && tile.n == 0);
    mma::store_tile<Tile>(r, tile, shared, acc);
}

static std::string refuses_wgrad(const ConvProblem& p) {
    if (p.drelu) return refuses_fusions(p);
    return refuses(p, true);
}

static Extents extents(const ConvProblem& p) {
    return {.rows = p.kg(), .cols = p.r * p.s * p.cg(), .k = p.n * p.p() * p.q(), .dtype = p.dtype};
}

static size_t workspace_wgrad(const ConvProblem& p) {
    const ConvProblem q = p.fold > 1 ? over_blocks(p) : p;
    const Extents e = extents(q);
    return folded_bytes(p, sizeof(float)) +
           split_workspace(e.split(q.groups), e.rows, e.cols, q.groups, q.bias);
}

static void launch_wgrad(const ConvProblem& problem, const ConvWgradArgs& a) {
    const bool folded = problem.fold > 1;
    const ConvProblem p = folded ? over_blocks(problem) : problem;
    const Extents e = extents(p);
    float* dw = folded ? static_cast<float*>(a.workspace) : a.dw;
    void* workspace = static_cast<std::byte*>(a.workspace) + folded_bytes(problem, sizeof(float));
    const SplitKOutput<float> r =
        conv_tiled::wgrad_output(p, dw, a.db, e.split(p.groups), workspace);
    by_dtype(p.dtype, [&]<class T>() {
        by_tile<T, false>(e, [&]<class Tile>() {
            launch("conv_wgrad.mma_sm80",
                   {.grid = product_grid<Tile>(r),
                    .block = dim3(Tile::kThreads),
                    .stream = a.stream,
                    .shared = sizeof(typename Tile::SharedStorage)},
                   wgrad_kernel<Tile, T>, ConvShape(p), static_cast<const T*>(a.x),
                   static_cast<const T*>(a.dy), r);
        });
    });
    reduce_partials("conv_wgrad.mma_sm80 sum", r, a.stream);
    if (folded) unfold_weight_gradients(problem, dw, a.dw, a.stream);
}

extern const ConvWgrad wgrad = {.name = "mma_sm80",
                                .refuses = refuses_wgrad,
                                .workspace = workspace_wgrad,
                                .launch = launch_wgrad};

}  // namespace wt::conv_mma
