// First layer forward on Hopper, from folded input (first_layer_wgmma.h): all filters, 96 x 432 bf16 in 83 KB, stay in shared
// memory for the whole kernel, only x streams. Blocks are persistent. Two warpgroups take turns, each with a run of 128
// positions of its own, so that one stores while the other multiplies; the turn passes when one tap's products are left, so
// that the tensor cores have work until the other's have begun.
//
// Filters, too, lie in planes of 8 k (channel of a block, at a tap): 54 of them, 16 bytes a filter. They come from a kernel
// that folds w (first_layer_fold.h).
//
// Outputs at the positions that are none are left out, so that a tile's rows are not evenly spaced in y; a warp brings 16 rows
// through shared memory and writes whole lines of those that exist.
//
// alexnet, batch 256: 6,498 runs on 132 SMs, 49.2 in 50 turns of 27 x 2 products of 48 clocks, 2592 each: 89 us at the clock at
// which the tensor cores do 790 TFLOP/s (1.46 GHz). wgmma reads 107 of 128 bytes a clock of shared memory, x needs 9 bytes a clock
// from L2 (19 where each 16 bytes of a plane take a sector of 32). Memory, x and y once, 229 MB: 53 us at 4.3 TB/s. Predicted,
// not measured.
#include "kernels/conv/first_layer_fold.h"
#include "kernels/conv/first_layer_wgmma.h"

namespace wt::conv1_wgmma {

namespace {

constexpr int kStages = 4, kHeight = kRun / 64;

template <int BN>
struct FpropStorage {
    static constexpr int kPitch = (BN + 8) * 2;  // of a row on its way to y: 16-byte accesses of 8 rows meet no bank twice
    alignas(1024) uint8_t w[kMostTaps * kPlanes * BN * 16];
    alignas(1024) uint8_t x[kStages][kPlanes * kPlaneBytes];
    alignas(16) uint8_t rows[8][16 * kPitch];  // of a warp
    int pixels[8][16];                         // of those rows: where they go; -1: nowhere
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
// Products of tap (r, s): 128 positions by BN filters, 48 deep.
template <int BN>
__device__ __forceinline__ void multiply_tap(float (&acc)[kHeight][BN / 2], const Folded& v, const uint8_t* x, const uint8_t* w, int r, int s) {
    const uint64_t a = ptx::wgmma_descriptor(x + (r * v.w + s) * 16, kPlaneBytes, 128, ptx::Swizzle::none);
    const uint64_t b = ptx::wgmma_descriptor(w + (r * v.s + s) * kPlanes * BN * 16, BN * 16, 128, ptx::Swizzle::none);
    ptx::wgmma_bf16_tile<BN, false, false, TapSteps<BN>>(acc, a, b, r > 0 || s > 0);
}

template <int BN>
__global__ void __launch_bounds__(384, 1)
    fprop_kernel(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap w, const __grid_constant__ Folded v,
                 const float* bias, bool relu, bf16* y) {
    using Storage = FpropStorage<BN>;
    Storage& shared = shared_storage<Storage>();
    const int warpgroup = warpgroup_index();
    if (threadIdx.x == 0) {
        ptx::prefetch_tensor_map(x), ptx::prefetch_tensor_map(w);
        ptx::mbarrier_init(shared.filters, 1);
    }
    begin_block(shared.pipeline, 4, 1);
    const int runs = v.runs(), blocks = static_cast<int>(gridDim.x);

    if (warpgroup == 0) {
        ptx::registers_decrease<40>();
        if (threadIdx.x == 0) {
            const int planes = v.taps() * kPlanes;
            ptx::mbarrier_arrive_expect_tx(shared.filters, planes * BN * 16);
            for (int i = 0; i < planes; ++i) ptx::tma_load(shared.w + i * BN * 16, w, shared.filters, i * 8, 0);
            PipelineProducer<kStages> pipeline{shared.pipeline};
            for (int run = static_cast<int>(blockIdx.x); run < runs; run += blocks, pipeline.advance())
                load_planes(shared.x[pipeline.stage()], x, pipeline.producer_acquire(kPlanes * kPlaneBytes), run);
            ptx::griddep_launch_dependents();
        }
    } else {
        ptx::registers_increase<232>();
        const int consumer = warpgroup - 1, warp = threadIdx.x / 32 - 4, lane = threadIdx.x % 32;
        for (int i = threadIdx.x - 128; i < BN; i += 256) shared.bias[i] = bias && i < v.k ? bias[i] : 0.0f;
        sync_consumers();
        ptx::mbarrier_wait(shared.filters, 0);
        uint8_t* rows = shared.rows[warp];
        int* pixels = shared.pixels[warp];
        const int chunks = v.k / 8;  // of a row of y

        PipelineConsumer<kStages> pipeline{shared.pipeline};
        if (consumer == 1) {
            pass_turn(1);
            pipeline.advance();
        }
        for (int run = static_cast<int>(blockIdx.x) + consumer * blocks; run < runs; run += 2 * blocks) {
            float acc[kHeight][BN / 2];
            pipeline.consumer_wait();
            await_turn(consumer);
            const uint8_t* planes = shared.x[pipeline.stage()];
            // A group and a fence each: ptxas bears no other control flow between products than such a loop's.
#pragma unroll 1
            for (int tap = 0, r = 0, s = 0; tap < v.taps(); ++tap) {
                ptx::wgmma_fence();
                multiply_tap<BN>(acc, v, planes, shared.w, r, s);
                ptx::wgmma_commit();
                if (++s == v.s) s = 0, ++r;
            }
            ptx::wgmma_wait<1>();
            if (run + blocks < runs) pass_turn(consumer);
            ptx::wgmma_wait<0>();
            unroll<kHeight>([&](auto h) { ptx::wgmma_keep(acc[h]); });
            pipeline.consumer_release(pipeline.stage());
            pipeline.advance(), pipeline.advance();  // the stage between is the other warpgroup's

            unroll<kHeight>([&](auto h) {
                __syncwarp();  // the rows before are written
                if (lane < 16) pixels[lane] = v.pixel_of(run * kRun + h * 64 + warp % 4 * 16 + lane);
                uint32_t out[BN / 16][4];
                void* to[BN / 16];
                unroll<BN / 16>([&](auto j) {
                    unroll<4>([&](auto i) {  // rows 0-7 and 8-15 of the left 8 columns, then of the right
                        const int column = j * 16 + i / 2 * 8, k = column / 2 + i % 2 * 2;
                        Vec<2> pair = pair_of(acc[h][k], acc[h][k + 1]) + load<2>(shared.bias + column + lane % 4 * 2);
                        unroll<2>([&](auto e) { pair.set(e, relu && pair[e] < 0 ? 0.0f : pair[e]); });
                        out[j][i] = pack_bf16(pair);
                    });
                    // Lane l addresses row l % 16 of the left (l < 16) or right 8 columns.
                    to[j] = rows + lane % 16 * Storage::kPitch + (2 * j + lane / 16) * 16;
                });
                ptx::stmatrix_x4_tile(to, out);
                __syncwarp();
                int row = lane / chunks, chunk = lane % chunks;  // of 16 bytes
                for (int i = lane; i < 16 * chunks; i += 32) {
                    if (const int pixel = pixels[row]; pixel >= 0)
                        *reinterpret_cast<uint4*>(y + int64_t(pixel) * v.k + chunk * 8) =
                            *reinterpret_cast<const uint4*>(rows + row * Storage::kPitch + chunk * 16);
                    for (chunk += 32; chunk >= chunks; chunk -= chunks) ++row;
                }
            });
        }
    }
}

template <int BN>
void launch_width(const ConvProblem& p, const ConvFpropArgs& a) {
    const Folded v(p);
    const uint64_t k = uint64_t(v.taps()) * kChannels;
    launch("conv_fprop.folded_wgmma_sm90",
           LaunchShape{dim3(std::min(v.runs(), planned_sms())), dim3(384), a.stream, sizeof(FpropStorage<BN>)}.with_pdl(), fprop_kernel<BN>,
           planes_map(a.x, v), tiled_map(DType::bf16, a.workspace, {k, uint64_t(v.k)}, {k * 2}, {8, BN}, 0), v, p.bias ? a.bias : nullptr,
           p.relu, static_cast<bf16*>(a.y));
}

void launch_fprop(const ConvProblem& p, const ConvFpropArgs& a) {
    fold_weights(p, a.w, a.workspace, a.stream);
    if (p.k <= 64) return launch_width<64>(p, a);
    launch_width<96>(p, a);
}

size_t workspace(const ConvProblem& p) { return sizeof(bf16) * p.k * Folded(p).taps() * kChannels; }

}  // namespace

extern const ConvFprop fprop = {
    .name = "folded_wgmma_sm90", .refuses = refuses_folded, .workspace = workspace, .launch = launch_fprop, .sm = 90};

}  // namespace wt::conv1_wgmma
