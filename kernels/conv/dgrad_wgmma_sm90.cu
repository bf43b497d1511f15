// Gradient of the convolution's input on Hopper: implicit GEMM with wgmma, for strides of 1. Rows
// are input pixels, columns channels, k taps x filters.
//
//   dx[h, w, c] = sum over r, s, k of dy[h + pad_h - r, w + pad_w - s, k] * w[k, r, s, c]
//
// So dx is itself a convolution, of dy with the filters turned round: im2col gathers dy with its
// window's corner at pad - (r - 1), offset o being tap r - 1 - o. The filters are not transposed in
// memory: for a tap they are [filter][channel] with channels contiguous, which wgmma reads as an
// MN-major operand. With drelu the layer's input x is read beside the store (its sign is the
// ReLU's), 64 columns ahead, the first before the products.
//
// Tiles by the model of kernels/conv/wgmma_tiles.h, 132 SMs:
//
//   layer                  k         batch 256
//   alexnet conv2    25 x 256   256x96:  729 x 1, 5 waves and 35 pairs, cut along k
//   alexnet conv3     9 x 384   128x256: 338 x 1, 2 waves and 37 pairs, cut along k
//   alexnet conv4     9 x 384   128x192: 338 x 2, 5 waves and 8 pairs, cut along k
//   alexnet conv5     9 x 256   256x128: 169 x 3, 3.9 of 4
//
// conv2 is bound by L2: each byte of dy serves 96 columns only, which asks for 50 bytes a clock of
// each SM at the full tensor rate; at 40 that is 0.8 of it. Predicted, not measured.
// Between two tiles of 128 x 256 a warp issues 546 instructions (make sass), two warps on each
// scheduler: about 1,100 clocks, predicted.
#include <array>

#include "kernels/conv/wgmma_tail.h"

namespace wt::conv_wgmma {

namespace {

struct DgradShape {
    Window window;               // of dy
    int pixels;                  // of dx
    int channels, all_channels;  // of a group; of an image
    int filters;                 // of all groups
    WorkSchedule work;
    const bf16* x;  // null: no gradient of a ReLU
};

// The signs of the layer's input where a thread's sums of one box of the store go: bf16 pairs, of
// rows g and g + 8.
template <int kAcross>
struct Mask {
    uint32_t pair[kAcross / 8][2];

    // Everything passes.
    __device__ __forceinline__ void fill() {
        unroll<kAcross / 8>([&](auto j) { pair[j][0] = pair[j][1] = 0x3f803f80; });
    }
    // x: at row 0 of images, in this thread's first column of the box, where `columns` are left;
    // its rows are `row` and 8 below, or what lies at `last` for those that do not exist.
    __device__ __forceinline__ void fetch(const bf16* x, int64_t pitch, int row, int last,
                                          int columns) {
        unroll<2>([&](auto half) {
            const bf16* from = x + min(row + half * 8, last) * pitch;
            unroll<kAcross / 8>([&](auto j) {  // channels come in eights
                pair[j][half] =
                    j * 8 < columns ? *reinterpret_cast<const uint32_t*>(from + j * 8) : 0;
            });
        });
    }
    // Two gradients as bf16, or 0 where the input was not above 0.
    __device__ __forceinline__ uint32_t apply(const Vec<2>& gradient, int j, int half) const {
        return pack_bf16(gradient) & ptx::greater_bf16x2(pair[j][half], 0);
    }
};

// One thread of warpgroup 0 starts all the block's copies, as many stages ahead as there are.
template <class Tile>
__device__ __forceinline__ void producer(SharedStorage<Tile>& shared, const CUtensorMap& dy,
                                         const CUtensorMap& w, const DgradShape& v) {
    using A = typename Tile::A;
    using B = typename Tile::B;
    PipelineProducer<Tile::kStages> pipeline{shared.pipeline};
    const int multicast = v.work.tiles.multicast,
              rank = multicast > 1 ? blockIdx.x % kMaxMulticast : 0;
    const int last_tap = v.window.r * v.window.s - 1;

    for_each_work(v.work, [&](const ConvWork& unit) {
        const Pixel corner = v.window.corner(unit.m * Tile::BM);
        const int channel = unit.n * Tile::BN;
        BoxCursor box = BoxCursor::at(v.window, unit.first * A::kBoxes, A::kAcross);
        for (int step = 0; step < unit.steps; ++step) {
            // Wait until the stage is free.
            typename Tile::Stage& stage = shared.stages[pipeline.stage()];
            ptx::Mbarrier& bar = pipeline.producer_acquire(Tile::kStageBytes);
            // Issue the copies of its patches, and of this block's share of its filters.
            for (int i = 0; i < A::kBoxes; ++i, box.advance(v.window, A::kAcross)) {
                load_patches(stage.a + i * A::kBoxBytes, dy, bar, v.window, unit.group, corner,
                             box);
                // The same filters at that tap: this many rows of each of B's boxes.
                const bool exists = box.r < v.window.r;
                const int tap = exists ? last_tap - (box.r * v.window.s + box.s) : 0;
                const int filter = exists ? unit.group * v.window.channels + box.c : v.filters;
                const auto copy_filters = [&](uint8_t* to, int j, int) {
                    if (multicast > 1)
                        ptx::tma_load_multicast(to, w, bar, multicast_mask(),
                                                channel + j * B::kAcross, tap, filter);
                    else
                        ptx::tma_load(to, w, bar, channel + j * B::kAcross, tap, filter);
                };
                copy_share<B>(stage.b + i * A::kAcross * B::kSpan, rank, multicast, copy_filters);
            }
            pipeline.advance();
        }
    });
    // the next kernel's blocks may take this one's place as it ends
    ptx::griddep_launch_dependents();
}

// A warpgroup multiplies its half of each tile's rows, and stores it.
template <class Tile>
__device__ __forceinline__ void consumer(SharedStorage<Tile>& shared, const CUtensorMap& dx,
                                         const DgradShape& v, int warpgroup) {
    using Store = TileStore<Tile>;
    constexpr int kBoxes = Tile::kHeight * Store::kChunks;
    const int warp = threadIdx.x / 32 - 4, lane = threadIdx.x % 32;
    PipelineConsumer<Tile::kStages> pipeline{shared.pipeline, v.work.tiles.multicast};
    Store store{shared.boxes[warp]};
    Mask<Store::kAcross> next_mask;
    if (!v.x) next_mask.fill();

    for_each_work<true>(v.work, [&](const ConvWork& unit) {
        const int warp_row = unit.m * Tile::BM + Tile::row_of(warpgroup, 0) + warp % 4 * kStoreRows,
                  column = unit.n * Tile::BN;
        const int thread_row = warp_row + lane / 4, thread_column = column + lane % 4 * 2;

        // Load the first mask, so that it arrives beside the products.
        const auto fetch_mask = [&](int box) {
            const int down = box / Store::kChunks * 64,
                      across = thread_column + box % Store::kChunks * Store::kAcross;
            next_mask.fetch(v.x + unit.group * v.channels + across, v.all_channels,
                            thread_row + down, v.pixels - 1, v.channels - across);
        };
        if (v.x) fetch_mask(0);

        // Wait for stages, multiply them.
        typename Tile::Accumulators acc;
        multiply<Tile>(shared.stages, pipeline, warpgroup, unit.steps, acc, v.work.lag);
        if (unit.m >= v.work.tiles.tiles_m) return;  // the second of a pair, behind the last tile
        if (unit.part >= 0) return store_part<Tile>(v.work, unit, warpgroup, acc);

        // Epilogue, on the way to dx, box by box; the next box's mask is loaded meanwhile.
        unroll<kBoxes>([&](auto box) {
            constexpr int h = box / Store::kChunks, chunk = box % Store::kChunks;
            const Mask<Store::kAcross> mask = next_mask;
            if (v.x && box + 1 < kBoxes) fetch_mask(box + 1);
            const auto apply_mask = [&](int half, int offset, const Vec<2>& pair) {
                return mask.apply(pair, offset % Store::kAcross / 8, half);
            };
            store.put(dx, acc[h], chunk, warp_row + h * 64, column, unit.group, apply_mask);
        });
    });
    store.drain();
}

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    dgrad_kernel(const __grid_constant__ CUtensorMap dy, const __grid_constant__ CUtensorMap w,
                 const __grid_constant__ CUtensorMap dx, const __grid_constant__ DgradShape v) {
    SharedStorage<Tile>& shared = shared_storage<SharedStorage<Tile>>();
    const int cluster_size = v.work.tiles.cluster_size();
    // Prefetch the descriptors, initialise the barriers, wait for the kernel before this one.
    begin_block(cluster_size, [&] {
        ptx::prefetch_tensor_map(dy);
        ptx::prefetch_tensor_map(w);
        shared.pipeline.init(Tile::kConsumerWarps * cluster_size);
    });

    // Move registers from the producer's warpgroup to the consumers', and take the roles.
    const int warpgroup = warpgroup_index();
    if (warpgroup == 0) {
        ptx::registers_decrease<Tile::kProducerRegisters>();
        if (warp_index() == 0 && ptx::elect_one()) producer(shared, dy, w, v);
    } else {
        ptx::registers_increase<Tile::kConsumerRegisters>();
        consumer(shared, dx, v, warpgroup - 1);
    }
    end_block(cluster_size);
}

// What the tail has of dx.
__global__ void __launch_bounds__(kAddThreads)
    dgrad_tail_kernel(const __grid_constant__ TailShape t, const bf16* x, bf16* dx) {
    ptx::griddep_wait();
    add_tail(t, [&](int64_t offset, int, const Vec<2>& sum) {
        const uint32_t mask =
            x ? ptx::greater_bf16x2(*reinterpret_cast<const uint32_t*>(x + offset), 0)
              : 0xffffffffu;
        *reinterpret_cast<uint32_t*>(dx + offset) = pack_bf16(sum) & mask;
    });
}

std::string refuses_dgrad(const ConvProblem& p, TileChoice only) {
    if (p.stride_h != 1 || p.stride_w != 1)
        return "strides of 1 only: a strided layer's gradient is no convolution of dy";
    if (p.kg() % 16)
        return "the filters of a group must be a multiple of 16: whole boxes of patches";
    if (p.cg() % 8)
        return "the channels of a group must be a multiple of 8: rows of whole 16 bytes";
    if (std::string why = refuses_any(p); !why.empty()) return why;
    return refuses_choice(only, kDgradTiles, dgrad_extents(p));
}

template <int BM, int BN, int kBox>
void launch_tile(const ConvProblem& p, const ConvDgradArgs& a, const TilePlan& plan) {
    using A = SharedOperand<BM, kDepth, Major::k, 2 * kBox>;
    using B = SharedOperand<BN, kDepth, Major::mn, 2 * store_columns(BN)>;
    using Tile = StoredTile<A, B>;
    const Extents e = dgrad_extents(p);
    DgradShape v{.window = {.rows = p.h,
                            .cols = p.w,
                            .stride_h = 1,
                            .stride_w = 1,
                            .lower_h = p.pad_h - (p.r - 1),
                            .lower_w = p.pad_w - (p.s - 1),
                            .r = p.r,
                            .s = p.s,
                            .channels = p.kg(),
                            .all_channels = p.k},
                 .pixels = static_cast<int>(e.rows),
                 .channels = p.cg(),
                 .all_channels = p.c,
                 .filters = p.k,
                 .work = work_of(plan, e, a.workspace),
                 .x = p.drelu ? static_cast<const bf16*>(a.x) : nullptr};
    const uint64_t cg = p.cg(), taps = uint64_t(p.r) * p.s;
    const LaunchShape shape =
        persistent_shape(v.work, Tile::kThreads, sizeof(SharedStorage<Tile>), a.stream,
                         reinterpret_cast<const void*>(dgrad_kernel<Tile>));
    launch("conv_dgrad.wgmma_sm90", shape, dgrad_kernel<Tile>,
           patches_map(a.dy, p.n, p.p(), p.q(), v.window, kBox, BM),
           tiled_map(DType::bf16, a.w, {cg, taps, uint64_t(p.k)}, {cg * 2, cg * taps * 2},
                     {B::kAcross, 1, kBox}, B::kSpan),
           store_map(a.dx, e.rows, p.cg(), p.groups, BN), v);
    if (!v.work.tail.units) return;
    const TailShape tail{
        .work = v.work, .tile = plan.tile, .rows = v.pixels, .columns = p.cg(), .pitch = p.c};
    launch("conv_dgrad.wgmma_sm90 tail", tail_launch(tail, a.stream), dgrad_tail_kernel, tail, v.x,
           static_cast<bf16*>(a.dx));
}

template <int kBox>
void launch_box(const ConvProblem& p, const ConvDgradArgs& a, const TilePlan& plan) {
    const TileSize t = plan.tile;
    if (t.bn == 256) return launch_tile<128, 256, kBox>(p, a, plan);
    if (t.bn == 192) return launch_tile<128, 192, kBox>(p, a, plan);
    if (t.bn == 96) return launch_tile<256, 96, kBox>(p, a, plan);
    if (t.bn == 64) return launch_tile<256, 64, kBox>(p, a, plan);
    if (t.bm == 256) return launch_tile<256, 128, kBox>(p, a, plan);
    launch_tile<128, 128, kBox>(p, a, plan);
}

void launch_dgrad(const ConvProblem& p, const ConvDgradArgs& a, TileChoice only) {
    const TilePlan plan = choose_tile(kDgradTiles, dgrad_extents(p), planned_sms(), only);
    if (box_of(p.kg()) == 64) return launch_box<64>(p, a, plan);
    launch_box<16>(p, a, plan);  // no network here has such a layer
}

template <TileChoice kOnly>
ConvDgrad row(const char* name) {
    return {
        .name = name,
        .refuses = [](const ConvProblem& p) { return refuses_dgrad(p, kOnly); },
        .workspace =
            [](const ConvProblem& p) {
                return choose_tile(kDgradTiles, dgrad_extents(p), planned_sms(), kOnly).workspace();
            },
        .launch = [](const ConvProblem& p, const ConvDgradArgs& a) { launch_dgrad(p, a, kOnly); },
        .sm = 90};
}

}  // namespace

extern const ConvDgrad dgrad = row<TileChoice{}>("wgmma_sm90");

// The same with a tile of kDgradTiles, and as TileChoice has it.
extern const std::array<ConvDgrad, 10> dgrad_fixed{
    row<TileChoice{.tile = {128, 256}}>("wgmma_128x256_sm90"),
    row<TileChoice{.tile = {256, 128}}>("wgmma_256x128_sm90"),
    row<TileChoice{.tile = {128, 192}}>("wgmma_128x192_sm90"),
    row<TileChoice{.tile = {128, 128}}>("wgmma_128x128_sm90"),
    row<TileChoice{.tile = {256, 96}}>("wgmma_256x96_sm90"),
    row<TileChoice{.tile = {256, 64}}>("wgmma_256x64_sm90"),
    row<TileChoice{.multicast = 1}>("wgmma_single_sm90"),
    row<TileChoice{.tail = TailChoice::whole}>("wgmma_whole_sm90"),
    row<TileChoice{.tail = TailChoice::split}>("wgmma_split_sm90"),
    row<TileChoice{.level = true}>("wgmma_level_sm90")};

}  // namespace wt::conv_wgmma
