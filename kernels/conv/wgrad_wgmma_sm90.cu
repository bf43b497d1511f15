// Gradient of the filters on Hopper: implicit GEMM with wgmma. Rows are taps x channels, columns
// filters, k output pixels: the transpose of dw, so that the long side is cut into 128s with little
// loss (2400 rows of alexnet's conv2 into 18.75) and the filters of a layer are one or two tiles
// (256, or 2 x 192).
//
//   A = patches of x, 64 pixels by boxes of channels, each box at a tap of its own (TMA im2col)
//   B = dy, 64 pixels by boxes of 64 filters (a tiled map), shared by the blocks of a pair
//
// Both operands have k, the pixels, outermost: they are MN-major.
//
// There are few tiles and very many pixels, so k is divided over the machine by stream-K
// (kernels/tile/stream_k.h says how, and why most clusters walk through the same pixels at the same
// time: otherwise conv2's operands at batch 256, 132 MB, would be read from memory ten times). Each
// cluster writes its partial sums, and a second kernel adds up each tile's in order.
//
// Partial sums lie in memory as threads have them: 16 bytes of a thread beside those of the next,
// so that a warp writes, and the second kernel reads, whole lines. (Stored where dw has them, a
// warp's 32 floats would be in 4 places: 128 store instructions a thread instead of 32, each of 4
// sectors.) The second kernel alone pays for the transpose, once for dw instead of once for each
// part.
//
//                                                      steps of a cluster
//   layer, batch 128     tiles            units  steps   evened out   equal ranges (G / U)
//   alexnet conv2    128x256: 19 x 1      10     1458    221          243
//   alexnet conv3    128x192: 18 x 2      18      338     93          113
//   alexnet conv4    128x192: 27 x 2      28      338    144          169
//   alexnet conv5    128x256: 27 x 1      14      338     72           85
//
// The bias gradient is the sum of dy over pixels, which all pairs of a column of tiles have in
// shared memory. Where the tiles are odd in number (conv2, 4 and 5) the second block of the last
// pair has none: it multiplies nothing and adds up dy instead, with ordinary loads. Otherwise
// (conv3) the pairs share the work: pair p of P adds up the stages whose number is p modulo P
// beside the products, and each of its two blocks half of their pixels. A stage's half is 12 KB, 96
// clocks of shared memory, and some 100 instructions of a consumer's warp, one stage in 9: if each
// of these took 96 clocks longer, blocks would lose 1.4 % of their time. (Were it all done by one
// row of tiles, each of its stages would be 192 clocks longer, a quarter, and so the kernel, whose
// clusters have equal shares.)
//
// Predicted, not measured: conv2 0.9375 (20 tiles for 18.75) x 0.95 (partial sums, first copies) of
// 790 TFLOP/s; conv3 to conv5, whose partial sums weigh more, 0.8 of it.
#include <array>

#include "kernels/conv/wgrad_partials.h"

namespace wt::conv_wgmma {

namespace {

// The loop over a block's work, the same in every role: calls f(tile) for each.
template <class F>
__device__ __forceinline__ void for_each_work_tile(const WgradShape& v, F&& f) {
    v.plan.for_each_range(blockIdx.x / v.multicast, [&](const StreamKRange& range) {
        const int column = range.unit / v.pairs(), group = column / v.tiles_n;
        f(WorkTile{.m = static_cast<int>((range.unit - column * v.pairs()) * v.multicast +
                                         blockIdx.x % v.multicast),
                   .n = column - group * v.tiles_n,
                   .group = group,
                   .partial = range.partial,
                   .first = range.first,
                   .steps = range.steps});
    });
}

template <class Tile>
struct WgradStorage {
    typename Tile::Stage stages[Tile::kStages];
    float sums[8][64];  // a warp's, over some of the pixels, of one box of filters
    Pipeline<Tile::kStages> pipeline;
};

// One thread of warpgroup 0 starts all the block's copies, as many stages ahead as there are.
template <class Tile>
__device__ __forceinline__ void producer(WgradStorage<Tile>& shared, const CUtensorMap& x,
                                         const CUtensorMap& dy, const WgradShape& v) {
    using A = typename Tile::A;
    using B = typename Tile::B;
    PipelineProducer<Tile::kStages> pipeline{shared.pipeline};
    const int rank = v.multicast > 1 ? blockIdx.x % kMaxMulticast : 0;

    for_each_work_tile(v, [&](const WorkTile& tile) {
        const int filter = tile.n * Tile::BN;
        const BoxCursor first_box = BoxCursor::at(v.window, tile.m * A::kBoxes, A::kAcross);
        const bool has_tile = tile.m < v.tiles_m;
        int pixel = tile.first * kDepth;
        PixelCursor position(pixel, v.window.rows, v.window.cols);
        for (int step = 0; step < tile.steps; ++step, pixel += kDepth, position.advance(kDepth)) {
            // Wait until the stage is free.
            typename Tile::Stage& stage = shared.stages[pipeline.stage()];
            ptx::Mbarrier& bar =
                pipeline.producer_acquire(has_tile ? Tile::kStageBytes : uint32_t(B::kBytes));
            // Issue the copies of this block's share of its dy, and of its patches.
            const auto copy_dy = [&](uint8_t* to, int i, int) {
                if (v.multicast > 1)
                    ptx::tma_load_multicast(to, dy, bar, multicast_mask(), filter + i * B::kAcross,
                                            tile.group, pixel);
                else
                    ptx::tma_load(to, dy, bar, filter + i * B::kAcross, tile.group, pixel);
            };
            copy_share<B>(stage.b, rank, v.multicast, copy_dy);
            if (has_tile) {
                const Pixel corner = v.window.corner_at(position.at);
                BoxCursor box = first_box;
#pragma unroll 1
                for (int i = 0; i < A::kBoxes; ++i, box.advance(v.window, A::kAcross))
                    load_patches(stage.a + i * A::kBoxBytes, x, bar, v.window, tile.group, corner,
                                 box);
            }
            pipeline.advance();
        }
    });
    // the next kernel's blocks may take this one's place as it ends
    ptx::griddep_launch_dependents();
}

// A warpgroup multiplies its half of each tile's rows, adds up its share of dy, and stores both.
template <class Tile>
__device__ __forceinline__ void consumer(WgradStorage<Tile>& shared, const WgradShape& v,
                                         int warpgroup) {
    PipelineConsumer<Tile::kStages> pipeline{shared.pipeline, v.multicast};
    DySums<typename Tile::B> sums;
    const int pairs = v.pairs(), rank = static_cast<int>(blockIdx.x) % v.multicast,
              first_adder = v.first_adder();

    for_each_work_tile(v, [&](const WorkTile& tile) {
        const bool has_tile = tile.m < v.tiles_m, adds = v.sums && tile.m >= first_adder;
        sums.clear();
        const auto store_sums = [&] {
            const int filter = tile.n * Tile::BN;
            sums.put(shared.sums,
                     v.sums + v.sums_at(tile.group, tile.m - first_adder, tile.partial) + filter,
                     v.filters - filter);
        };
        if (!has_tile) {  // read the stages for dy, if at all
            for (int step = 0; step < tile.steps; ++step, pipeline.advance()) {
                pipeline.consumer_wait();
                // One lane arrives for its warp, so all must have seen the phase end: products or
                // sums would order them.
                if (adds)
                    sums.add(shared.stages[pipeline.stage()].b, 0, 1);
                else
                    __syncwarp();
                pipeline.consumer_release(pipeline.stage());
            }
            if (adds) store_sums();
            return;
        }
        // Wait for stages, multiply them; meanwhile add up dy of every step that is this pair's,
        // number m / multicast modulo the pairs.
        int others = 0x7fffffff;  // steps until the next of this pair's
        if (adds) others = (tile.m / v.multicast + pairs - tile.first % pairs) % pairs;
        typename Tile::Accumulators acc;
        const auto add_dy = [&](int stage) {
            if (others-- > 0) return;
            others = pairs - 1;
            sums.add(shared.stages[stage].b, rank, v.multicast);
        };
        multiply<Tile>(shared.stages, pipeline, warpgroup, tile.steps, acc, add_dy);

        // Store the sums of dy, then the products' partial sums.
        if (adds) store_sums();
        store_partial<Tile>(v, tile, warpgroup, acc);
    });
}

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    wgrad_kernel(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap dy,
                 const __grid_constant__ WgradShape v) {
    WgradStorage<Tile>& shared = shared_storage<WgradStorage<Tile>>();
    // Prefetch the descriptors, initialise the barriers, wait for the kernel before this one.
    begin_block(v.multicast, [&] {
        ptx::prefetch_tensor_map(x);
        ptx::prefetch_tensor_map(dy);
        shared.pipeline.init(Tile::kConsumerWarps * v.multicast);
    });

    // Move registers from the producer's warpgroup to the consumers', and take the roles.
    const int warpgroup = warpgroup_index();
    if (warpgroup == 0) {
        ptx::registers_decrease<Tile::kProducerRegisters>();
        if (warp_index() == 0 && ptx::elect_one()) producer(shared, x, dy, v);
    } else {
        ptx::registers_increase<Tile::kConsumerRegisters>();
        consumer(shared, v, warpgroup - 1);
    }
    end_block(v.multicast);
}

// Chooses the tile, and derives everything that follows from it.
WgradShape shape_of(const ConvProblem& p, TileChoice only) {
    WgradShape v{};
    v.window = input_window(p);
    v.rows = p.r * p.s * p.cg();
    v.filters = p.kg();
    v.groups = p.groups;
    const WgradTiles tiles = choose_wgrad_tiles(p, only);
    v.tile = tiles.tile;
    v.tiles_m = tiles.tiles_m;
    v.tiles_n = tiles.tiles_n;
    v.multicast = tiles.multicast;
    const int units = v.pairs() * v.tiles_n * v.groups;
    const int steps = static_cast<int>(ceil_div(int64_t(p.n) * p.p() * p.q(), kDepth));
    v.plan = StreamKPlan(units, steps, wgrad_clusters(units, steps, v.multicast, planned_sms()));
    v.max_partials = v.plan.max_partials();
    return v;
}

std::string refuses_wgrad(const ConvProblem& p, TileChoice only) {
    if (std::string why = refuses_x(p); !why.empty()) return why;
    if (std::string why = refuses_choice(only, int64_t(p.r) * p.s * p.cg(), p.kg()); !why.empty())
        return why;
    const StreamKPlan plan = shape_of(p, only).plan;
    if (int64_t(plan.units) * plan.unit_steps >= int64_t(1) << 31)
        return "too many filters and pixels to count the steps in 32 bits";
    return "";
}

size_t workspace(const ConvProblem& p, TileChoice only) {
    const WgradShape v = shape_of(p, only);
    return sizeof(float) * (v.partial_at(v.tiles(), 0) + (p.bias ? v.sums_at(v.groups, 0, 0) : 0));
}

template <int BM, int BN, int kBox>
void launch_tile(const ConvProblem& p, const ConvWgradArgs& a, const WgradShape& v) {
    using A = SharedOperand<BM, kDepth, Major::mn, 2 * kBox>;
    using B = SharedOperand<BN, kDepth, Major::mn, 128>;
    using Tile = WgmmaTile<A, B, stages_beside(A::kBytes + B::kBytes, 2048)>;
    const uint64_t pitch = uint64_t(p.kg()) * 2, pixels = uint64_t(p.n) * p.p() * p.q();
    launch("conv_wgrad.wgmma_sm90",
           LaunchShape{.grid = dim3(v.plan.clusters * v.multicast),
                       .block = dim3(Tile::kThreads),
                       .stream = a.stream,
                       .shared = sizeof(WgradStorage<Tile>),
                       .cluster = unsigned(v.multicast),
                       .pdl = true},
           wgrad_kernel<Tile>, patches_map(a.x, p.n, p.h, p.w, v.window, kBox, kDepth),
           tiled_map(DType::bf16, a.dy, {uint64_t(p.kg()), uint64_t(p.groups), pixels},
                     {pitch, pitch * p.groups}, {64, 1, kDepth}, 128),
           v);
}

template <int kBox>
void launch_box(const ConvProblem& p, const ConvWgradArgs& a, const WgradShape& v) {
    const TileSize tile = v.tile;
    if (tile.bn == 256) return launch_tile<128, 256, kBox>(p, a, v);
    if (tile.bn == 192) return launch_tile<128, 192, kBox>(p, a, v);
    if (tile.bn == 64) return launch_tile<256, 64, kBox>(p, a, v);
    if (tile.bm == 256) return launch_tile<256, 128, kBox>(p, a, v);
    launch_tile<128, 128, kBox>(p, a, v);
}

void launch_wgrad(const ConvProblem& p, const ConvWgradArgs& a, TileChoice only) {
    WgradShape v = shape_of(p, only);
    v.dw = a.dw;
    v.db = a.db;
    v.partials = static_cast<float*>(a.workspace);
    v.sums = p.bias ? v.partials + v.partial_at(v.tiles(), 0) : nullptr;
    const int box = box_of(p.cg());
    if (box == 64)
        launch_box<64>(p, a, v);
    else if (box == 32)
        launch_box<32>(p, a, v);
    else
        launch_box<16>(p, a, v);
    const int64_t blocks = int64_t(v.tiles()) * (v.tile.bm * v.tile.bn / 4 / kAddThreads) +
                           (p.bias ? v.groups * ceil_div(v.filters, 32) : 0);
    launch("conv_wgrad.wgmma_sm90 sum",
           LaunchShape{.grid = dim3(static_cast<unsigned>(blocks)),
                       .block = dim3(kAddThreads),
                       .stream = a.stream,
                       .shared = sizeof(AddStorage),
                       .pdl = true},
           add_parts_kernel, v);
}

template <int BM, int BN, int kMulticast = 0>
ConvWgrad row(const char* name) {
    static constexpr TileChoice kOnly{{BM, BN}, kMulticast};
    return {
        .name = name,
        .refuses = [](const ConvProblem& p) { return refuses_wgrad(p, kOnly); },
        .workspace = [](const ConvProblem& p) { return workspace(p, kOnly); },
        .launch = [](const ConvProblem& p, const ConvWgradArgs& a) { launch_wgrad(p, a, kOnly); },
        .sm = 90};
}

}  // namespace

extern const ConvWgrad wgrad = row<0, 0>("wgmma_sm90");

// The same with a tile of kWgradTiles, or without pairs.
extern const std::array<ConvWgrad, 6> wgrad_fixed{
    row<128, 256>("wgmma_128x256_sm90"), row<128, 192>("wgmma_128x192_sm90"),
    row<256, 128>("wgmma_256x128_sm90"), row<128, 128>("wgmma_128x128_sm90"),
    row<256, 64>("wgmma_256x64_sm90"),   row<0, 0, 1>("wgmma_single_sm90")};

}  // namespace wt::conv_wgmma
