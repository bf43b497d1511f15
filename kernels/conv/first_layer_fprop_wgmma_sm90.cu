// First layer forward on Hopper, from planes (first_layer_wgmma.h): all filters, 96 x 432 bf16 in
// 83 KB, stay in shared memory for the whole kernel, only x streams. Blocks are persistent. Two
// warpgroups take turns, each with a run of 128 positions of its own, so that one stores while the
// other multiplies; the turn passes when one tap's products are left, so that the tensor cores have
// work until the other's have begun.
//
// Filters, too, lie in planes of 8 k (channel of a block, at a tap): 54 of them, 16 bytes a filter.
// A kernel writes them so (first_layer_fold.h), and one bulk copy of 83 KB brings them: 2,074
// clocks at 40 bytes a clock from L2, behind which the first stage of x comes. The former kernel is
// 41 blocks that start while the augmentation runs, as this one starts while that one does: no
// launch waits for another to end. (The update could write w folded, which would spare the kernel's
// own 2 us or so of a step of 2 to 4 ms, but then also loading weights, checkpoints and every other
// reader of w would have to know of it.)
//
// Positions that are no outputs are left out of y, so that a tile's rows are not evenly spaced
// there; a warp brings 16 rows through shared memory and writes whole lines of those that exist.
//
// alexnet, batch 256: 6,498 runs on 132 SMs, 49.2 in 50 turns of 27 x 2 products of 48 clocks, 2592
// each: 89 us at the clock at which the tensor cores do 790 TFLOP/s (1.46 GHz). wgmma reads 107 of
// 128 bytes a clock of shared memory; copies of x, 23 KB a turn, take 9 of L2's 40 and write 9 of
// those 128. Memory, x and y once, 229 MB: 53 us at 4.3 TB/s. Predicted, not measured.
#include "kernels/conv/first_layer_fold.h"
#include "kernels/conv/first_layer_wgmma.h"
#include "kernels/ptx/ldmatrix.h"

namespace wt::conv1_wgmma {

namespace {

constexpr int kStages = 4, kHeight = kRun / 64;

template <int BN>
struct FpropStorage {
    // Bytes from one row to the next, on the way to y: 16-byte accesses of 8 rows meet no bank
    // twice.
    static constexpr int kPitch = (BN + 8) * 2;
    alignas(1024) uint8_t w[kMostTaps * kPlanes * BN * 16];
    alignas(1024) uint8_t x[kStages][kPlanes * kPlaneBytes];
    alignas(16) uint8_t rows[8][16 * kPitch];  // each warp's
    int pixels[8][16];                         // where those rows go; -1: nowhere
    alignas(8) float bias[BN];
    Pipeline<kStages> pipeline;
    ptx::Mbarrier filters;
};
static_assert(sizeof(FpropStorage<96>) <= kSharedPerBlock);

template <int BN>
struct TapSteps {
    static constexpr int kHeight = kRun / 64, kCount = kChannels / 16;
    static constexpr uint32_t a(int h, int j) { return h * 64 * 16 + j * 2 * kPlaneBytes; }
    static constexpr uint32_t b(int j) { return j * 2 * BN * 16; }
};
// Starts the products of tap (r, s): 128 positions by BN filters, 48 deep.
template <int BN>
__device__ __forceinline__ void multiply_tap(float (&acc)[kHeight][BN / 2], const Folded& v,
                                             const uint8_t* x, const uint8_t* w, int r, int s) {
    const uint64_t a =
        ptx::wgmma_descriptor(x + (r * v.w + s) * 16, kPlaneBytes, 128, ptx::Swizzle::none);
    const uint64_t b = ptx::wgmma_descriptor(w + (r * v.s + s) * kPlanes * BN * 16, BN * 16, 128,
                                             ptx::Swizzle::none);
    ptx::wgmma_bf16_tile<BN, false, false, TapSteps<BN>>(acc, a, b, r > 0 || s > 0);
}

struct FpropShape {
    Folded folded;
    const float* bias;  // null: none
    bool relu;
    bf16* y;
};

// One thread of warpgroup 0 copies the filters once, then x, run after run, as many stages ahead as
// there are.
template <int BN>
__device__ __forceinline__ void producer(FpropStorage<BN>& shared, const bf16* x, const bf16* w,
                                         const FpropShape& v) {
    const int runs = v.folded.runs(), blocks = static_cast<int>(gridDim.x),
              span = v.folded.span(v.folded.r);
    const uint32_t filter_bytes = v.folded.taps() * kPlanes * BN * 16;
    ptx::mbarrier_arrive_expect_tx(shared.filters, filter_bytes);
    ptx::bulk_load(shared.w, w, filter_bytes, shared.filters);

    PipelineProducer<kStages> pipeline{shared.pipeline};
    for (int run = static_cast<int>(blockIdx.x); run < runs; run += blocks, pipeline.advance())
        load_planes(shared.x[pipeline.stage()], x, v.folded,
                    pipeline.producer_acquire(kPlanes * span * 16), run * kRun, span);
    // the next kernel's blocks may take this one's place as it ends
    ptx::griddep_launch_dependents();
}

// Stores a warp's 16 rows of a run's sums, of positions `first`..., with bias and ReLU: through
// shared memory, whole lines of those rows that are outputs.
template <int BN>
__device__ __forceinline__ void store_rows(FpropStorage<BN>& shared, const FpropShape& v, int first,
                                           const float (&acc)[BN / 2]) {
    using Storage = FpropStorage<BN>;
    const int warp = threadIdx.x / 32 - 4, lane = threadIdx.x % 32;
    uint8_t* rows = shared.rows[warp];
    int* pixels = shared.pixels[warp];
    __syncwarp();  // the rows before are written
    if (lane < 16) pixels[lane] = v.folded.pixel_of(first + lane);
    uint32_t out[BN / 16][4];
    void* to[BN / 16];
    unroll<BN / 16>([&](auto j) {
        unroll<4>([&](auto i) {  // rows 0-7 and 8-15 of the left 8 columns, then of the right
            const int column = j * 16 + i / 2 * 8, k = column / 2 + i % 2 * 2;
            Vec<2> pair =
                pair_of(acc[k], acc[k + 1]) + load<2>(shared.bias + column + lane % 4 * 2);
            unroll<2>([&](auto e) { pair.set(e, v.relu && pair[e] < 0 ? 0.0f : pair[e]); });
            out[j][i] = pack_bf16(pair);
        });
        // Lane l addresses row l % 16 of the left (l < 16) or right 8 columns.
        to[j] = rows + lane % 16 * Storage::kPitch + (2 * j + lane / 16) * 16;
    });
    ptx::stmatrix_x4_tile(to, out);
    __syncwarp();
    const int filters = v.folded.k, chunks = filters / 8;  // chunks: of 16 bytes, in a row of y
    int row = lane / chunks, chunk = lane % chunks;
    for (int i = lane; i < 16 * chunks; i += 32) {
        if (const int pixel = pixels[row]; pixel >= 0)
            *reinterpret_cast<uint4*>(v.y + int64_t(pixel) * filters + chunk * 8) =
                *reinterpret_cast<const uint4*>(rows + row * Storage::kPitch + chunk * 16);
        for (chunk += 32; chunk >= chunks; chunk -= chunks) ++row;
    }
}

// Two warpgroups take turns: one multiplies a run while the other stores the run before.
template <int BN>
__device__ __forceinline__ void consumer(FpropStorage<BN>& shared, const FpropShape& v,
                                         int warpgroup) {
    const int warp = threadIdx.x / 32 - 4, runs = v.folded.runs(),
              blocks = static_cast<int>(gridDim.x);
    // Bias into shared memory; wait for the filters.
    for (int i = threadIdx.x - 128; i < BN; i += 256)
        shared.bias[i] = v.bias && i < v.folded.k ? v.bias[i] : 0.0f;
    sync_consumers();
    ptx::mbarrier_wait(shared.filters, 0);

    PipelineConsumer<kStages> pipeline{shared.pipeline};
    if (warpgroup == 1) {
        pass_turn(1);
        pipeline.advance();
    }
    for (int run = static_cast<int>(blockIdx.x) + warpgroup * blocks; run < runs;
         run += 2 * blocks) {
        // Wait for the stage and for this warpgroup's turn, multiply.
        float acc[kHeight][BN / 2];
        pipeline.consumer_wait();
        await_turn(warpgroup);
        const uint8_t* planes = shared.x[pipeline.stage()];
        // Each tap is a group of products with a fence of its own: ptxas bears no other control
        // flow between them.
#pragma unroll 1
        for (int tap = 0, r = 0, s = 0; tap < v.folded.taps(); ++tap) {
            ptx::wgmma_fence();
            multiply_tap<BN>(acc, v.folded, planes, shared.w, r, s);
            ptx::wgmma_commit();
            if (++s == v.folded.s) s = 0, ++r;
        }
        // Pass the turn when the last tap's products are left, release the stage when they are
        // done.
        ptx::wgmma_wait<1>();
        if (run + blocks < runs) pass_turn(warpgroup);
        ptx::wgmma_wait<0>();
        unroll<kHeight>([&](auto h) { ptx::wgmma_keep(acc[h]); });
        pipeline.consumer_release(pipeline.stage());
        pipeline.advance();
        pipeline.advance();  // past the other warpgroup's stage

        // Epilogue, on the way to y.
        unroll<kHeight>([&](auto h) {
            store_rows<BN>(shared, v, run * kRun + h * 64 + warp % 4 * 16, acc[h]);
        });
    }
}

template <int BN>
__global__ void __launch_bounds__(384, 1)
    fprop_kernel(const bf16* x, const bf16* w, const __grid_constant__ FpropShape v) {
    FpropStorage<BN>& shared = shared_storage<FpropStorage<BN>>();
    // Initialise the barriers, wait for the kernel before this one.
    begin_block(1, [&] {
        ptx::mbarrier_init(shared.filters, 1);
        shared.pipeline.init(4);
    });

    // Move registers from the producer's warpgroup to the consumers', and take the roles.
    const int warpgroup = warpgroup_index();
    if (warpgroup == 0) {
        ptx::registers_decrease<40>();
        if (warp_index() == 0 && ptx::elect_one()) producer<BN>(shared, x, w, v);
    } else {
        ptx::registers_increase<232>();
        consumer<BN>(shared, v, warpgroup - 1);
    }
}

template <int BN>
void launch_width(const ConvProblem& p, const ConvFpropArgs& a) {
    const FpropShape v{.folded = Folded(p),
                       .bias = p.bias ? a.bias : nullptr,
                       .relu = p.relu,
                       .y = static_cast<bf16*>(a.y)};
    fold_weights_into_planes(p, a.w, a.workspace, BN, a.stream);
    launch("conv_fprop.folded_wgmma_sm90",
           LaunchShape{.grid = dim3(std::min(v.folded.runs(), planned_sms())),
                       .block = dim3(384),
                       .stream = a.stream,
                       .shared = sizeof(FpropStorage<BN>),
                       .pdl = true},
           fprop_kernel<BN>, static_cast<const bf16*>(a.x), static_cast<const bf16*>(a.workspace),
           v);
}

int width_of(const ConvProblem& p) { return p.k <= 64 ? 64 : 96; }

void launch_fprop(const ConvProblem& p, const ConvFpropArgs& a) {
    if (width_of(p) == 64) return launch_width<64>(p, a);
    launch_width<96>(p, a);
}

size_t workspace(const ConvProblem& p) {
    return sizeof(bf16) * width_of(p) * Folded(p).taps() * kChannels;
}

}  // namespace

extern const ConvFprop fprop = {.name = "folded_wgmma_sm90",
                                .refuses = refuses_folded,
                                .workspace = workspace,
                                .launch = launch_fprop,
                                .sm = 90};

}  // namespace wt::conv1_wgmma
