// Gradient of the convolution's input on Hopper by views of dy instead of im2col, for layers whose
// few channels make im2col wait for the L2 cache (dgrad_views.h says how and what is predicted).
// Rows are positions, columns channels (or the other way round, for 64 channels), k filters x taps.
// The filters are an MN-major operand, as in dgrad_wgmma_sm90.cu, one tap of 64 filters a stage,
// shared by a pair of blocks.
//
// Two threads copy, of warps 0 and 1: filters, as many stages ahead as there are, and dy, of which
// 25 taps take long enough for two stages. dx's rows are not evenly spaced among the positions:
// a warp brings 16 of them through shared memory and writes whole lines of those that exist.
#include "kernels/conv/dgrad_views_store.h"

namespace wt::conv_views {

namespace {

template <class Dy_, int BN_>
struct ViewsStorage {
    using Dy = Dy_;
    static constexpr int BN = BN_;
    using W = SharedOperand<BN, kDepth, Major::mn, 2 * store_columns(BN)>;
    // Each consumer warp has 16 rows on the way to dx; where positions are columns its warpgroup
    // writes all 128 before any warp sends its own.
    static constexpr int kRowBlocks = positions_across(BN) ? 16 : 8,
                         kRowBytes = RowStore<BN>::kBytes, kDyStages = 2,
                         kStages = stages_beside(W::kBytes,
                                                 kDyStages*Dy::kBytes + kRowBlocks * kRowBytes);
    static_assert(views_lag(BN) <= kStages / 2);
    alignas(1024) uint8_t dy[kDyStages][Dy::kBytes];
    alignas(1024) uint8_t w[kStages][W::kBytes];
    alignas(16) uint8_t rows[kRowBlocks][kRowBytes];
    Pipeline<kDyStages> dy_pipeline;
    Pipeline<kStages> w_pipeline;
};

// The loop over a block's work, the same in every role: calls f(item) for each of items first ...
// end - 1 of the schedule that are this block's. `first` is 0 or where the halves begin.
template <int BN, class F>
__device__ __forceinline__ void for_each_item(const ViewsSchedule& s, int first, int end, F&& f) {
    const int size = s.tiles.multicast, rank = static_cast<int>(blockIdx.x) % size;
    for (int i = first + static_cast<int>(blockIdx.x) / size; i < end; i += s.clusters) {
        const int of_halves = i - s.whole;
        const bool half = of_halves >= 0;
        const WorkUnit unit = s.tiles.unit(half ? s.whole + of_halves / 2 : i, rank);
        f(WorkItem{.first = unit.m * kTileRows + (half ? of_halves % 2 * (kTileRows / 2) : 0),
                   .column = unit.n * BN,
                   .group = unit.group});
    }
}

// One thread of warp 0 copies dy: an item's positions and what its taps reach, 64 filters a stage.
template <class Storage>
__device__ __forceinline__ void produce_dy(Storage& shared, const CUtensorMap& dy,
                                           const ViewsShape& v) {
    using Dy = typename Storage::Dy;
    PipelineProducer<Storage::kDyStages> pipeline{shared.dy_pipeline};
    for_each_item<Storage::BN>(v.schedule, 0, v.schedule.items(), [&](const WorkItem& item) {
        const Pixel corner = v.window.corner(item.first);
        for (int filter = 0; filter < v.filters; filter += kDepth, pipeline.advance()) {
            ptx::Mbarrier& bar = pipeline.producer_acquire(v.copied * Dy::kPitch * Dy::kBoxes);
            uint8_t* to = shared.dy[pipeline.stage()];
#pragma unroll 1
            for (int i = 0; i < Dy::kBoxes; ++i)
                ptx::tma_load_im2col(to + i * Dy::kBoxBytes, dy, bar,
                                     item.group * v.filters + filter + i * Dy::kAcross, corner.col,
                                     corner.row, corner.n, 0, 0);
        }
    });
}

// One thread of warp 1 copies the filters: this block's share of a tap of 64 filters a stage.
template <class Storage>
__device__ __forceinline__ void produce_w(Storage& shared, const CUtensorMap& w,
                                          const ViewsShape& v) {
    using W = typename Storage::W;
    PipelineProducer<Storage::kStages> pipeline{shared.w_pipeline};
    const int multicast = v.schedule.tiles.multicast,
              rank = multicast > 1 ? blockIdx.x % kMaxMulticast : 0;
    for_each_item<Storage::BN>(v.schedule, 0, v.schedule.items(), [&](const WorkItem& item) {
        for (int filter = 0; filter < v.filters; filter += kDepth)
            // The filters are turned round: the first view is the last tap's.
            for (int tap = v.positions.taps() - 1; tap >= 0; --tap, pipeline.advance()) {
                ptx::Mbarrier& bar = pipeline.producer_acquire(W::kBytes);
                const auto copy = [&](uint8_t* to, int i, int) {
                    const int channel = item.column + i * W::kAcross,
                              row = item.group * v.filters + filter;
                    if (multicast > 1)
                        ptx::tma_load_multicast(to, w, bar, multicast_mask(), channel, tap, row);
                    else
                        ptx::tma_load(to, w, bar, channel, tap, row);
                };
                copy_share<W>(shared.w[pipeline.stage()], rank, multicast, copy);
            }
    });
    // the next kernel's blocks may take this one's place as it ends
    ptx::griddep_launch_dependents();
}

// Multiplies and stores an item: kHeight x 64 positions of each consumer.
template <int kHeight, class Storage>
__device__ __forceinline__ void compute_item(Storage& shared, const ViewsShape& v,
                                             PipelineConsumer<Storage::kDyStages>& dy,
                                             PipelineConsumer<Storage::kStages>& w, int warpgroup,
                                             const WorkItem& item) {
    using Dy = typename Storage::Dy;
    using W = typename Storage::W;
    constexpr int BN = Storage::BN;
    constexpr bool kAcross = positions_across(BN);
    const int warp = threadIdx.x / 32 - 4, first = warpgroup * kHeight * 64;
    // The first signs arrive beside the products. Either way a warp sends off 16 of each 64
    // positions.
    RowStore<BN> store(v, item);
    const int warp_position = item.first + first + warp % 4 * 16;
    store.seek(warp_position);

    float acc[kAcross ? 1 : kHeight][kAcross ? kHeight * 32 : BN / 2];
    int w_before = 0, dy_before = 0;  // the stages whose products may still be under way
    const int taps = v.positions.taps(), steps = v.filters / kDepth * taps;
    const Lag lag(steps >= Storage::kStages ? v.lag : 0, warpgroup);
    lag.begin();
    uint64_t view = 0;
    for (int step = 0, tap = 0, s = 0; step < steps; ++step) {
        if (tap == 0) {
            dy.consumer_wait();
            view = Dy::descriptor(shared.dy[dy.stage()], first);
        }
        w.consumer_wait();
        const uint64_t filters = W::descriptor(shared.w[w.stage()], 0);
        ptx::wgmma_fence();
        if constexpr (kAcross)
            ptx::wgmma_bf16_tile<kHeight * 64, true, false, ViewAcrossSteps<Dy, W>>(acc, filters,
                                                                                    view, step > 0);
        else
            ptx::wgmma_bf16_tile<BN, false, true, ViewSteps<Dy, W, kHeight>>(acc, view, filters,
                                                                             step > 0);
        ptx::wgmma_commit();
        lag.issued(step);
        ptx::wgmma_wait<1>();
        if (step > 0) {
            w.consumer_release(w_before);
            if (tap == 0) dy.consumer_release(dy_before);
        }
        w_before = w.stage();
        w.advance();
        // The next tap's view, or the next 64 filters.
        view = ptx::wgmma_advance(view, Dy::kPitch);
        if (++s == v.positions.s) {
            s = 0;
            view = ptx::wgmma_advance(view, (v.positions.cols - v.positions.s) * Dy::kPitch);
        }
        if (++tap == taps) {
            tap = 0;
            dy_before = dy.stage();
            dy.advance();
        }
    }
    ptx::wgmma_wait<0>();
    unroll<kAcross ? 1 : kHeight>([&](auto h) { ptx::wgmma_keep(acc[h]); });
    w.consumer_release(w_before);
    dy.consumer_release(dy_before);

    // Through shared memory, on to dx.
    if constexpr (kAcross) {
        sync_warpgroup(warpgroup);  // the rows before are sent
        write_columns<BN, kHeight * 64>(shared.rows[warpgroup * 8], acc[0]);
        sync_warpgroup(warpgroup);
    }
    unroll<kHeight>([&](auto h) {
        uint8_t* rows = shared.rows[kAcross ? warpgroup * 8 + h * 4 + warp % 4 : warp];
        if constexpr (!kAcross) {
            __syncwarp();  // the rows before are sent
            write_rows<BN>(rows, acc[h]);
            __syncwarp();
        }
        store.send(rows);
        if (h + 1 < kHeight) store.seek(warp_position + (h + 1) * 64);
    });
}

template <class Storage>
__global__ void __launch_bounds__(384, 1) dgrad_views_kernel(const __grid_constant__ CUtensorMap dy,
                                                             const __grid_constant__ CUtensorMap w,
                                                             const __grid_constant__ ViewsShape v) {
    Storage& shared = shared_storage<Storage>();
    const int cluster_size = v.schedule.tiles.cluster_size();
    // Prefetch the descriptors, initialise the barriers, wait for the kernel before this one.
    begin_block(cluster_size, [&] {
        ptx::prefetch_tensor_map(dy);
        ptx::prefetch_tensor_map(w);
        shared.dy_pipeline.init(8);
        shared.w_pipeline.init(8 * cluster_size);
    });

    // Move registers from the producers' warpgroup to the consumers', and take the roles.
    const int warpgroup = warpgroup_index();
    if (warpgroup == 0) {
        ptx::registers_decrease<40>();
        const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
        if (warp == 0) {
            if (ptx::elect_one()) produce_dy(shared, dy, v);
        } else if (warp == 1) {
            if (ptx::elect_one()) produce_w(shared, w, v);
        }
    } else {
        ptx::registers_increase<232>();
        PipelineConsumer<Storage::kDyStages> dy_stages{shared.dy_pipeline};
        PipelineConsumer<Storage::kStages> w_stages{shared.w_pipeline, v.schedule.tiles.multicast};
        // One loop for either height: in one branch or the other of one loop ptxas spills.
        const int whole = v.schedule.whole;
        for_each_item<Storage::BN>(v.schedule, 0, whole, [&](const WorkItem& item) {
            compute_item<2>(shared, v, dy_stages, w_stages, warpgroup - 1, item);
        });
        for_each_item<Storage::BN>(
            v.schedule, whole, v.schedule.items(), [&](const WorkItem& item) {
                compute_item<1>(shared, v, dy_stages, w_stages, warpgroup - 1, item);
            });
    }
    end_block(cluster_size);
}

template <bool kSwizzled, int BN>
void launch_width(const ConvProblem& p, const ConvDgradArgs& a, bool level) {
    using Storage = ViewsStorage<DyViews<kSwizzled>, BN>;
    using W = typename Storage::W;
    static_assert(Storage::kStages >= 2 && sizeof(Storage) <= kSharedPerBlock);
    const Positions at(p);
    const ViewsShape v{.positions = at,
                       .window = {.rows = at.rows,
                                  .cols = at.cols,
                                  .stride_h = 1,
                                  .stride_w = 1,
                                  .lower_h = -at.above,
                                  .lower_w = -at.before,
                                  .r = 1,
                                  .s = 1,
                                  .channels = p.kg(),
                                  .all_channels = p.k},
                       .copied = static_cast<int>(ceil_div(kTileRows + at.reach(), 8) * 8),
                       .channels = p.cg(),
                       .all_channels = p.c,
                       .filters = p.kg(),
                       .schedule = ViewsSchedule(p, BN),
                       .lag = level ? 0 : views_lag(BN),
                       .x = p.drelu ? static_cast<const bf16*>(a.x) : nullptr,
                       .dx = static_cast<bf16*>(a.dx)};
    const CUtensorMap dy = im2col_map(DType::bf16, a.dy,
                                      {.n = p.n,
                                       .h = p.p(),
                                       .w = p.q(),
                                       .c = p.k,
                                       .pitch = p.k,
                                       .lower_h = -at.above,
                                       .lower_w = -at.before,
                                       .upper_h = 0,  // the last position is dy's last pixel
                                       .upper_w = 0,
                                       .channels = DyViews<kSwizzled>::kAcross,
                                       .pixels = v.copied,
                                       .swizzle = kSwizzled ? 128 : 0});
    const uint64_t cg = p.cg(), taps = uint64_t(p.r) * p.s;
    const CUtensorMap w = tiled_map(DType::bf16, a.w, {cg, taps, uint64_t(p.k)},
                                    {cg * 2, cg * taps * 2}, {W::kAcross, 1, kDepth}, W::kSpan);
    launch(kSwizzled ? "conv_dgrad.views_swizzled_wgmma_sm90" : "conv_dgrad.views_wgmma_sm90",
           LaunchShape{.grid = dim3(v.schedule.clusters * v.schedule.tiles.cluster_size()),
                       .block = dim3(384),
                       .stream = a.stream,
                       .shared = sizeof(Storage),
                       .cluster = unsigned(v.schedule.tiles.cluster_size()),
                       .pdl = true},
           dgrad_views_kernel<Storage>, dy, w, v);
}

template <bool kSwizzled, bool kLevel = false>
void launch_views(const ConvProblem& p, const ConvDgradArgs& a) {
    const int width = views_width(p);
    if (width == 64) return launch_width<kSwizzled, 64>(p, a, kLevel);
    if (width == 96) return launch_width<kSwizzled, 96>(p, a, kLevel);
    launch_width<kSwizzled, 128>(p, a, kLevel);
}

}  // namespace

extern const ConvDgrad dgrad = {.name = "views_wgmma_sm90",
                                .refuses = refuses_views,
                                .workspace = nullptr,
                                .launch = launch_views<false>,
                                .sm = 90,
                                .suits = suits_views};
// Both consumers at the same stage.
extern const ConvDgrad dgrad_level = {.name = "views_level_wgmma_sm90",
                                      .refuses = refuses_views,
                                      .workspace = nullptr,
                                      .launch = launch_views<false, true>,
                                      .sm = 90};
extern const ConvDgrad dgrad_swizzled = {.name = "views_swizzled_wgmma_sm90",
                                         .refuses = refuses_views,
                                         .workspace = nullptr,
                                         .launch = launch_views<true>,
                                         .sm = 90};

}  // namespace wt::conv_views
