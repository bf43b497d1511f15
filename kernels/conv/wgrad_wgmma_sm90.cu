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
//                                                      steps of a cluster
//   layer, batch 128     tiles            units  steps   evened out   equal ranges (G / U)
//   alexnet conv2    128x256: 19 x 1      10     1458    221          243
//   alexnet conv3    128x192: 18 x 2      18      338     93          113
//   alexnet conv4    128x192: 27 x 2      28      338    144          169
//   alexnet conv5    128x256: 27 x 1      14      338     72           85
//
// The bias gradient is the sum of dy over pixels: blocks of the first row of tiles add up each
// stage's dy with ordinary loads beside its products, 32 KB of shared memory a stage, for which
// wgmma leaves room (80 of 128 bytes a clock).
//
// Predicted, not measured: conv2 0.9375 (20 tiles for 18.75) x 0.95 (partial sums, first copies) of
// 790 TFLOP/s; conv3 to conv5, whose partial sums weigh more, 0.8 of it.
#include "kernels/conv/wgmma_common.h"
#include "kernels/tile/stream_k.h"

namespace wt::conv_wgmma {

namespace {

struct WgradShape {
    Window window;      // of x
    int rows, filters;  // taps x channels; filters of a group
    int tiles_m, tiles_n, groups, multicast;
    StreamKPlan plan;  // of the units, pairs of tiles, over the clusters
    int max_partials;  // of a unit
    float* partials;   // [group][max_partials][filters][rows]; dw itself when max_partials is 1
    float* sums;       // [group][max_partials][filters]; db itself; null: not wanted
    float *dw, *db;

    __host__ __device__ int pairs() const { return (tiles_m + multicast - 1) / multicast; }
    __host__ __device__ int unit_of(int group, int n, int m) const {
        return (group * tiles_n + n) * pairs() + m / multicast;
    }
    // The first row of partial sums number i of a group.
    __host__ __device__ int64_t partial_row(int group, int i) const {
        return (int64_t(group) * max_partials + i) * filters;
    }
};

// A tile and a range of k.
struct WorkTile {
    int m, n, group;
    int partial;
    int first, steps;
};

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

// Adds up dy over a stage's pixels: each consumer warp takes the rows of one box, 4 at a time, a
// lane 8 filters.
template <class B>
struct DySums {
    static constexpr int kWarps = 8 / B::kBoxes;  // to a box
    float sum[8];

    __device__ __forceinline__ void clear() {
        unroll<8>([&](auto i) { sum[i] = 0; });
    }
    __device__ __forceinline__ void add(const uint8_t* dy) {
        const int warp = threadIdx.x / 32 - 4, lane = threadIdx.x % 32;
        if (warp < kWarps * B::kBoxes) {
            const uint8_t* box = dy + warp / kWarps * B::kBoxBytes;
            for (int row = warp % kWarps * 4 + lane / 8; row < kDepth; row += kWarps * 4) {
                // TMA's swizzle
                const uint4 v =
                    *reinterpret_cast<const uint4*>(box + row * 128 + ((lane ^ row) % 8 << 4));
                const uint32_t words[4] = {v.x, v.y, v.z, v.w};
                unroll<4>([&](auto i) {
                    sum[2 * i] += __uint_as_float(words[i] << 16);
                    sum[2 * i + 1] += __uint_as_float(words[i] & 0xffff0000u);
                });
            }
        }
        __syncwarp();
    }
    // Writes out[filter] for the `count` filters of the tile that exist; all consumers call.
    __device__ __forceinline__ void put(float (&shared)[8][64], float* out, int count) {
        const int warp = threadIdx.x / 32 - 4, lane = threadIdx.x % 32;
        unroll<8>([&](auto i) {
            sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 8);
            sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 16);
            if (lane < 8) shared[warp][lane * 8 + i] = sum[i];
        });
        sync_consumers();
        for (int filter = threadIdx.x - 128; filter < B::kRows && filter < count; filter += 256) {
            float all = 0;
            for (int w = 0; w < kWarps; ++w) all += shared[filter / 64 * kWarps + w][filter % 64];
            out[filter] = all;
        }
        sync_consumers();
    }
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
        int pixel = tile.first * kDepth;
        PixelCursor position(pixel, v.window.rows, v.window.cols);
        for (int step = 0; step < tile.steps; ++step, pixel += kDepth, position.advance(kDepth)) {
            // Wait until the stage is free.
            typename Tile::Stage& stage = shared.stages[pipeline.stage()];
            ptx::Mbarrier& bar = pipeline.producer_acquire(Tile::kStageBytes);
            // Issue the copies of this block's share of its dy, and of its patches.
            const auto copy_dy = [&](uint8_t* to, int i, int) {
                if (v.multicast > 1)
                    ptx::tma_load_multicast(to, dy, bar, multicast_mask(), filter + i * B::kAcross,
                                            tile.group, pixel);
                else
                    ptx::tma_load(to, dy, bar, filter + i * B::kAcross, tile.group, pixel);
            };
            copy_share<B>(stage.b, rank, v.multicast, copy_dy);
            const Pixel corner = v.window.corner_at(position.at);
            BoxCursor box = first_box;
#pragma unroll 1
            for (int i = 0; i < A::kBoxes; ++i, box.advance(v.window, A::kAcross))
                load_patches(stage.a + i * A::kBoxBytes, x, bar, v.window, tile.group, corner, box);
            pipeline.advance();
        }
    });
    // the next kernel's blocks may take this one's place as it ends
    ptx::griddep_launch_dependents();
}

// Stores a consumer's sums of a tile. Eight lanes of a warp have neighbouring rows, which are
// neighbours in dw too: 32 bytes of a filter at a time.
template <class Tile>
__device__ __forceinline__ void store_partial(const WgradShape& v, const WorkTile& tile,
                                              int warpgroup,
                                              const typename Tile::Accumulators& acc) {
    const int warp = threadIdx.x / 32 - 4, lane = threadIdx.x % 32;
    const int filter = tile.n * Tile::BN + lane % 4 * 2;
    const int64_t first_row = v.partial_row(tile.group, tile.partial);
    unroll<Tile::kHeight>([&](auto h) {
        unroll<2>([&](auto half) {
            const int row = tile.m * Tile::BM + Tile::row_of(warpgroup, h) + warp % 4 * 16 +
                            lane / 4 + half * 8;
            if (row >= v.rows) return;
            float* to = v.partials + (first_row + filter) * v.rows + row;
            unroll<Tile::BN / 8>([&](auto j) {
                if (filter + j * 8 >= v.filters) return;  // filters come in eights
                to[int64_t(j * 8) * v.rows] = acc[h][4 * j + 2 * half];
                to[int64_t(j * 8 + 1) * v.rows] = acc[h][4 * j + 2 * half + 1];
            });
        });
    });
}

// A warpgroup multiplies its half of each tile's rows, adds up dy where its tile is the first, and
// stores both.
template <class Tile>
__device__ __forceinline__ void consumer(WgradStorage<Tile>& shared, const WgradShape& v,
                                         int warpgroup) {
    PipelineConsumer<Tile::kStages> pipeline{shared.pipeline, v.multicast};
    DySums<typename Tile::B> sums;

    for_each_work_tile(v, [&](const WorkTile& tile) {
        // Wait for stages, multiply them; meanwhile add up dy.
        const bool sum_dy = v.sums && tile.m == 0;
        sums.clear();
        typename Tile::Accumulators acc;
        const auto add_dy = [&](int stage) {
            if (sum_dy) sums.add(shared.stages[stage].b);
        };
        multiply<Tile>(shared.stages, pipeline, warpgroup, tile.steps, acc, add_dy);

        // Store the sums of dy, then the products' partial sums.
        const int filter = tile.n * Tile::BN;
        if (sum_dy)
            sums.put(shared.sums, v.sums + v.partial_row(tile.group, tile.partial) + filter,
                     v.filters - filter);
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

// Adds up the partial sums, a thread for 4 neighbours of dw; and a thread for each sum of dy. Tile:
// of the product.
__global__ void add_parts_kernel(const __grid_constant__ WgradShape v, TileSize tile) {
    ptx::griddep_wait();
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, quads = v.rows / 4;
    if (i < v.filters * quads) {
        const int filter = static_cast<int>(i / quads), row = static_cast<int>(i % quads) * 4,
                  group = blockIdx.y;
        const int count = v.plan.partials(v.unit_of(group, filter / tile.bn, row / tile.bm));
        const float* from = v.partials + (v.partial_row(group, 0) + filter) * v.rows + row;
        Vec<4> sum = load<4>(from);
        for (int s = 1; s < count; ++s) sum = sum + load<4>(from + int64_t(s) * v.filters * v.rows);
        store(v.dw + (int64_t(group) * v.filters + filter) * v.rows + row, sum);
    }
    if (v.sums && i < v.filters) {
        const int filter = static_cast<int>(i), group = blockIdx.y;
        const int count = v.plan.partials(v.unit_of(group, filter / tile.bn, 0));
        float sum = 0;
        for (int s = 0; s < count; ++s) sum += v.sums[v.partial_row(group, s) + filter];
        v.db[int64_t(group) * v.filters + filter] = sum;
    }
}

// Chooses the tile with the least work, padding included, and derives everything that follows from
// it.
WgradShape shape_of(const ConvProblem& p, TileSize& tile) {
    WgradShape v{};
    v.window = input_window(p);
    v.rows = p.r * p.s * p.cg();
    v.filters = p.kg();
    v.groups = p.groups;
    double least = 0;
    for (const TileSize& t : kWgradTiles) {
        if (is_only(kWgradTiles) && t != only_tile()) continue;
        const int m = static_cast<int>(ceil_div(v.rows, t.bm)),
                  n = static_cast<int>(ceil_div(v.filters, t.bn));
        const int multicast = m > 1 ? kMaxMulticast : 1;
        const double work =
            double(ceil_div(m, multicast)) * multicast * n * stage_clocks(t, multicast);
        if (least > 0 && work >= least) continue;
        least = work;
        tile = t;
        v.tiles_m = m;
        v.tiles_n = n;
        v.multicast = multicast;
    }
    const int units = v.pairs() * v.tiles_n * v.groups;
    const int steps = static_cast<int>(ceil_div(int64_t(p.n) * p.p() * p.q(), kDepth));
    // Below 8 steps writing and adding partial sums costs more than idle SMs.
    const int64_t useful = std::max<int64_t>(units, int64_t(units) * steps / 8);
    v.plan = StreamKPlan(
        units, steps,
        static_cast<int>(std::min<int64_t>(std::max(1, planned_sms() / v.multicast), useful)));
    v.max_partials = v.plan.max_partials();
    return v;
}

std::string refuses_wgrad(const ConvProblem& p) {
    if (std::string why = refuses_x(p); !why.empty()) return why;
    TileSize tile;
    const StreamKPlan plan = shape_of(p, tile).plan;
    if (int64_t(plan.units) * plan.unit_steps >= int64_t(1) << 31)
        return "too many filters and pixels to count the steps in 32 bits";
    return "";
}

size_t workspace(const ConvProblem& p) {
    TileSize tile;
    const WgradShape v = shape_of(p, tile);
    if (v.max_partials == 1) return 0;
    return sizeof(float) * v.groups * v.max_partials * v.filters *
           (size_t(v.rows) + (p.bias ? 1 : 0));
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
void launch_box(const ConvProblem& p, const ConvWgradArgs& a, const WgradShape& v, TileSize tile) {
    if (tile.bn == 256) return launch_tile<128, 256, kBox>(p, a, v);
    if (tile.bn == 192) return launch_tile<128, 192, kBox>(p, a, v);
    if (tile.bn == 64) return launch_tile<256, 64, kBox>(p, a, v);
    if (tile.bm == 256) return launch_tile<256, 128, kBox>(p, a, v);
    launch_tile<128, 128, kBox>(p, a, v);
}

void launch_wgrad(const ConvProblem& p, const ConvWgradArgs& a) {
    TileSize tile;
    WgradShape v = shape_of(p, tile);
    v.dw = a.dw;
    v.db = a.db;
    const bool direct = v.max_partials == 1;
    v.partials = direct ? a.dw : static_cast<float*>(a.workspace);
    v.sums = !p.bias ? nullptr : direct ? a.db : v.partials + v.partial_row(v.groups, 0) * v.rows;
    const int box = box_of(p.cg());
    if (box == 64)
        launch_box<64>(p, a, v, tile);
    else if (box == 32)
        launch_box<32>(p, a, v, tile);
    else
        launch_box<16>(p, a, v, tile);
    if (direct) return;
    const int64_t threads = std::max<int64_t>(int64_t(v.filters) * v.rows / 4, v.filters);
    launch("conv_wgrad.wgmma_sm90 sum",
           LaunchShape{dim3(static_cast<unsigned>(ceil_div(threads, 256)), v.groups), dim3(256),
                       a.stream}
               .with_pdl(),
           add_parts_kernel, v, tile);
}

}  // namespace

extern const ConvWgrad wgrad = {.name = "wgmma_sm90",
                                .refuses = refuses_wgrad,
                                .workspace = workspace,
                                .launch = launch_wgrad,
                                .sm = 90};

}  // namespace wt::conv_wgmma
