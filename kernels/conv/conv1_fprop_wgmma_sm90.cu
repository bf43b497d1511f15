// First layer forward on Hopper, from folded input (conv1_wgmma.h): all filters, 96 x 432 bf16 in 83 KB, stay in shared
// memory for the whole kernel, only x streams. Two warpgroups work on runs of 128 positions in turn, each on its own,
// so that one stores while the other multiplies.
//
// Filters, too, lie in planes of 8 k (channel of a block, at a tap): 54 of them, 16 bytes a filter. They come from a kernel
// that folds w (fold_weights.h).
//
// Outputs at the positions that are none are left out, so that a tile's rows are not evenly spaced in y; a warp brings 16 rows
// through shared memory and writes whole lines of those that exist.
//
// alexnet, batch 256: 6,498 runs on 132 SMs, 27 x 2 products of 48 clocks each: 2592 clocks a run; wgmma reads 107 of 128
// bytes a clock of shared memory, x needs 9 bytes a clock from L2. 64 GFLOP as folded, with the positions that are
// no outputs 69: 87 us at 790 TFLOP/s; memory, x and y once, 229 MB: 53 us at 4.3 TB/s. Predicted, not measured.
#include "kernels/conv/conv1_wgmma.h"
#include "kernels/conv/fold_weights.h"

namespace wt::conv1_wgmma {

namespace {

constexpr int kStages = 4;

template <int BN>
struct FpropStorage {
    static constexpr int kPitch = (BN + 8) * 2;  // of a row on its way to y: 16-byte accesses of 8 rows meet no bank twice
    alignas(1024) uint8_t w[kMostTaps * kPlanes * BN * 16];
    alignas(1024) uint8_t x[kStages][kPlanes * kPlaneBytes];
    alignas(16) uint8_t rows[8][16 * kPitch];  // of a warp
    float bias[BN];
    Ring<kStages> ring;
    ptx::Mbarrier filters;
};

template <int BN>
__global__ void __launch_bounds__(384, 1)
    fprop_kernel(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap w, const __grid_constant__ Folded v,
                 const float* bias, bool relu, bf16* y) {
    using Storage = FpropStorage<BN>;
    Storage& shared = shared_storage<Storage>();
    const int warpgroup = warpgroup_index();
    if (threadIdx.x == 0) ptx::mbarrier_init(shared.filters, 1);
    begin_block(shared.ring, 4, 1);

    if (warpgroup == 0) {
        ptx::registers_decrease<40>();
        if (threadIdx.x == 0) {
            const int planes = v.taps() * kPlanes;
            ptx::mbarrier_arrive_expect_tx(shared.filters, planes * BN * 16);
            for (int i = 0; i < planes; ++i) ptx::tma_load(shared.w + i * BN * 16, w, shared.filters, i * 8, 0);
            RingProducer<kStages> ring{shared.ring};
            for (int run = blockIdx.x; run < v.runs(); run += gridDim.x, ring.advance())
                load_planes(shared.x[ring.stage()], x, ring.acquire(kPlanes * kPlaneBytes), run);
            ptx::griddep_launch_dependents();
        }
    } else {
        ptx::registers_increase<232>();
        const int consumer = warpgroup - 1, warp = threadIdx.x / 32 - 4, lane = threadIdx.x % 32;
        for (int i = threadIdx.x - 128; i < BN; i += 256) shared.bias[i] = bias && i < v.k ? bias[i] : 0.0f;
        sync_consumers();
        ptx::mbarrier_wait(shared.filters, 0);
        uint8_t* rows = shared.rows[warp];
        const int chunks = v.k / 8;  // of 16 bytes, of a row of y

        RingConsumer<kStages> ring{shared.ring};
        if (consumer) ring.advance();
        for (int run = blockIdx.x + consumer * gridDim.x; run < v.runs(); run += 2 * gridDim.x) {
            ring.wait();
            const uint8_t* planes = shared.x[ring.stage()];
            float acc[2][BN / 2];
            ptx::wgmma_fence();
            for (int r = 0; r < v.r; ++r)
                for (int s = 0; s < v.s; ++s) {
                    const uint64_t a = ptx::wgmma_descriptor(planes + (r * v.w + s) * 16, kPlaneBytes, 128, ptx::Swizzle::none);
                    const uint64_t b = ptx::wgmma_descriptor(shared.w + (r * v.s + s) * kPlanes * BN * 16, BN * 16, 128, ptx::Swizzle::none);
                    unroll<kChannels / 16>([&](auto j) {
                        unroll<2>([&](auto h) {
                            ptx::wgmma_bf16<BN>(acc[h], ptx::wgmma_advance(a, j * 2 * kPlaneBytes + h * 64 * 16),
                                                ptx::wgmma_advance(b, j * 2 * BN * 16), r > 0 || s > 0 || j > 0);
                        });
                    });
                }
            ptx::wgmma_commit();
            ptx::wgmma_wait<0>();
            unroll<2>([&](auto h) { ptx::wgmma_keep(acc[h]); });
            ring.release(ring.stage());
            ring.advance(), ring.advance();  // the stage between is the other warpgroup's

            unroll<2>([&](auto h) {
                __syncwarp();  // the rows before are written
                unroll<BN / 16>([&](auto j) {
                    uint32_t out[4];
                    unroll<4>([&](auto i) {  // rows 0-7 and 8-15 of the left 8 columns, then of the right
                        const int column = j * 16 + i / 2 * 8, k = column / 2 + i % 2 * 2;
                        Vec<2> pair;
                        unroll<2>([&](auto e) {
                            const float f = acc[h][k + e] + shared.bias[column + lane % 4 * 2 + e];
                            pair.set(e, relu && f < 0 ? 0 : f);
                        });
                        out[i] = pack_bf16(pair);
                    });
                    ptx::stmatrix_x4(rows + lane % 16 * Storage::kPitch + (2 * j + lane / 16) * 16, out);
                });
                __syncwarp();
                const int mine = v.pixel_of(run * kRun + h * 64 + warp % 4 * 16 + lane % 16);
                for (int i = lane; i - lane < 16 * chunks; i += 32) {
                    const int row = i / chunks, pixel = __shfl_sync(0xffffffffu, mine, row % 16);
                    if (i < 16 * chunks && pixel >= 0)
                        *reinterpret_cast<uint4*>(y + int64_t(pixel) * v.k + i % chunks * 8) =
                            *reinterpret_cast<const uint4*>(rows + row * Storage::kPitch + i % chunks * 16);
                }
            });
        }
    }
}

template <int BN>
void launch_width(const ConvProblem& p, const ConvFpropArgs& a) {
    const Folded v(p);
    const uint64_t k = uint64_t(v.taps()) * kChannels;
    launch("conv_fprop.folded_wgmma_sm90", {dim3(std::min(v.runs(), kSMs)), dim3(384), a.stream, sizeof(FpropStorage<BN>)}, fprop_kernel<BN>,
           planes_map(a.x, v), tiled_map(DType::bf16, a.workspace, {k, uint64_t(v.k)}, {k * 2}, {8, BN}, 0), v, p.bias ? a.bias : nullptr,
           p.relu, static_cast<bf16*>(a.y));
}

void launch_fprop(const ConvProblem& p, const ConvFpropArgs& a) {
    fold_weights(p, static_cast<const bf16*>(a.w), static_cast<bf16*>(a.workspace), a.stream);
    if (p.k <= 64) return launch_width<64>(p, a);
    launch_width<96>(p, a);
}

size_t workspace(const ConvProblem& p) { return sizeof(bf16) * p.k * Folded(p).taps() * kChannels; }

}  // namespace

extern const ConvFprop fprop = {
    .name = "folded_wgmma_sm90", .refuses = refuses_folded, .workspace = workspace, .launch = launch_fprop, .sm = 90};

}  // namespace wt::conv1_wgmma
