// Matrix products from shared-memory tiles on ordinary threads: 128 x 128 x 16 a block, 8 x 8 a
// thread, or 64 x 64 where C is small or an operand cannot be read 16 bytes at a time. k is split
// where C has too few tiles to fill the machine (kernels/tile/split_k.h), which is the rule for fc
// layers; dropout and the gradient of ReLU are left to the kernel that adds up the partial sums,
// which then always runs.
#include "kernels/gemm/epilogue_of.h"
#include "kernels/tile/matrix_iterators.h"
#include "kernels/tile/simt.h"
#include "kernels/tile/split_k.h"

namespace wt::gemm_tiled {

using Big = simt::Tile<128, 128>;
using Small = simt::Tile<64, 64>;

// A(m,k) and B(k,n) of a layout: where memory runs along k, tiles are transposed on their way to
// shared memory.
template <class T, int V, class Tile, bool AlongK, int R>
using Loader = std::conditional_t<AlongK, simt::AlongK<Tile, R, ContiguousK<T, V>>,
                                  simt::AlongMN<Tile, R, ContiguousMN<T, V>>>;

template <class Tile, GemmLayout L, int V, class T, class Out, EpilogueOp F>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerSM)
    gemm_kernel(const T* a, int64_t lda, const T* b, int64_t ldb, int k, SplitKOutput<Out> r) {
    const BlockTile tile = my_tile<Tile>(r);
    const simt::ThreadOrigin origin = simt::thread_origin<Tile>();
    const int k0 = tile.split * r.split.steps * Tile::BK;
    Loader<T, V, Tile, L != GemmLayout::tn, Tile::BM> load_a({a, lda, r.rows, k}, tile.m, k0);
    Loader<T, V, Tile, L == GemmLayout::nt, Tile::BN> load_b({b, ldb, r.out.cols, k}, tile.n, k0);

    Vec<8> acc[8];
    unroll<8>([&](auto i) { acc[i] = splat<8>(0); });
    auto& shared = shared_storage<typename Tile::SharedStorage>();
    simt::product<Tile>(shared, load_a, load_b, tile.steps, origin, acc,
                        L == GemmLayout::tn && r.row_sums && tile.n == 0);
    store_tile<Tile, F>(r, tile, origin, acc, shared.row_sum);
}

// Small tiles where big ones would be mostly padding.
static bool wants_big(const GemmProblem& p) { return p.m > 64 && p.n > 64; }

// Elements of a 16-byte load when every row of A and B starts on such a boundary, else 1.
static int vector_width(const GemmProblem& p) {
    const int v = 16 / static_cast<int>(size_of(p.dtype));
    const int a = p.layout == GemmLayout::tn ? p.m : p.k,
              b = p.layout == GemmLayout::nt ? p.k : p.n;
    return p.lda % v == 0 && p.ldb % v == 0 && a % v == 0 && b % v == 0 ? v : 1;
}

static SplitK plan(const GemmProblem& p) {
    const int edge = wants_big(p) && vector_width(p) > 1 ? 128 : 64;
    SplitK s = split_k(ceil_div(p.m, edge) * ceil_div(p.n, edge), p.k, Big::BK);
    s.force_workspace = p.dropout > 0 || p.drelu;
    return s;
}

// A quarter less to compile: no layer has such a product.
static std::string refuses(const GemmProblem& p) {
    return p.dtype == DType::f32 && p.out != DType::f32 ? "no bf16 results of fp32 operands" : "";
}

static size_t workspace(const GemmProblem& p) {
    return split_workspace(plan(p), p.m, p.n, 1, p.layout == GemmLayout::tn && p.bias);
}

template <class Tile, GemmLayout L, int V, class T, class Out>
static void launch_kernel(const GemmProblem& p, const GemmArgs& g) {
    SplitKOutput<Out> r;
    r.out = epilogue_of<Out>(p, g);
    r.rows = p.m;
    r.row_sums = p.bias && L == GemmLayout::tn ? g.bias_grad : nullptr;
    r.split = plan(p);
    r.partials = static_cast<float*>(g.workspace);
    by_epilogue<L, Out>(p, [&]<EpilogueOp F>() {
        constexpr EpilogueOp kDirect = F == EpilogueOp::sgd ? F : EpilogueOp::plain;
        launch("gemm.tiled",
               {.grid = product_grid<Tile>(r),
                .block = dim3(Tile::kThreads),
                .stream = g.stream,
                .shared = sizeof(typename Tile::SharedStorage)},
               gemm_kernel<Tile, L, V, T, Out, kDirect>, static_cast<const T*>(g.a), p.lda,
               static_cast<const T*>(g.b), p.ldb, p.k, r);
        reduce_partials<F>("gemm.tiled sum", r, g.stream);
    });
}

template <GemmLayout L, class T, class Out>
static void launch_layout(const GemmProblem& p, const GemmArgs& g) {
    constexpr int V = 16 / sizeof(T);
    const bool vectors = vector_width(p) > 1 && aligned_for<V>(static_cast<const T*>(g.a), p.lda) &&
                         aligned_for<V>(static_cast<const T*>(g.b), p.ldb);
    if (!vectors) return launch_kernel<Small, L, 1, T, Out>(p, g);
    if (wants_big(p)) return launch_kernel<Big, L, V, T, Out>(p, g);
    launch_kernel<Small, L, V, T, Out>(p, g);
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
    if (p.dtype == DType::f32)
        launch_types<float, float>(p, g);
    else if (p.out == DType::f32)
        launch_types<bf16, float>(p, g);
    else
        launch_types<bf16, bf16>(p, g);
}

extern const Gemm gemm = {
    .name = "tiled", .refuses = refuses, .workspace = workspace, .launch = launch_gemm};

}  // namespace wt::gemm_tiled
