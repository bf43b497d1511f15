// Convolution forward as implicit GEMM on tensor cores of sm_80 and later: output pixels x filters
// of C, both operands along k. cp.async gathers patches of x, 16 bytes of one tap at a time, and
// fills padding with zeros. Bias and ReLU are in the epilogue. Folded input: the same over blocks,
// the filters folded in a kernel before.
#include "kernels/conv/mma_common.h"
#include "kernels/conv/operand_iterators.h"

namespace wt::conv_mma {

template <class Tile, class T>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerSM)
    fprop_kernel(ConvShape v, const T* x, const T* w, SplitKOutput<T> r) {
    constexpr int V = 16 / sizeof(T);
    const BlockTile tile = my_tile<Tile>(r);
    const int k0 = tile.split * r.split.steps * Tile::BK, taps = v.r * v.s * v.cg;
    mma::CopyAlongK<Tile, Tile::BM, InputPatches<T, V>> copy_a({x + tile.group * v.cg, v, r.rows},
                                                               tile.m, k0);
    mma::CopyAlongK<Tile, Tile::BN, ContiguousK<T, V>> copy_b(
        {w + static_cast<int64_t>(tile.group) * v.kg * taps, taps, v.kg, taps}, tile.n, k0);
    auto& shared = shared_storage<typename Tile::SharedStorage>();
    typename Tile::Accumulators acc;
    mma::product<Tile, mma::Major::k, mma::Major::k>(shared, copy_a, copy_b, tile.steps, acc);
    mma::store_tile<Tile>(r, tile, shared, acc);
}

static std::string refuses_fprop(const ConvProblem& p) {
    if (p.drelu) return refuses_fusions(p);
    return refuses(p, false);
}

static Extents extents(const ConvProblem& p) {
    return {.rows = p.n * p.p() * p.q(),
            .cols = p.kg(),
            .k = p.r * p.s * p.cg(),
            .dtype = p.dtype,
            .along_k = true};
}

static size_t workspace_fprop(const ConvProblem& p) {
    const ConvProblem q = p.fold > 1 ? over_blocks(p) : p;
    const Extents e = extents(q);
    return folded_bytes(p, size_of(p.dtype)) +
           split_workspace(e.split(q.groups), e.rows, e.cols, q.groups, false);
}

static void launch_fprop(const ConvProblem& problem, const ConvFpropArgs& a) {
    const bool folded = problem.fold > 1;
    if (folded) fold_weights(problem, a.w, a.workspace, a.stream);
    const void* w = folded ? a.workspace : a.w;
    const ConvProblem p = folded ? over_blocks(problem) : problem;
    const Extents e = extents(p);
    by_dtype(p.dtype, [&]<class T>() {
        void* workspace =
            static_cast<std::byte*>(a.workspace) + folded_bytes(problem, size_of(p.dtype));
        const SplitKOutput<T> r = conv_tiled::fprop_output<T>(p, a, e.split(p.groups), workspace);
        by_tile<T, true>(e, [&]<class Tile>() {
            launch("conv_fprop.mma_sm80",
                   {.grid = product_grid<Tile>(r),
                    .block = dim3(Tile::kThreads),
                    .stream = a.stream,
                    .shared = sizeof(typename Tile::SharedStorage)},
                   fprop_kernel<Tile, T>, ConvShape(p), static_cast<const T*>(a.x),
                   static_cast<const T*>(w), r);
        });
        reduce_partials("conv_fprop.mma_sm80 sum", r, a.stream);
    });
}

extern const ConvFprop fprop = {.name = "mma_sm80",
                                .refuses = refuses_fprop,
                                .workspace = workspace_fprop,
                                .launch = launch_fprop};

}  // namespace wt::conv_mma
