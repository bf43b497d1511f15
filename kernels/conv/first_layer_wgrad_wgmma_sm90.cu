// Gradient of the first layer's filters on Hopper, from planes (first_layer_wgmma.h): 3 x 3
// taps x 48 channels by 96 filters, summed over all output pixels. Positions are the k of the
// product, 128 of them a stage: x once (its taps are views) and dy, both MN-major. dy comes by
// im2col with a window 2 rows and columns larger than dy: zeros where a position is no output.
//
// A product has 64 rows but a tap 48 channels: two more planes of x, which hold ones, fill it up.
// So row 48 is the sum of dy over the positions, the bias gradient, for nothing; a quarter of the
// tensor cores' time goes into these rows.
//
// A warpgroup holds the sums of one row of three taps, 144 registers a thread (three warpgroups in
// a block would leave ptxas 160 for everything and it spills). So a range of positions takes three
// warpgroups, one and a half blocks: one block does rows 0 and 1 of it, both from the same stages;
// for every two ranges one more block does row 2 of both, its warpgroups taking turns at the
// stages. All take as long, and all walk through a range at the same pace, so that x and dy come
// from memory about once.
//
// Each range writes its partial sums; a second kernel adds them up in order and puts them where w
// has them.
//
// alexnet, batch 256: 6,498 runs in 88 ranges, 74 each of 2304 clocks: 117 us at the clock at which
// the tensor cores do 790 TFLOP/s (1.46 GHz); 88 ranges' partial sums of 166 KB. A stage is 24 KB
// of dy, 3 boxes of 128 rows of 64 bytes, and what its rows of taps read of x, in 6 copies: 187
// positions, 18 KB, for rows 0 and 1, 130, 12 KB, for row 2. So two blocks of three want 18 of L2's
// 40 bytes a clock, the third, which takes a stage every 1152 clocks, 32. wgmma reads 107 of 128
// bytes a clock of shared memory; copies write 18, and 32 in the third block, which is the tightest
// place if writes count against the same 128. Predicted, not measured.
#include "kernels/conv/first_layer_wgmma.h"
#include "kernels/conv/wgmma_common.h"

namespace wt::conv1_wgmma {

using conv_wgmma::patches_map, conv_wgmma::Window;

namespace {

constexpr int kStages = 4, kTapsDown = 3, kTapsAcross = 3;
constexpr int kRowsOfTap = kChannels, kSumRow = kMostTaps * kRowsOfTap, kPartialRows = kSumRow + 1;
constexpr int kAllPlanes = kPlanes + 2;  // and those of ones

template <int BN>
struct WgradStorage {
    using Dy = SharedOperand<BN, kRun, Major::mn, BN % 64 ? 64 : 128>;
    alignas(1024) uint8_t dy[kStages][Dy::kBytes];
    alignas(1024) uint8_t x[kStages][kAllPlanes * kPlaneBytes];
    Pipeline<kStages> pipeline;
};

// Where the operands of three taps side by side lie, each a position further on, in a stage's
// positions.
template <class Dy>
struct TapSteps {
    static constexpr int kHeight = kTapsAcross, kCount = kRun / 16;
    static constexpr uint32_t a(int s, int j) { return (j * 16 + s) * 16; }
    static constexpr uint32_t b(int j) { return Dy::step(j); }
};

struct Ranges {
    int count;        // even
    int runs;         // of each; those behind the last position are zeros
    float* partials;  // [range][kPartialRows][BN]
    int blocks() const { return count + count / 2; }
};

struct WgradShape {
    Folded folded;
    Window window;  // of dy
    Ranges ranges;
};

// Which ranges a block works on. Of every three blocks two have a range each and do rows 0 and 1 of
// the taps; the third does row 2 of both ranges, taking stages of each in turn.
struct BlockRole {
    int first_range, ranges;  // 1, or 2 in turn
    __device__ __forceinline__ BlockRole() {
        const int pair = blockIdx.x / 3 * 2, member = blockIdx.x % 3;
        ranges = member == 2 ? 2 : 1;
        first_range = ranges == 2 ? pair : pair + member;
    }
    __device__ __forceinline__ int range_of(int warpgroup) const {
        return first_range + (ranges == 2 ? warpgroup : 0);
    }
    __device__ __forceinline__ int tap_row(int warpgroup) const {
        return ranges == 2 ? 2 : warpgroup;
    }
    // The rows of taps that it does.
    __device__ __forceinline__ int first_tap_row() const { return ranges == 2 ? 2 : 0; }
    __device__ __forceinline__ int tap_rows() const { return ranges == 2 ? 1 : 2; }
    // of a stage
    __device__ __forceinline__ int reading_warps() const { return ranges == 2 ? 4 : 8; }
};

// One thread of warpgroup 0 copies x and dy, run after run, as many stages ahead as there are.
template <int BN>
__device__ __forceinline__ void producer(WgradStorage<BN>& shared, const bf16* x,
                                         const CUtensorMap& dy, const WgradShape& v,
                                         const BlockRole& role) {
    using Dy = typename WgradStorage<BN>::Dy;
    // Behind the last run dy is zero: x may be anything that is finite.
    const int runs = v.ranges.runs, last = v.folded.runs() - 1,
              span = v.folded.span(role.tap_rows());
    PipelineProducer<kStages> pipeline{shared.pipeline};
    for (int i = 0; i < runs * role.ranges; ++i, pipeline.advance()) {
        const int run = role.ranges == 2 ? (role.first_range + i % 2) * runs + i / 2
                                         : role.first_range * runs + i;
        ptx::Mbarrier& bar = pipeline.producer_acquire(kPlanes * span * 16 + Dy::kBytes);
        load_planes(shared.x[pipeline.stage()], x, v.folded, bar,
                    min(run, last) * kRun + role.first_tap_row() * v.folded.w, span);
        const Pixel corner = v.window.corner(run * kRun);
        for (int j = 0; j < Dy::kBoxes; ++j)
            ptx::tma_load_im2col(shared.dy[pipeline.stage()] + j * Dy::kBoxBytes, dy, bar,
                                 j * Dy::kAcross, corner.col, corner.row, corner.n, 0, 0);
    }
    // the next kernel's blocks may take this one's place as it ends
    ptx::griddep_launch_dependents();
}

// Stores a warpgroup's sums: rows of three taps, of which it leaves out those of the planes of ones
// but the first.
template <int BN>
__device__ __forceinline__ void store_partial(const Ranges& ranges, int range, int tap_row,
                                              const float (&acc)[kTapsAcross][BN / 2]) {
    const int thread_row = threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4;
    unroll<kTapsAcross>([&](auto s) {
        unroll<2>([&](auto half) {
            int row = thread_row + half * 8;
            if (row < kRowsOfTap)
                row += (tap_row * kTapsAcross + s) * kRowsOfTap;
            else if (row == kRowsOfTap && tap_row == 0 && s == 0)
                row = kSumRow;
            else
                return;
            float* to =
                ranges.partials + (int64_t(range) * kPartialRows + row) * BN + threadIdx.x % 4 * 2;
            unroll<BN / 8>([&](auto j) {
                *reinterpret_cast<float2*>(to + j * 8) =
                    make_float2(acc[s][4 * j + 2 * half], acc[s][4 * j + 2 * half + 1]);
            });
        });
    });
}

// A warpgroup sums one row of three taps over a range.
template <int BN>
__device__ __forceinline__ void consumer(WgradStorage<BN>& shared, const WgradShape& v,
                                         const BlockRole& role, int warpgroup) {
    using Dy = typename WgradStorage<BN>::Dy;
    const int tap_row = role.tap_row(warpgroup),
              from = (tap_row - role.first_tap_row()) * v.folded.w * 16;  // in a plane, bytes
    PipelineConsumer<kStages> pipeline{shared.pipeline};
    if (role.ranges == 2 && warpgroup) pipeline.advance();
    float acc[kTapsAcross][BN / 2];
    int before = 0;  // the stage whose products may still be under way
    for (int step = 0; step < v.ranges.runs; ++step) {
        // Wait for the stage, multiply, release the stage before.
        pipeline.consumer_wait();
        const uint64_t a = ptx::wgmma_descriptor(shared.x[pipeline.stage()] + from, 128,
                                                 kPlaneBytes, ptx::Swizzle::none);
        const uint64_t b = Dy::descriptor(shared.dy[pipeline.stage()], 0);
        ptx::wgmma_fence();
        ptx::wgmma_bf16_tile<BN, true, true, TapSteps<Dy>>(acc, a, b, step > 0);
        ptx::wgmma_commit();
        ptx::wgmma_wait<1>();
        if (step > 0) pipeline.consumer_release(before);
        before = pipeline.stage();
        pipeline.advance();
        if (role.ranges == 2) pipeline.advance();  // past the other range's stage
    }
    ptx::wgmma_wait<0>();
    unroll<kTapsAcross>([&](auto s) { ptx::wgmma_keep(acc[s]); });
    pipeline.consumer_release(before);
    store_partial<BN>(v.ranges, role.range_of(warpgroup), tap_row, acc);
}

template <int BN>
__global__ void __launch_bounds__(384, 1)
    wgrad_kernel(const bf16* x, const __grid_constant__ CUtensorMap dy,
                 const __grid_constant__ WgradShape v) {
    using Storage = WgradStorage<BN>;
    Storage& shared = shared_storage<Storage>();
    const BlockRole role;
    // Fill the planes of ones, which wgmma reads: bf16 pairs.
    for (int s = 0; s < kStages; ++s)
        for (int i = threadIdx.x; i < 2 * kPlaneBytes / 4; i += 384)
            reinterpret_cast<uint32_t*>(shared.x[s] + kPlanes * kPlaneBytes)[i] = 0x3f803f80;
    ptx::fence_proxy_async();
    // Prefetch the descriptor, initialise the barriers, wait for the kernel before this one.
    begin_block(1, [&] {
        ptx::prefetch_tensor_map(dy);
        shared.pipeline.init(role.reading_warps());
    });

    // Move registers from the producer's warpgroup to the consumers', and take the roles.
    const int warpgroup = warpgroup_index();
    if (warpgroup == 0) {
        ptx::registers_decrease<40>();
        if (warp_index() == 0 && ptx::elect_one()) producer<BN>(shared, x, dy, v, role);
    } else {
        ptx::registers_increase<232>();
        consumer<BN>(shared, v, role, warpgroup - 1);
    }
}

// Adds up a row of the partial sums, 32 filters a block: 8 warps take every eighth range each, then
// add their sums in order.
constexpr int kParts = 8;
struct AddStorage {
    float sum[kParts][32];
};

__global__ void __launch_bounds__(32 * kParts)
    reduce_partials_kernel(Folded v, const float* partials, int count, int width, float* dw,
                           float* db) {
    ptx::griddep_wait();
    AddStorage& shared = shared_storage<AddStorage>();
    const int row = blockIdx.x, filter = blockIdx.y * 32 + threadIdx.x % 32,
              part = threadIdx.x / 32;
    float sum = 0;
    for (int s = part; s < count; s += kParts)
        sum += partials[(int64_t(s) * kPartialRows + row) * width + filter];
    shared.sum[part][threadIdx.x % 32] = sum;
    __syncthreads();
    if (part || filter >= v.k) return;
    sum = 0;
    for (int i = 0; i < kParts; ++i) sum += shared.sum[i][threadIdx.x % 32];
    if (row == kSumRow) {
        if (db) db[filter] = sum;
        return;
    }
    // Row (tap of blocks, pixel of the block, channel) is the filter's (tap of pixels, channel).
    const int tap = row / kRowsOfTap, pixel = row % kRowsOfTap / 3, channel = row % 3;
    const int fr = tap / kTapsAcross * kFold + pixel / kFold,
              fs = tap % kTapsAcross * kFold + pixel % kFold;
    if (fr < v.filter_r && fs < v.filter_s)
        dw[((int64_t(filter) * v.filter_r + fr) * v.filter_s + fs) * 3 + channel] = sum;
}

std::string refuses_wgrad(const ConvProblem& p) {
    if (std::string why = refuses_folded(p); !why.empty()) return why;
    if (Folded(p).r != kTapsDown || Folded(p).s != kTapsAcross)
        return "filters of 3 x 3 blocks: 9 to 12 rows and columns";
    return "";
}

int width_of(const ConvProblem& p) { return p.k <= 64 ? 64 : 96; }

// Makes as many ranges as fill the machine, of at least 4 runs, because each also writes partial
// sums.
Ranges ranges_of(const ConvProblem& p) {
    const int runs = Folded(p).runs(), most = std::max(1, planned_sms() / 3) * 2;
    Ranges r;
    r.runs = static_cast<int>(std::max<int64_t>(4, ceil_div(runs, most)));
    r.count = static_cast<int>(ceil_div(ceil_div(runs, r.runs), 2) * 2);
    r.partials = nullptr;
    return r;
}

size_t workspace(const ConvProblem& p) {
    return sizeof(float) * ranges_of(p).count * kPartialRows * width_of(p);
}

template <int BN>
void launch_width(const ConvProblem& p, const ConvWgradArgs& a) {
    using Dy = typename WgradStorage<BN>::Dy;
    const Folded folded(p);
    Ranges ranges = ranges_of(p);
    ranges.partials = static_cast<float*>(a.workspace);
    const WgradShape v{.folded = folded,
                       .window = {.rows = folded.h,
                                  .cols = folded.w,
                                  .stride_h = 1,
                                  .stride_w = 1,
                                  .lower_h = 0,
                                  .lower_w = 0,
                                  .r = 1,
                                  .s = 1,
                                  .channels = p.k,
                                  .all_channels = p.k},
                       .ranges = ranges};
    launch("conv_wgrad.folded_wgmma_sm90",
           LaunchShape{.grid = dim3(ranges.blocks()),
                       .block = dim3(384),
                       .stream = a.stream,
                       .shared = sizeof(WgradStorage<BN>),
                       .pdl = true},
           wgrad_kernel<BN>, static_cast<const bf16*>(a.x),
           patches_map(a.dy, folded.n, folded.p, folded.q, v.window, Dy::kAcross, kRun), v);
    launch("conv_wgrad.folded_wgmma_sm90 sum",
           LaunchShape{.grid = dim3(kPartialRows, BN / 32),
                       .block = dim3(32 * kParts),
                       .stream = a.stream,
                       .shared = sizeof(AddStorage),
                       .pdl = true},
           reduce_partials_kernel, folded, static_cast<const float*>(ranges.partials), ranges.count,
           BN, a.dw, p.bias ? a.db : nullptr);
}

void launch_wgrad(const ConvProblem& p, const ConvWgradArgs& a) {
    if (width_of(p) == 64) return launch_width<64>(p, a);
    launch_width<96>(p, a);
}

}  // namespace

extern const ConvWgrad wgrad = {.name = "folded_wgmma_sm90",
                                .refuses = refuses_wgrad,
                                .workspace = workspace,
                                .launch = launch_wgrad,
                                .sm = 90};

}  // namespace wt::conv1_wgmma
