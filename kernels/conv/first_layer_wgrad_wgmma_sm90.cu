// Gradient of the first layer's filters on Hopper, from folded input (first_layer_wgmma.h): 3 x 3 taps x 48 channels by 96 filters,
// summed over all output pixels. Positions are the k of the product, 128 of them a stage: x once (its taps are views) and dy,
// both MN-major. dy comes by im2col with a window 2 rows and columns larger than dy: zeros where a position is no output.
//
// A product has 64 rows but a tap 48 channels: two more planes of x, which hold ones, fill it up. So row 48 is the sum of dy
// over the positions, the bias gradient, for nothing; a quarter of the tensor cores' time goes into these rows.
//
// A warpgroup holds the sums of one row of three taps, 144 registers a thread (three warpgroups in a block would leave ptxas 160
// for everything and it spills). So a range of positions takes three warpgroups, one and a half blocks: one block does rows 0
// and 1 of it, both from the same stages; for every two ranges one more block does row 2 of both, its
// warpgroups taking turns at the stages. All take as long, and all walk through a range at the same pace, so that
// x and dy come from memory about once.
//
// Each range writes its partial sums; a second kernel adds them up in order and puts them where w has them.
//
// alexnet, batch 256: 6,498 runs in 88 ranges, 74 each of 2304 clocks: 117 us at the clock at which the tensor cores do
// 790 TFLOP/s (1.46 GHz); 21 and 42 bytes a clock from L2; 88 ranges' partial sums of 166 KB. Predicted, not measured.
#include "kernels/conv/first_layer_wgmma.h"

namespace wt::conv1_wgmma {

namespace {

constexpr int kStages = 4, kTapsDown = 3, kTapsAcross = 3;
constexpr int kRowsOfTap = kChannels, kSumRow = kMostTaps * kRowsOfTap, kPartialRows = kSumRow + 1;
constexpr int kAllPlanes = kPlanes + 2;  // with those of ones

template <int BN>
struct WgradStorage {
    using Dy = SharedOperand<BN, kRun, Major::mn, BN % 64 ? 64 : 128>;
    alignas(1024) uint8_t dy[kStages][Dy::kBytes];
    alignas(1024) uint8_t x[kStages][kAllPlanes * kPlaneBytes];
    Pipeline<kStages> pipeline;
};

// Three taps side by side, each a position further on, from a stage's positions.
template <class Dy>
struct TapSteps {
    static constexpr int kHeight = kTapsAcross, kCount = kRun / 16;
    static constexpr uint32_t a(int s, int j) { return (j * 16 + s) * 16; }
    static constexpr uint32_t b(int j) { return Dy::step(j); }
};

struct Ranges {
    int count;     // even
    int runs;      // of each; those behind the last position are zeros
    float* partials;  // [range][kPartialRows][BN]
    int blocks() const { return count + count / 2; }
};

template <int BN>
__global__ void __launch_bounds__(384, 1)
    wgrad_kernel(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap dy, const __grid_constant__ Folded v,
                 const __grid_constant__ Window window, Ranges ranges) {
    using Storage = WgradStorage<BN>;
    using Dy = typename Storage::Dy;
    Storage& shared = shared_storage<Storage>();
    const int warpgroup = warpgroup_index();
    // Of every three blocks two have a range each, the third row 2 of both.
    const int pair = blockIdx.x / 3 * 2, turns = blockIdx.x % 3 == 2 ? 2 : 1;  // turns: ranges of this block
    for (int s = 0; s < kStages; ++s)
        for (int i = threadIdx.x; i < 2 * kPlaneBytes / 4; i += 384)
            reinterpret_cast<uint32_t*>(shared.x[s] + kPlanes * kPlaneBytes)[i] = 0x3f803f80;  // two ones
    ptx::fence_proxy_async();
    begin_block(shared.pipeline, turns == 2 ? 4 : 8, 1);

    if (warpgroup == 0) {
        ptx::registers_decrease<40>();
        if (threadIdx.x == 0) {
            PipelineProducer<kStages> pipeline{shared.pipeline};
            for (int i = 0; i < ranges.runs * turns; ++i, pipeline.advance()) {
                const int run = turns == 2 ? (pair + i % 2) * ranges.runs + i / 2 : (pair + blockIdx.x % 3) * ranges.runs + i;
                ptx::Mbarrier& bar = pipeline.producer_acquire(kPlanes * kPlaneBytes + Dy::kBytes);
                load_planes(shared.x[pipeline.stage()], x, bar, run);
                const Pixel corner = window.corner(run * kRun);
                for (int j = 0; j < Dy::kBoxes; ++j)
                    ptx::tma_load_im2col(shared.dy[pipeline.stage()] + j * Dy::kBoxBytes, dy, bar, j * Dy::kAcross, corner.col, corner.row, corner.n, 0, 0);
            }
            ptx::griddep_launch_dependents();
        }
    } else {
        ptx::registers_increase<232>();
        const int consumer = warpgroup - 1, r = turns == 2 ? 2 : consumer;
        PipelineConsumer<kStages> pipeline{shared.pipeline};
        if (turns == 2 && consumer) pipeline.advance();
        float acc[kTapsAcross][BN / 2];
        int before = 0;
        for (int step = 0; step < ranges.runs; ++step) {
            pipeline.consumer_wait();
            const uint64_t a = ptx::wgmma_descriptor(shared.x[pipeline.stage()] + r * v.w * 16, 128, kPlaneBytes, ptx::Swizzle::none);
            const uint64_t b = Dy::descriptor(shared.dy[pipeline.stage()], 0);
            ptx::wgmma_fence();
            ptx::wgmma_bf16_tile<BN, true, true, TapSteps<Dy>>(acc, a, b, step > 0);
            ptx::wgmma_commit();
            ptx::wgmma_wait<1>();
            if (step > 0) pipeline.consumer_release(before);
            before = pipeline.stage();
            pipeline.advance();
            if (turns == 2) pipeline.advance();
        }
        ptx::wgmma_wait<0>();
        unroll<kTapsAcross>([&](auto s) { ptx::wgmma_keep(acc[s]); });
        pipeline.consumer_release(before);

        const int range = pair + (turns == 2 ? consumer : blockIdx.x % 3);
        const int row0 = threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4;
        unroll<kTapsAcross>([&](auto s) {
            unroll<2>([&](auto half) {
                int row = row0 + half * 8;
                if (row < kRowsOfTap)
                    row += (r * kTapsAcross + s) * kRowsOfTap;
                else if (row == kRowsOfTap && r == 0 && s == 0)
                    row = kSumRow;
                else
                    return;
                float* to = ranges.partials + (int64_t(range) * kPartialRows + row) * BN + threadIdx.x % 4 * 2;
                unroll<BN / 8>([&](auto j) {
                    *reinterpret_cast<float2*>(to + j * 8) = make_float2(acc[s][4 * j + 2 * half], acc[s][4 * j + 2 * half + 1]);
                });
            });
        });
    }
}

// Adds up a row of the partial sums, 32 filters a block: 8 warps take every eighth range each, then add their sums in order.
constexpr int kParts = 8;
struct AddStorage {
    float sum[kParts][32];
};

__global__ void __launch_bounds__(32 * kParts) reduce_partials_kernel(Folded v, const float* partials, int count, int width, float* dw, float* db) {
    ptx::griddep_wait();
    AddStorage& shared = shared_storage<AddStorage>();
    const int row = blockIdx.x, filter = blockIdx.y * 32 + threadIdx.x % 32, part = threadIdx.x / 32;
    float sum = 0;
    for (int s = part; s < count; s += kParts) sum += partials[(int64_t(s) * kPartialRows + row) * width + filter];
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
    const int fr = tap / kTapsAcross * kFold + pixel / kFold, fs = tap % kTapsAcross * kFold + pixel % kFold;
    if (fr < v.filter_r && fs < v.filter_s) dw[((int64_t(filter) * v.filter_r + fr) * v.filter_s + fs) * 3 + channel] = sum;
}

std::string refuses_wgrad(const ConvProblem& p) {
    if (std::string why = refuses_folded(p); !why.empty()) return why;
    if (Folded(p).r != kTapsDown || Folded(p).s != kTapsAcross) return "filters of 3 x 3 blocks: 9 to 12 rows and columns";
    return "";
}

int width_of(const ConvProblem& p) { return p.k <= 64 ? 64 : 96; }

// As many ranges as fill the machine, of at least 4 runs: each also writes partial sums.
Ranges ranges_of(const ConvProblem& p) {
    const int runs = Folded(p).runs(), most = std::max(1, planned_sms() / 3) * 2;
    Ranges r;
    r.runs = static_cast<int>(std::max<int64_t>(4, ceil_div(runs, most)));
    r.count = static_cast<int>(ceil_div(ceil_div(runs, r.runs), 2) * 2);
    r.partials = nullptr;
    return r;
}

size_t workspace(const ConvProblem& p) { return sizeof(float) * ranges_of(p).count * kPartialRows * width_of(p); }

template <int BN>
void launch_width(const ConvProblem& p, const ConvWgradArgs& a) {
    const Folded v(p);
    using Dy = typename WgradStorage<BN>::Dy;
    const Window window{v.h, v.w, 1, 1, 0, 0, 1, 1, v.k, v.k};
    Ranges ranges = ranges_of(p);
    ranges.partials = static_cast<float*>(a.workspace);
    launch("conv_wgrad.folded_wgmma_sm90",
           LaunchShape{dim3(ranges.blocks()), dim3(384), a.stream, sizeof(WgradStorage<BN>)}.with_pdl(), wgrad_kernel<BN>,
           planes_map(a.x, v), patches_map(a.dy, v.n, v.p, v.q, window, Dy::kAcross, kRun), v, window, ranges);
    launch("conv_wgrad.folded_wgmma_sm90 sum",
           LaunchShape{dim3(kPartialRows, BN / 32), dim3(32 * kParts), a.stream, sizeof(AddStorage)}.with_pdl(), reduce_partials_kernel, v,
           static_cast<const float*>(ranges.partials), ranges.count, BN, a.dw, p.bias ? a.db : nullptr);
}

void launch_wgrad(const ConvProblem& p, const ConvWgradArgs& a) {
    if (width_of(p) == 64) return launch_width<64>(p, a);
    launch_width<96>(p, a);
}

}  // namespace

extern const ConvWgrad wgrad = {
    .name = "folded_wgmma_sm90", .refuses = refuses_wgrad, .workspace = workspace, .launch = launch_wgrad, .sm = 90};

}  // namespace wt::conv1_wgmma
