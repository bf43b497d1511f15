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
// The bias gradient is the sum of dy over pixels. All pairs of a column of tiles have the same dy
// in shared memory, so they share the work: pair p of P adds up the stages whose number is p modulo
// P with ordinary loads beside the products, and each of its two blocks half of their pixels. A
// stage's half is 16 KB, 128 clocks of shared memory, and some 100 instructions of a consumer's
// warp; 1 stage in 9 (conv3) to 14. If each of these took 128 clocks longer, a block would lose 1 or
// 2 % of its time; were it all done by one row of tiles, each stage of these would be 256 clocks
// longer, a quarter to a third, and so the kernel, whose clusters have equal shares.
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
    TileSize tile;
    StreamKPlan plan;  // of the units, pairs of tiles, over the clusters
    int max_partials;  // of a unit
    float* partials;   // [group, n, m of a tile][max_partials][a tile as store_partial has it]
    float* sums;       // [group][m of a pair's tiles][max_partials][filters]; null: not wanted
    float *dw, *db;

    __host__ __device__ int pairs() const { return (tiles_m + multicast - 1) / multicast; }
    __host__ __device__ int unit_of(int group, int n, int m) const {
        return (group * tiles_n + n) * pairs() + m / multicast;
    }
    __host__ __device__ int tiles() const { return groups * tiles_n * tiles_m; }
    // Where partial sums number i of tile t of all tiles lie.
    __host__ __device__ int64_t partial_at(int t, int i) const {
        return (int64_t(t) * max_partials + i) * tile.bm * tile.bn;
    }
    // Where the sums of dy number i of the blocks with tiles m of a group lie.
    __host__ __device__ int64_t sums_at(int group, int m, int i) const {
        return ((int64_t(group) * pairs() * multicast + m) * max_partials + i) * filters;
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

// Adds up dy over some of a stage's pixels: each consumer warp takes rows of one box, 4 at a time,
// a lane 8 filters.
template <class B>
struct DySums {
    static constexpr int kWarps = 8 / B::kBoxes;  // to a box
    float sum[8];

    __device__ __forceinline__ void clear() {
        unroll<8>([&](auto i) { sum[i] = 0; });
    }
    // Part `rank` of `parts` (1 or 2) of the pixels.
    __device__ __forceinline__ void add(const uint8_t* dy, int rank, int parts) {
        const int warp = threadIdx.x / 32 - 4, lane = threadIdx.x % 32;
        if (warp < kWarps * B::kBoxes) {
            const uint8_t* box = dy + warp / kWarps * B::kBoxBytes;
            const int first = rank * (kDepth / 2), end = first + kDepth / parts;
            for (int row = first + warp % kWarps * 4 + lane / 8; row < end; row += kWarps * 4) {
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

// Stores a consumer's sums of a tile: of each 64 rows and 8 columns a thread's four accumulators,
// side by side. The second of a last pair may have no tile, and a last tile no rows.
template <class Tile>
__device__ __forceinline__ void store_partial(const WgradShape& v, const WorkTile& tile,
                                              int warpgroup,
                                              const typename Tile::Accumulators& acc) {
    constexpr int kQuads = Tile::BN / 8 * 128;  // of 64 rows
    const int t = (tile.group * v.tiles_n + tile.n) * v.tiles_m + tile.m;
    float* to = v.partials + v.partial_at(t, tile.partial) +
                (warpgroup * Tile::kHeight * kQuads + threadIdx.x % 128) * 4;
    unroll<Tile::kHeight>([&](auto h) {
        if (tile.m * Tile::BM + Tile::row_of(warpgroup, h) >= v.rows) return;
        unroll<Tile::BN / 8>([&](auto j) {
            Vec<4> quad;
            unroll<4>([&](auto i) { quad.set(i, acc[h][4 * j + i]); });
            store(to + (h * kQuads + j * 128) * 4, quad);
        });
    });
}

// A warpgroup multiplies its half of each tile's rows, adds up its share of dy, and stores both.
template <class Tile>
__device__ __forceinline__ void consumer(WgradStorage<Tile>& shared, const WgradShape& v,
                                         int warpgroup) {
    PipelineConsumer<Tile::kStages> pipeline{shared.pipeline, v.multicast};
    DySums<typename Tile::B> sums;
    const int pairs = v.pairs(), rank = static_cast<int>(blockIdx.x) % v.multicast;

    for_each_work_tile(v, [&](const WorkTile& tile) {
        // Wait for stages, multiply them; meanwhile add up dy of every step that is this pair's,
        // number m / multicast modulo the pairs.
        int others = 0x7fffffff;  // steps until the next of this pair's
        if (v.sums) others = (tile.m / v.multicast + pairs - tile.first % pairs) % pairs;
        sums.clear();
        typename Tile::Accumulators acc;
        const auto add_dy = [&](int stage) {
            if (others-- > 0) return;
            others = pairs - 1;
            sums.add(shared.stages[stage].b, rank, v.multicast);
        };
        multiply<Tile>(shared.stages, pipeline, warpgroup, tile.steps, acc, add_dy);

        // Store the sums of dy, then the products' partial sums.
        const int filter = tile.n * Tile::BN;
        if (v.sums)
            sums.put(shared.sums, v.sums + v.sums_at(tile.group, tile.m, tile.partial) + filter,
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
        if (threadIdx.x == 0) producer(shared, x, dy, v);
    } else {
        ptx::registers_increase<Tile::kConsumerRegisters>();
        consumer(shared, v, warpgroup - 1);
    }
    end_block(v.multicast);
}

// ---- the second kernel --------------------------------------------------------------------------

constexpr int kAddThreads = 256, kAddWarps = kAddThreads / 32;
struct AddStorage {
    float sum[kAddWarps][32];
};

// A thread for what a consumer's thread has of 8 columns: two rows of two columns. Block number
// `part` of those of tile t.
__device__ __forceinline__ void add_products(const WgradShape& v, int t, int part) {
    const int column = t / v.tiles_m, m = t - column * v.tiles_m, group = column / v.tiles_n,
              n = column - group * v.tiles_n;
    const int quad = part * kAddThreads + static_cast<int>(threadIdx.x);
    const int rows = quad / (16 * v.tile.bn), thread = quad % 128, lane = thread % 32;
    const int row = m * v.tile.bm + rows * 64 + thread / 32 * 16 + lane / 4,
              filter = n * v.tile.bn + (quad / 128 - rows * (v.tile.bn / 8)) * 8 + lane % 4 * 2;
    if (row >= v.rows || filter >= v.filters) return;  // rows come in sixteens, filters in eights
    const int count = v.plan.partials(v.unit_of(group, n, m));
    const float* from = v.partials + v.partial_at(t, 0) + quad * 4;
    const int64_t step = v.partial_at(0, 1);
    Vec<4> sum = load<4>(from);
    for (int s = 1; s < count; ++s) sum = sum + load<4>(from + s * step);
    float* to = v.dw + (int64_t(group) * v.filters + filter) * v.rows + row;
    to[0] = sum[0];
    to[v.rows] = sum[1];
    to[8] = sum[2];
    to[v.rows + 8] = sum[3];
}

// The sums of dy of 32 filters of a group: warps take the blocks' sums by turns, then their own are
// added in order.
__device__ __forceinline__ void add_sums_of_dy(const WgradShape& v, int group, int first_filter) {
    AddStorage& shared = shared_storage<AddStorage>();
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, filter = first_filter + lane,
              n = filter / v.tile.bn, blocks = v.pairs() * v.multicast;
    float sum = 0;
    if (filter < v.filters)
        for (int m = warp; m < blocks; m += kAddWarps) {
            const int count = v.plan.partials(v.unit_of(group, n, m));
            const float* from = v.sums + v.sums_at(group, m, 0) + filter;
            for (int s = 0; s < count; ++s) sum += from[int64_t(s) * v.filters];
        }
    shared.sum[warp][lane] = sum;
    __syncthreads();
    if (warp > 0 || filter >= v.filters) return;
    sum = 0;
    for (int w = 0; w < kAddWarps; ++w) sum += shared.sum[w][lane];
    v.db[int64_t(group) * v.filters + filter] = sum;
}

// Adds up the partial sums, each tile's in the order of k, and puts them where w has them; the last
// blocks those of dy.
__global__ void __launch_bounds__(kAddThreads)
    add_parts_kernel(const __grid_constant__ WgradShape v) {
    ptx::griddep_wait();
    const int block = static_cast<int>(blockIdx.x),
              of_tile = v.tile.bm * v.tile.bn / 4 / kAddThreads, t = block / of_tile;
    if (t < v.tiles()) return add_products(v, t, block - t * of_tile);
    const int i = block - v.tiles() * of_tile, of_group = (v.filters + 31) / 32,
              group = i / of_group;
    add_sums_of_dy(v, group, (i - group * of_group) * 32);
}

// Chooses the tile with the least work, padding included, and derives everything that follows from
// it.
WgradShape shape_of(const ConvProblem& p) {
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
        v.tile = t;
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
    const StreamKPlan plan = shape_of(p).plan;
    if (int64_t(plan.units) * plan.unit_steps >= int64_t(1) << 31)
        return "too many filters and pixels to count the steps in 32 bits";
    return "";
}

size_t workspace(const ConvProblem& p) {
    const WgradShape v = shape_of(p);
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

void launch_wgrad(const ConvProblem& p, const ConvWgradArgs& a) {
    WgradShape v = shape_of(p);
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

}  // namespace

extern const ConvWgrad wgrad = {.name = "wgmma_sm90",
                                .refuses = refuses_wgrad,
                                .workspace = workspace,
                                .launch = launch_wgrad,
                                .sm = 90};

}  // namespace wt::conv_wgmma
