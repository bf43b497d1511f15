// Matrix products on tensor cores of sm_80 and later: 128 x 128 of C a block, 64 x 64 where C is
// small. Operands keep their layout in shared memory, too (kernels/tile/mma_sm80.h). k is split
// where C has too few tiles to fill the machine (kernels/tile/split_k.h), which is the rule for fc
// layers; the kernel that adds up the partial sums then does the epilogue.
#include "kernels/common/pack.h"
#include "kernels/gemm/epilogue_of.h"
#include "kernels/tile/matrix_iterators.h"
#include "kernels/tile/mma_sm80.h"

namespace wt {

namespace gemm_mma {

template <class T>
using Big = mma::Tile<T, 128, 128, 2, 2>;
template <class T>
using Small = mma::Tile<T, 64, 64, 2, 2>;

template <class Tile, int R, mma::Major M, class T = typename Tile::T, int V = 16 / sizeof(T)>
using Copy = std::conditional_t<M == mma::Major::k, mma::CopyAlongK<Tile, R, ContiguousK<T, V>>,
                                mma::CopyAlongMN<Tile, R, ContiguousMN<T, V>>>;

template <class Tile, GemmLayout L, class T, class Out, EpilogueOp F>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerSM)
    gemm_kernel(const T* a, int64_t lda, const T* b, int64_t ldb, int k, SplitKOutput<Out> r) {
    constexpr mma::Major kA = L == GemmLayout::tn ? mma::Major::mn : mma::Major::k;
    constexpr mma::Major kB = L == GemmLayout::nt ? mma::Major::k : mma::Major::mn;
    const BlockTile tile = my_tile<Tile>(r);
    const int k0 = tile.split * r.split.steps * Tile::BK;
    Copy<Tile, Tile::BM, kA> copy_a({a, lda, r.rows, k}, tile.m, k0);
    Copy<Tile, Tile::BN, kB> copy_b({b, ldb, r.out.cols, k}, tile.n, k0);
    auto& shared = shared_storage<typename Tile::SharedStorage>();
    typename Tile::Accumulators acc;
    mma::product<Tile, kA, kB>(shared, copy_a, copy_b, tile.steps, acc,
                               L == GemmLayout::tn && r.row_sums && tile.n == 0);
    mma::store_tile<Tile, F>(r, tile, shared, acc);
}

static bool wants_big(const GemmProblem& p) { return p.m > 64 && p.n > 64; }

// Small tiles leave dropout and the gradient of ReLU to the reduction kernel.
static SplitK plan(const GemmProblem& p) {
    const int edge = wants_big(p) ? 128 : 64;
    SplitK s = split_k(ceil_div(p.m, edge) * ceil_div(p.n, edge), p.k,
                       64 / static_cast<int>(size_of(p.dtype)));
    s.force_workspace = !wants_big(p) && (p.dropout > 0 || p.drelu);
    return s;
}

static std::string refuses(const GemmProblem& p) {
    if (p.dtype == DType::f32 && !p.tf32) return "fp32 operands must not be rounded to tf32";
    if (p.dtype == DType::f32 && p.out != DType::f32) return "no bf16 results of fp32 operands";
    const int v = 16 / static_cast<int>(size_of(p.dtype));
    if (p.lda % v || p.ldb % v || !p.aligned) return "rows of A and B must start on 16 bytes";
    return "";
}

static size_t workspace(const GemmProblem& p) {
    return split_workspace(plan(p), p.m, p.n, 1, p.layout == GemmLayout::tn && p.bias);
}

template <GemmLayout L, class T, class Out>
static void launch_layout(const GemmProblem& p, const GemmArgs& g) {
    SplitKOutput<Out> r;
    r.out = epilogue_of<Out>(p, g);
    r.rows = p.m;
    r.row_sums = p.bias && L == GemmLayout::tn ? g.bias_grad : nullptr;
    r.split = plan(p);
    r.partials = static_cast<float*>(g.workspace);
    auto run = [&]<class Tile, EpilogueOp F>() {
        launch("gemm.mma_sm80",
               {.grid = product_grid<Tile>(r),
                .block = dim3(Tile::kThreads),
                .stream = g.stream,
                .shared = sizeof(typename Tile::SharedStorage)},
               gemm_kernel<Tile, L, T, Out, F>, static_cast<const T*>(g.a), p.lda,
               static_cast<const T*>(g.b), p.ldb, p.k, r);
    };
    by_epilogue<L, Out>(p, [&]<EpilogueOp F>() {
        if (wants_big(p))
            run.template operator()<Big<T>, F>();
        else
            run.template operator()<Small<T>, F == EpilogueOp::sgd ? F : EpilogueOp::plain>();
        reduce_partials<F>("gemm.mma_sm80 sum", r, g.stream);
    });
}

template <class T, class Out>
static void launch_types(const GemmProblem& p, const GemmArgs& g) {
    switch (p.layout) {
        case GemmLayout::nt: return launch_layout<GemmLayout::nt, T, Out>(p, g);
        case GemmLayout::nn: return launch_layout<GemmLayout::nn, T, Out>(p, g);
        case GemmLayout::tn: return launch_layout<GemmLayout::tn, T, Out>(p, g);
    }
}

static void launch_gemm(const GemmProblem& p, const GemmArgs& g) {
    for (const void* operand : {g.a, g.b}) require_aligned("gemm mma_sm80", operand);
    if (p.dtype == DType::f32)
        launch_types<float, float>(p, g);
    else if (p.out == DType::f32)
        launch_types<bf16, float>(p, g);
    else
        launch_types<bf16, bf16>(p, g);
}

extern const Gemm gemm = {
    .name = "mma_sm80", .refuses = refuses, .workspace = workspace, .launch = launch_gemm};

}  // namespace gemm_mma
}  // namespace wt
