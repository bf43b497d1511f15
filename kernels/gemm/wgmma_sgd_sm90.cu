// wgrad with the SGD update in its epilogue, on Hopper's tensor cores: dW = dY^T X is never stored; weights and momentum are
// read, updated and written where it comes out of the accumulators (kernels/gemm/problem.h, tn with sgd).
//
// For every element of W 8 bytes are read and 10 written (w, v, the bf16 copy), which for fc6 of AlexNet is 680 MB: 158 us at
// 4.3 TB/s, whatever the batch, against 12 us of products at batch 128 and 98 at 1024. So this is a memory-bound
// kernel that happens to multiply, and everything serves the stream of w and v:
//
//   The consumers take turns (kernels/tile/wgmma_tile.h), each with a tile of 128 x 128: while one multiplies, the other updates.
//   w and v come by TMA, in pieces of 64 rows by 32 columns (128 bytes a row: whole lines), three for each consumer, long
//     before they are wanted. A consumer waits for a piece, updates it in place in shared memory, says so and goes on.
//   One thread for each consumer moves its pieces in and out: it stores what is updated, waits until that has been read,
//     and loads the next into its place. Nobody else ever waits for memory.
//
//   warpgroup 0, warp 0     copies operands, as in wgmma_sm90.cu      3 stages of 32 KB
//                warp 1, 2  move the pieces of consumer 0, 1          2 x 3 pieces of 20 KB (w 8, v 8, bf16 copy 4)
//   warpgroup 1, 2          consumers 0, 1
//
// In flight are up to 96 KB an SM; 4.3 TB/s at a latency of 1 us takes 33 KB.
#include "kernels/gemm/wgmma_operands.h"
#include "kernels/tile/cluster_sum.h"

namespace wt::gemm_wgmma {
namespace {

constexpr int kBN = 128, kPieces = 3, kPieceRows = 64, kPieceCols = 32;
using Tile = TileOf<GemmLayout::tn, kBN, 3, 1>;

struct alignas(1024) Piece {
    uint8_t w[kPieceRows * 128], v[kPieceRows * 128];  // swizzled by 128 bytes
    uint8_t w_bf16[kPieceRows * 64];                      // by 64
};
struct PieceCoord {
    int row, col;  // of its first element in W
};

struct SharedStorage {
    Tile::Stage stage[Tile::kStages];
    Piece piece[2][kPieces];  // of each consumer
    Pipeline<Tile::kStages> pipeline;
    Pipeline<kPieces> pieces[2];  // full: w and v are here; empty: they are updated, as each thread says for its part
    PieceCoord coord[2][kPieces];
    RowSums sums[2];  // of each consumer
};
static_assert(sizeof(SharedStorage) <= kSharedPerBlock);

struct Weights {
    int rows, cols;
    int shift, shift_w_bf16;  // of the maps of w and v, and of the bf16 copy
    bool w_bf16;           // there is a bf16 copy
    float* bias_grad;      // null: not asked for
    const StepState* state;
    float weight_decay, lr_scale;
};

// Pieces of a tile: 64 rows at a time, from left to right, those that exist. Calls f(h, c, coord): rows 64 h, columns 32 c of the tile.
template <class F>
__device__ __forceinline__ void for_each_piece(const WorkUnit& w, const Weights& weights, F&& f) {
    unroll<Tile::BM / kPieceRows>([&](auto h) {
        unroll<kBN / kPieceCols>([&](auto c) {
            const PieceCoord at{w.m * Tile::BM + h * kPieceRows, w.n * kBN + c * kPieceCols};
            if (at.row < weights.rows && at.col < weights.cols) f(h, c, at);
        });
    });
}

// The units that a consumer takes: every other one of its block. Calls f(unit, index, whether there is one after it).
template <class F>
__device__ __forceinline__ void for_each_turn(const TileSchedule& schedule, F&& f) {
    const int cluster_size = schedule.cluster_size(), rank = static_cast<int>(blockIdx.x) % cluster_size;
    const int first = static_cast<int>(blockIdx.x) / cluster_size, clusters = static_cast<int>(gridDim.x) / cluster_size, units = schedule.units();
    int index = 0;
    for (int u = first; u < units; u += clusters, ++index) f(schedule.unit(u, rank), index, u + clusters < units);
}

// Moves the pieces of one consumer in and out, in the order in which it works.
struct PieceMover {
    SharedStorage& shared;
    const CUtensorMap &map_w, &map_v, &map_w_bf16;
    const Weights& weights;
    const int consumer;
    PipelineState<kPieces> slot{0, 1};  // as a producer's

    // When the piece is updated, out with it. Its place may then be written again.
    __device__ __forceinline__ void put(int s, uint32_t parity) {
        ptx::mbarrier_wait(shared.pieces[consumer].empty[s], parity);
        const Piece& piece = shared.piece[consumer][s];
        const PieceCoord at = shared.coord[consumer][s];
        ptx::tma_store(map_w, piece.w, weights.shift + at.col, at.row);
        ptx::tma_store(map_v, piece.v, weights.shift + at.col, at.row);
        if (weights.w_bf16) ptx::tma_store(map_w_bf16, piece.w_bf16, weights.shift_w_bf16 + at.col, at.row);
        ptx::bulk_commit();
        ptx::bulk_wait_read<0>();
    }
    __device__ __forceinline__ void get(const PieceCoord& at) {
        Piece& piece = shared.piece[consumer][slot.stage];
        ptx::Mbarrier& full = shared.pieces[consumer].full[slot.stage];
        shared.coord[consumer][slot.stage] = at;
        ptx::mbarrier_arrive_expect_tx(full, sizeof piece.w + sizeof piece.v);
        ptx::tma_load(piece.w, map_w, full, weights.shift + at.col, at.row);
        ptx::tma_load(piece.v, map_v, full, weights.shift + at.col, at.row);
    }
    __device__ __forceinline__ void run(const TileSchedule& schedule) {
        int filled = 0;
        for_each_turn(schedule, [&](const WorkUnit& w, int index, bool) {
            if (index % 2 != consumer) return;
            for_each_piece(w, weights, [&](auto, auto, const PieceCoord& at) {
                if (filled == kPieces)
                    put(slot.stage, slot.parity);
                else
                    ++filled;
                get(at);
                slot.advance();
            });
        });
        PipelineState<kPieces> left = slot;  // the oldest that is still here
        if (filled < kPieces) left = {0, 0};
        for (; filled > 0; --filled) {
            put(left.stage, left.parity);
            left.advance();
        }
    }
};

__global__ void __launch_bounds__(384, 1)
    gemm_sgd_kernel(const __grid_constant__ CUtensorMap map_a, const __grid_constant__ CUtensorMap map_b, const __grid_constant__ CUtensorMap map_w,
                    const __grid_constant__ CUtensorMap map_v, const __grid_constant__ CUtensorMap map_w_bf16, const __grid_constant__ Inputs in,
                    const __grid_constant__ Weights weights) {
    auto& shared = shared_storage<SharedStorage>();
    const Sharing share(in.schedule);
    const bool clustered = in.schedule.cluster_size() > 1;
    if (threadIdx.x == 0) {
        ptx::prefetch_tensor_map(map_a), ptx::prefetch_tensor_map(map_b), ptx::prefetch_tensor_map(map_w), ptx::prefetch_tensor_map(map_v);
        shared.pipeline.init(Tile::kConsumerWarps * share.multicast);
        for (int c = 0; c < 2; ++c) shared.pieces[c].init(128);
        ptx::fence_mbarrier_init();
    }
    if (clustered)
        cluster_sync();
    else
        __syncthreads();
    ptx::griddep_wait();

    const int warpgroup = warpgroup_index();
    if (warpgroup == 0) {
        ptx::registers_decrease<Tile::kProducerRegisters>();
        const int warp = static_cast<int>(threadIdx.x) / 32;
        if (warp < 3 && ptx::elect_one()) {
            if (warp == 0) {
                PipelineProducer<Tile::kStages> pipeline{shared.pipeline};
                for_each_unit(in.schedule, [&](const WorkUnit& w) { copy_unit<Tile>(shared.stage, pipeline, map_a, map_b, in, w, share); });
            } else {
                PieceMover{shared, map_w, map_v, map_w_bf16, weights, warp - 1}.run(in.schedule);
            }
        }
        ptx::griddep_launch_dependents();
        __syncwarp();
    } else {
        ptx::registers_increase<Tile::kConsumerRegisters>();
        const int consumer = warpgroup - 1;
        const FragmentCoord coord = fragment_coord();
        const float lr = weights.state->lr * weights.lr_scale, momentum = weights.state->momentum, decay = weights.weight_decay * lr;
        PipelineConsumer<Tile::kStages> pipeline{shared.pipeline, share.multicast, share.first};
        PipelineConsumer<kPieces> pieces{shared.pieces[consumer]};
        if (consumer == 1) pass_turn(1);
        for_each_turn(in.schedule, [&](const WorkUnit& w, int index, bool more) {
            if (index % 2 != consumer) return pipeline.skip(w.steps);
            typename Tile::Accumulators acc;
            const bool sums = weights.bias_grad && w.n == 0;
            RowSummer<Tile> summer;
            await_turn(consumer);
            multiply<Tile>(shared.stage, pipeline, 0, w.steps, acc, [&](int stage) {
                if (sums) summer.add(shared.stage[stage], 0);
            });
            if (more) pass_turn(consumer);
            if (sums) {
                summer.put(shared.sums[consumer], 0);
                sync_warpgroup(consumer);
                const int row = threadIdx.x % 128;
                if (w.m * Tile::BM + row < weights.rows) weights.bias_grad[w.m * Tile::BM + row] = row_sum(shared.sums[consumer], row);
            }
            for_each_piece(w, weights, [&](auto h, auto c, const PieceCoord&) {
                pieces.consumer_wait();
                Piece& piece = shared.piece[consumer][pieces.stage()];
                // Pairs of columns: of row `row`, then of row + 8, then 8 columns on. All are loaded before any is stored, so that
                // loads overlap; between them a plain loop, which a CPU does 8 at a time.
                constexpr int kMine = kPieceCols / 2;
                float x[kMine], v[kMine];
                unroll<kMine / 2>([&](auto q) {
                    const int at = swizzled<128>(coord.row + q % 2 * 8, q / 2 * 2 + coord.col / 4) + coord.col % 4 * 4;
                    const float2 pw = *reinterpret_cast<const float2*>(piece.w + at), pv = *reinterpret_cast<const float2*>(piece.v + at);
                    x[2 * q] = pw.x, x[2 * q + 1] = pw.y;
                    v[2 * q] = pv.x, v[2 * q + 1] = pv.y;
                });
#pragma unroll
                for (int i = 0; i < kMine; ++i) {
                    v[i] = momentum * v[i] - decay * x[i] - lr * acc[h][c * kMine + i];
                    x[i] += v[i];
                }
                unroll<kMine / 2>([&](auto q) {
                    const int at = swizzled<128>(coord.row + q % 2 * 8, q / 2 * 2 + coord.col / 4) + coord.col % 4 * 4;
                    *reinterpret_cast<float2*>(piece.w + at) = {x[2 * q], x[2 * q + 1]};
                    *reinterpret_cast<float2*>(piece.v + at) = {v[2 * q], v[2 * q + 1]};
                });
                if (weights.w_bf16) {
                    __nv_bfloat162 rounded[kMine / 2];
#pragma unroll
                    for (int i = 0; i < kMine / 2; ++i) rounded[i] = __floats2bfloat162_rn(x[2 * i], x[2 * i + 1]);
                    unroll<kMine / 2>([&](auto q) {
                        *reinterpret_cast<__nv_bfloat162*>(piece.w_bf16 + swizzled<64>(coord.row + q % 2 * 8, q / 2) + coord.col * 2) = rounded[q];
                    });
                }
                ptx::fence_proxy_async();
                ptx::mbarrier_arrive(shared.pieces[consumer].empty[pieces.stage()]);
                pieces.advance();
            });
        });
    }
    if (clustered) cluster_sync();  // no block ends while others may still tell it that a stage is free
}

}  // namespace

void launch_sgd(const GemmProblem& p, const GemmArgs& g) {
    const Plan plan = choose_tile(p, planned_sms());
    const MatrixMap a = operand_map<Tile::A>(g.a, p.m, p.k, p.lda, 1);
    const MatrixMap b = operand_map<Tile::B>(g.b, p.n, p.k, p.ldb, plan.schedule.multicast);
    const MatrixMap w = matrix_map(DType::f32, g.c, p.n, p.m, p.ldc, kPieceCols, kPieceRows, 128);
    const MatrixMap v = matrix_map(DType::f32, g.momentum, p.n, p.m, p.ldc, kPieceCols, kPieceRows, 128);
    MatrixMap w_bf16{};
    if (g.w_bf16) w_bf16 = matrix_map(DType::bf16, g.w_bf16, p.n, p.m, p.ldc, kPieceCols, kPieceRows, 64);
    if (w.shift != v.shift) throw Error("gemm.wgmma_sm90 with SGD: weights and momentum must lie alike to 16 bytes");
    launch("gemm.wgmma_sm90 sgd",
           LaunchShape{dim3(static_cast<unsigned>(plan.blocks)), dim3(Tile::kThreads), g.stream, sizeof(SharedStorage),
                       static_cast<unsigned>(plan.schedule.cluster_size())}.with_pdl(),
           gemm_sgd_kernel, a.map, b.map, w.map, v.map, w_bf16.map, Inputs{plan.schedule, a.shift, b.shift},
           Weights{p.m, p.n, w.shift, w_bf16.shift, g.w_bf16 != nullptr, p.bias ? g.bias_grad : nullptr, g.state, g.weight_decay, g.lr_scale});
}

}  // namespace wt::gemm_wgmma
