// Convolution forward on Hopper: implicit GEMM with wgmma. Rows are output pixels, columns filters,
// k taps x channels. One thread starts copies (TMA im2col for the patches, a tiled map for the
// filters, half of which each of a pair of blocks sends to both), two warpgroups multiply, and
// their sums leave through shared memory by TMA with bias and ReLU. Blocks are persistent: the
// copies for the next tile are under way while this one's are stored.
//
// Tiles by the model of kernels/conv/wgmma_tiles.h, 132 SMs (M = pixels / rows of a tile, x tiles
// along n; waves of 66 pairs):
//
//   layer                k         batch 256
//   alexnet conv2   25 x  96   128x256: 1458 x 1, 11 waves and 3 pairs, cut along k
//   alexnet conv3    9 x 256   256x128:  169 x 3, 3.9 of 4 waves
//   alexnet conv4    9 x 384   128x192:  338 x 2, 5 waves and 8 pairs, cut along k
//   alexnet conv5    9 x 384   128x256:  338 x 1, 2 waves and 37 pairs, cut along k
//   owt     conv2   25 x  64   128x192: 1458 x 1, 11 waves and 3 pairs, cut along k
//
// Predicted, not measured, of 790 TFLOP/s: conv2 0.95, conv3 0.89, conv4 0.93, conv5 0.86 (floors
// against bin/summary alexnet --steps --predict h200). Between two tiles of 128 x 256 a warp issues
// 490 instructions (make sass), two warps on each scheduler: about 1,000 clocks and what they wait
// for, the time of one stage, beside which the other consumer multiplies (Lag in wgmma_tile.h).
#include <array>

#include "kernels/conv/wgmma_tail.h"

namespace wt::conv_wgmma {

namespace {

struct FpropShape {
    Window window;  // of x
    int filters;    // of a group
    WorkSchedule work;
    const float* bias;  // null: none
    uint32_t least;     // two bf16 below which no output lies: 0 with ReLU, else -infinity

    // Two neighbouring outputs.
    __device__ __forceinline__ uint32_t output(const Vec<2>& sum, const Vec<2>& bias_pair) const {
        return ptx::max_nan_bf16x2(pack_bf16(sum + bias_pair), least);
    }
};

// The biases of a thread's columns of one box of the store, in pairs.
template <int kAcross>
struct Bias {
    Vec<2> pair[kAcross / 8];

    // bias: of this thread's first column of the box, where `columns` are left.
    __device__ __forceinline__ void fetch(const float* bias, int columns) {
        unroll<kAcross / 8>([&](auto j) {  // filters come in eights
            pair[j] = j * 8 < columns ? load<2>(bias + j * 8) : splat<2>(0);
        });
    }
};

// One thread of warpgroup 0 starts all the block's copies, as many stages ahead as there are.
template <class Tile>
__device__ __forceinline__ void producer(SharedStorage<Tile>& shared, const CUtensorMap& x,
                                         const CUtensorMap& w, const FpropShape& v) {
    using A = typename Tile::A;
    using B = typename Tile::B;
    PipelineProducer<Tile::kStages> pipeline{shared.pipeline};
    const int multicast = v.work.tiles.multicast,
              rank = multicast > 1 ? blockIdx.x % kMaxMulticast : 0;

    for_each_work(v.work, [&](const ConvWork& unit) {
        const Pixel corner = v.window.corner(unit.m * Tile::BM);
        const int filter = unit.group * v.filters + unit.n * Tile::BN;
        BoxCursor box = BoxCursor::at(v.window, unit.first * A::kBoxes, A::kAcross);
        for (int step = unit.first; step < unit.first + unit.steps; ++step) {
            // Wait until the stage is free.
            typename Tile::Stage& stage = shared.stages[pipeline.stage()];
            ptx::Mbarrier& bar = pipeline.producer_acquire(Tile::kStageBytes);
            // Issue the copies of its patches, and of this block's share of its filters.
            for (int i = 0; i < A::kBoxes; ++i, box.advance(v.window, A::kAcross))
                load_patches(stage.a + i * A::kBoxBytes, x, bar, v.window, unit.group, corner, box);
            const auto copy_filters = [&](uint8_t* to, int i, int down) {
                const int k = step * kDepth + i * B::kAcross;
                if (multicast > 1)
                    ptx::tma_load_multicast(to, w, bar, multicast_mask(), k, filter + down);
                else
                    ptx::tma_load(to, w, bar, k, filter + down);
            };
            copy_share<B>(stage.b, rank, multicast, copy_filters);
            pipeline.advance();
        }
    });
    // the next kernel's blocks may take this one's place as it ends
    ptx::griddep_launch_dependents();
}

// A warpgroup multiplies its half of each tile's rows, and stores it.
template <class Tile>
__device__ __forceinline__ void consumer(SharedStorage<Tile>& shared, const CUtensorMap& y,
                                         const FpropShape& v, int warpgroup) {
    using Store = TileStore<Tile>;
    constexpr int kBoxes = Tile::kHeight * Store::kChunks;
    const int warp = threadIdx.x / 32 - 4, lane = threadIdx.x % 32;
    PipelineConsumer<Tile::kStages> pipeline{shared.pipeline, v.work.tiles.multicast};
    Store store{shared.boxes[warp]};

    for_each_work<true>(v.work, [&](const ConvWork& unit) {
        // Load the first box's biases, so that they arrive beside the products.
        const int column = unit.n * Tile::BN, thread_column = column + lane % 4 * 2;
        const float* biases = v.bias + unit.group * v.filters + thread_column;
        Bias<Store::kAcross> next_bias;
        const auto fetch_bias = [&](int box) {
            const int across = box % Store::kChunks * Store::kAcross;
            next_bias.fetch(biases + across, v.bias ? v.filters - thread_column - across : 0);
        };
        fetch_bias(0);

        // Wait for stages, multiply them.
        typename Tile::Accumulators acc;
        multiply<Tile>(shared.stages, pipeline, warpgroup, unit.steps, acc, v.work.lag);
        if (unit.m >= v.work.tiles.tiles_m) return;  // the second of a pair, behind the last tile
        if (unit.part >= 0) return store_part<Tile>(v.work, unit, warpgroup, acc);

        // Epilogue, on the way to y, box by box; the next box's biases are loaded meanwhile.
        const int warp_row = unit.m * Tile::BM + Tile::row_of(warpgroup, 0) + warp % 4 * kStoreRows;
        unroll<kBoxes>([&](auto box) {
            constexpr int h = box / Store::kChunks, chunk = box % Store::kChunks;
            const Bias<Store::kAcross> bias = next_bias;
            if (box + 1 < kBoxes) fetch_bias(box + 1);
            const auto add_bias_relu = [&](int, int offset, const Vec<2>& pair) {
                return v.output(pair, bias.pair[offset % Store::kAcross / 8]);
            };
            store.put(y, acc[h], chunk, warp_row + h * 64, column, unit.group, add_bias_relu);
        });
    });
    store.drain();
}

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    fprop_kernel(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap w,
                 const __grid_constant__ CUtensorMap y, const __grid_constant__ FpropShape v) {
    SharedStorage<Tile>& shared = shared_storage<SharedStorage<Tile>>();
    const int cluster_size = v.work.tiles.cluster_size();
    // Prefetch the descriptors, initialise the barriers, wait for the kernel before this one.
    begin_block(cluster_size, [&] {
        ptx::prefetch_tensor_map(x);
        ptx::prefetch_tensor_map(w);
        shared.pipeline.init(Tile::kConsumerWarps * cluster_size);
    });

    // Move registers from the producer's warpgroup to the consumers', and take the roles.
    const int warpgroup = warpgroup_index();
    if (warpgroup == 0) {
        ptx::registers_decrease<Tile::kProducerRegisters>();
        if (warp_index() == 0 && ptx::elect_one()) producer(shared, x, w, v);
    } else {
        ptx::registers_increase<Tile::kConsumerRegisters>();
        consumer(shared, y, v, warpgroup - 1);
    }
    end_block(cluster_size);
}

// The outputs of the tail.
__global__ void __launch_bounds__(kAddThreads)
    fprop_tail_kernel(const __grid_constant__ TailShape t, const __grid_constant__ FpropShape v,
                      bf16* y) {
    ptx::griddep_wait();
    add_tail(t, [&](int64_t offset, int column, const Vec<2>& sum) {
        const Vec<2> bias = v.bias ? load<2>(v.bias + column) : splat<2>(0);
        *reinterpret_cast<uint32_t*>(y + offset) = v.output(sum, bias);
    });
}

std::string refuses_fprop(const ConvProblem& p, TileChoice only) {
    if (std::string why = refuses_x(p); !why.empty()) return why;
    return refuses_choice(only, kFpropTiles, fprop_extents(p));
}

template <int BM, int BN, int kBox>
void launch_tile(const ConvProblem& p, const ConvFpropArgs& a, const TilePlan& plan) {
    using A = SharedOperand<BM, kDepth, Major::k, 2 * kBox>;
    using B = SharedOperand<BN, kDepth, Major::k>;
    using Tile = StoredTile<A, B>;
    const Extents e = fprop_extents(p);
    FpropShape v{.window = input_window(p),
                 .filters = p.kg(),
                 .work = work_of(plan, e, a.workspace),
                 .bias = p.bias ? a.bias : nullptr,
                 .least = p.relu ? 0 : 0xff80ff80};
    if (reinterpret_cast<uintptr_t>(v.bias) % sizeof(float2))
        throw Error("conv_fprop.wgmma_sm90: the bias must start on 8 bytes");
    const uint64_t taps = uint64_t(p.r) * p.s * p.cg();
    const LaunchShape shape =
        persistent_shape(v.work, Tile::kThreads, sizeof(SharedStorage<Tile>), a.stream,
                         reinterpret_cast<const void*>(fprop_kernel<Tile>));
    launch("conv_fprop.wgmma_sm90", shape, fprop_kernel<Tile>,
           patches_map(a.x, p.n, p.h, p.w, v.window, kBox, BM),
           tiled_map(DType::bf16, a.w, {taps, uint64_t(p.k)}, {taps * 2},
                     {B::kAcross, unsigned(BN / plan.multicast)}, B::kSpan),
           store_map(a.y, e.rows, p.kg(), p.groups, BN), v);
    if (!v.work.tail.units) return;
    const TailShape tail{.work = v.work,
                         .tile = plan.tile,
                         .rows = static_cast<int>(e.rows),
                         .columns = p.kg(),
                         .pitch = p.k};
    launch("conv_fprop.wgmma_sm90 tail", tail_launch(tail, a.stream), fprop_tail_kernel, tail, v,
           static_cast<bf16*>(a.y));
}

template <int kBox>
void launch_box(const ConvProblem& p, const ConvFpropArgs& a, const TilePlan& plan) {
    const TileSize t = plan.tile;
    if (t.bn == 256) return launch_tile<128, 256, kBox>(p, a, plan);
    if (t.bn == 192) return launch_tile<128, 192, kBox>(p, a, plan);
    if (t.bn == 64) return launch_tile<256, 64, kBox>(p, a, plan);
    if (t.bm == 256) return launch_tile<256, 128, kBox>(p, a, plan);
    launch_tile<128, 128, kBox>(p, a, plan);
}

void launch_fprop(const ConvProblem& p, const ConvFpropArgs& a, TileChoice only) {
    const TilePlan plan = choose_tile(kFpropTiles, fprop_extents(p), planned_sms(), only);
    const int box = box_of(p.cg());
    if (box == 64) return launch_box<64>(p, a, plan);
    if (box == 32) return launch_box<32>(p, a, plan);
    launch_box<16>(p, a, plan);
}

template <TileChoice kOnly>
ConvFprop row(const char* name) {
    return {
        .name = name,
        .refuses = [](const ConvProblem& p) { return refuses_fprop(p, kOnly); },
        .workspace =
            [](const ConvProblem& p) {
                return choose_tile(kFpropTiles, fprop_extents(p), planned_sms(), kOnly).workspace();
            },
        .launch = [](const ConvProblem& p, const ConvFpropArgs& a) { launch_fprop(p, a, kOnly); },
        .sm = 90};
}

}  // namespace

extern const ConvFprop fprop = row<TileChoice{}>("wgmma_sm90");

// The same with a tile of kFpropTiles, and as TileChoice has it.
extern const std::array<ConvFprop, 9> fprop_fixed{
    row<TileChoice{.tile = {128, 256}}>("wgmma_128x256_sm90"),
    row<TileChoice{.tile = {256, 128}}>("wgmma_256x128_sm90"),
    row<TileChoice{.tile = {128, 192}}>("wgmma_128x192_sm90"),
    row<TileChoice{.tile = {128, 128}}>("wgmma_128x128_sm90"),
    row<TileChoice{.tile = {256, 64}}>("wgmma_256x64_sm90"),
    row<TileChoice{.multicast = 1}>("wgmma_single_sm90"),
    row<TileChoice{.tail = TailChoice::whole}>("wgmma_whole_sm90"),
    row<TileChoice{.tail = TailChoice::split}>("wgmma_split_sm90"),
    row<TileChoice{.level = true}>("wgmma_level_sm90")};

}  // namespace wt::conv_wgmma
