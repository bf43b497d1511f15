// wgrad with the SGD update in its epilogue, on Hopper's tensor cores: dW = dY^T X is never stored;
// weights and momentum are read, updated and written where it comes out of the accumulators
// (kernels/gemm/problem.h, tn with sgd).
//
// For every element of W 8 bytes are read and 10 written (w, v, the bf16 copy), which for fc6 of
// AlexNet is 680 MB: 158 us at 4.3 TB/s, whatever the batch, against 12 us of products at batch 128
// and 98 at 1024. So this is a memory-bound kernel that happens to multiply, and everything serves
// the stream of w and v:
//
//   The consumers take turns (kernels/tile/wgmma_tile.h), each with a tile of 128 x 128: while one
//     multiplies, the other updates.
//   w and v come by TMA, in pieces of 64 rows by 32 columns (128 bytes a row: whole lines), three
//     for each consumer, long before they are wanted. A consumer waits for a piece, updates it
//     where it lies in shared memory, says so and goes on.
//   One thread for each consumer moves its pieces in and out: it stores what is updated, waits
//     until that has been read, and loads the next over it. Nobody else ever waits for memory.
//
//   warpgroup 0, warp 0     copies operands, as in wgmma_sm90.cu    3 stages of 32 KB
//                warp 1, 2  move the pieces of consumer 0, 1        2 x 3 pieces of 20 KB
//                                                                   (w 8, v 8, bf16 copy 4)
//   warpgroup 1, 2          consumers 0, 1
//
// Up to 96 KB an SM are in flight; 4.3 TB/s at a latency of 1 us takes 33 KB.
#include "kernels/common/clusters.h"
#include "kernels/gemm/wgmma_operands.h"

namespace wt::gemm_wgmma {
namespace {

constexpr int kBN = 128, kPieces = 3, kPieceRows = 64, kPieceCols = 32;
using Tile = TileOf<GemmLayout::tn, kBN, 3, 1>;

struct alignas(1024) Piece {
    uint8_t w[kPieceRows * 128], v[kPieceRows * 128];  // swizzled by 128 bytes
    uint8_t w_bf16[kPieceRows * 64];                   // by 64
};
// A piece's first element in W.
struct PieceCoord {
    int row, col;
};

struct SharedStorage {
    Tile::Stage stage[Tile::kStages];
    Piece piece[2][kPieces];  // of each consumer
    Pipeline<Tile::kStages> pipeline;
    // full: w and v are here; empty: they are updated, as each thread says for its part
    Pipeline<kPieces> pieces[2];
    PieceCoord coord[2][kPieces];
    SharedRowSums sums[2];  // of each consumer
};
static_assert(sizeof(SharedStorage) <= kSharedPerBlock);

struct Weights {
    int rows, cols;
    int shift, shift_w_bf16;  // of the maps of w and v, and of the bf16 copy (MatrixMap)
    bool w_bf16;              // whether there is a bf16 copy
    float* bias_grad;         // null: not asked for
    const StepState* state;
    float weight_decay, lr_scale;
};

// Calls f(h, c, coord) for the pieces of a tile that exist, 64 rows at a time, from left to right:
// rows 64 h, columns 32 c of the tile.
template <class F>
__device__ __forceinline__ void for_each_piece(const WorkUnit& w, const Weights& weights, F&& f) {
    unroll<Tile::BM / kPieceRows>([&](auto h) {
        unroll<kBN / kPieceCols>([&](auto c) {
            const PieceCoord coord{w.m * Tile::BM + h * kPieceRows, w.n * kBN + c * kPieceCols};
            if (coord.row < weights.rows && coord.col < weights.cols) f(h, c, coord);
        });
    });
}

// Moves the pieces of one consumer in and out, in the order in which it works.
struct PieceMover {
    SharedStorage& shared;
    const CUtensorMap &map_w, &map_v, &map_w_bf16;
    const Weights& weights;
    const int consumer;
    PipelineState<kPieces> slot{0, 1};  // as a producer's

    // Waits until piece s is updated, and stores it. The shared memory may then be written again.
    __device__ __forceinline__ void store(int s, uint32_t parity) {
        ptx::mbarrier_wait(shared.pieces[consumer].empty[s], parity);
        const Piece& piece = shared.piece[consumer][s];
        const PieceCoord coord = shared.coord[consumer][s];
        ptx::tma_store(map_w, piece.w, weights.shift + coord.col, coord.row);
        ptx::tma_store(map_v, piece.v, weights.shift + coord.col, coord.row);
        if (weights.w_bf16)
            ptx::tma_store(map_w_bf16, piece.w_bf16, weights.shift_w_bf16 + coord.col, coord.row);
        ptx::bulk_commit();
        ptx::bulk_wait_read<0>();
    }
    __device__ __forceinline__ void load(const PieceCoord& coord) {
        Piece& piece = shared.piece[consumer][slot.stage];
        ptx::Mbarrier& full = shared.pieces[consumer].full[slot.stage];
        shared.coord[consumer][slot.stage] = coord;
        ptx::mbarrier_arrive_expect_tx(full, sizeof piece.w + sizeof piece.v);
        ptx::tma_load(piece.w, map_w, full, weights.shift + coord.col, coord.row);
        ptx::tma_load(piece.v, map_v, full, weights.shift + coord.col, coord.row);
    }
    __device__ __forceinline__ void run(const TileSchedule& schedule) {
        int filled = 0;
        const auto next_piece = [&](auto, auto, const PieceCoord& coord) {
            if (filled == kPieces)
                store(slot.stage, slot.parity);
            else
                ++filled;
            load(coord);
            slot.advance();
        };
        for_each_unit(schedule, [&](const WorkUnit& w, int index, bool) {
            if (index % 2 == consumer) for_each_piece(w, weights, next_piece);
        });
        // Store the pieces that are left, the oldest first.
        PipelineState<kPieces> left = slot;
        if (filled < kPieces) left = {0, 0};
        for (; filled > 0; --filled) {
            store(left.stage, left.parity);
            left.advance();
        }
    }
};

// The thread that copies operands.
__device__ __forceinline__ void producer(SharedStorage& shared, const CUtensorMap& map_a,
                                         const CUtensorMap& map_b, const Inputs& in) {
    const Multicast multicast(in.schedule);
    PipelineProducer<Tile::kStages> pipeline{shared.pipeline};
    for_each_unit(in.schedule, [&](const WorkUnit& w) {
        copy_unit<Tile>(shared.stage, pipeline, map_a, map_b, in, w, multicast);
    });
}

// What SGD does to weights, read once a block.
struct SgdRates {
    float lr, momentum, decay;
    __device__ __forceinline__ explicit SgdRates(const Weights& w)
        : lr(w.state->lr * w.lr_scale), momentum(w.state->momentum), decay(w.weight_decay * lr) {}
};

// Updates a thread's part of a piece in shared memory with its 16 gradients: pairs of columns, of
// row `row`, then of row + 8, then 8 columns on.
template <int kFirst, int kHalf>
__device__ __forceinline__ void update_piece(Piece& piece, bool w_bf16, const SgdRates& rates,
                                             const float (&grad)[kHalf]) {
    constexpr int kOwn = kPieceCols / 2;
    const FragmentCoord coord = fragment_coord();
    const auto pair_offset = [&](int q) {
        const int group = group_at_turn(coord.row, q / 2);
        return swizzled<128>(coord.row + q % 2 * 8, group * 2 + coord.col / 4) + coord.col % 4 * 4;
    };
    // The gradients in that order.
    float g[kOwn];
#pragma unroll
    for (int i = 0; i < kOwn; ++i)
        g[i] = group_at_turn(coord.row, 0) ? grad[kFirst + (i ^ kOwn / 2)] : grad[kFirst + i];
    // All are loaded before any is stored, so that loads overlap; between them a plain loop, which
    // a CPU does 8 at a time.
    float x[kOwn], v[kOwn];
    unroll<kOwn / 2>([&](auto q) {
        const int offset = pair_offset(q);
        const float2 pw = *reinterpret_cast<const float2*>(piece.w + offset),
                     pv = *reinterpret_cast<const float2*>(piece.v + offset);
        x[2 * q] = pw.x;
        x[2 * q + 1] = pw.y;
        v[2 * q] = pv.x;
        v[2 * q + 1] = pv.y;
    });
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
        v[i] = rates.momentum * v[i] - rates.decay * x[i] - rates.lr * g[i];
        x[i] += v[i];
    }
    unroll<kOwn / 2>([&](auto q) {
        const int offset = pair_offset(q);
        *reinterpret_cast<float2*>(piece.w + offset) = {x[2 * q], x[2 * q + 1]};
        *reinterpret_cast<float2*>(piece.v + offset) = {v[2 * q], v[2 * q + 1]};
    });
    if (!w_bf16) return;
    __nv_bfloat162 rounded[kOwn / 2];
#pragma unroll
    for (int i = 0; i < kOwn / 2; ++i) rounded[i] = __floats2bfloat162_rn(x[2 * i], x[2 * i + 1]);
    unroll<kOwn / 2>([&](auto q) {
        *reinterpret_cast<__nv_bfloat162*>(
            piece.w_bf16 + swizzled<64>(coord.row + q % 2 * 8, group_at_turn(coord.row, q / 2)) +
            coord.col * 2) = rounded[q];
    });
}

// A consumer warpgroup: every other unit of its block.
__device__ __forceinline__ void consumer(SharedStorage& shared, const Inputs& in,
                                         const Weights& weights, int warpgroup) {
    const SgdRates rates(weights);
    const Multicast multicast(in.schedule);
    PipelineConsumer<Tile::kStages> pipeline{shared.pipeline, multicast.size, multicast.first};
    PipelineConsumer<kPieces> pieces{shared.pieces[warpgroup]};
    if (warpgroup == 1) pass_turn(1);
    for_each_unit<true>(in.schedule, [&](const WorkUnit& w, int index, bool more) {
        if (index % 2 != warpgroup) return pipeline.skip(w.steps);

        // Wait for this warpgroup's turn and for stages, multiply them; meanwhile add up A's rows.
        typename Tile::Accumulators acc;
        const bool sums = weights.bias_grad && w.n == 0;
        RowSummer<Tile> summer;
        const auto add_rows = [&](int stage) {
            if (sums) summer.add(shared.stage[stage], 0);
        };
        await_turn(warpgroup);
        multiply<Tile>(shared.stage, pipeline, 0, w.steps, acc, add_rows);
        if (more) pass_turn(warpgroup);

        // Store the bias gradient.
        if (sums) {
            summer.put(shared.sums[warpgroup], 0);
            sync_warpgroup(warpgroup);
            const int row = threadIdx.x % 128;
            if (w.m * Tile::BM + row < weights.rows)
                weights.bias_grad[w.m * Tile::BM + row] = row_sum(shared.sums[warpgroup], row);
        }

        // Epilogue: update the tile's weights, piece by piece, as they arrive.
        const auto update = [&](auto h, auto c, const PieceCoord&) {
            pieces.consumer_wait();
            update_piece<c * kPieceCols / 2>(shared.piece[warpgroup][pieces.stage()],
                                             weights.w_bf16, rates, acc[h]);
            ptx::fence_proxy_async();
            ptx::mbarrier_arrive(shared.pieces[warpgroup].empty[pieces.stage()]);
            pieces.advance();
        };
        for_each_piece(w, weights, update);
    });
}

__global__ void __launch_bounds__(384, 1)
    gemm_sgd_kernel(const __grid_constant__ CUtensorMap map_a,
                    const __grid_constant__ CUtensorMap map_b,
                    const __grid_constant__ CUtensorMap map_w,
                    const __grid_constant__ CUtensorMap map_v,
                    const __grid_constant__ CUtensorMap map_w_bf16,
                    const __grid_constant__ Inputs in, const __grid_constant__ Weights weights) {
    auto& shared = shared_storage<SharedStorage>();
    const int cluster_size = in.schedule.cluster_size();
    // Prefetch the descriptors, initialise the barriers, wait for the kernel before this one.
    begin_block(cluster_size, [&] {
        ptx::prefetch_tensor_map(map_a);
        ptx::prefetch_tensor_map(map_b);
        ptx::prefetch_tensor_map(map_w);
        ptx::prefetch_tensor_map(map_v);
        shared.pipeline.init(Tile::kConsumerWarps * in.schedule.multicast);
        for (int c = 0; c < 2; ++c) shared.pieces[c].init(128);
    });

    // Move registers from the producer's warpgroup to the consumers', and take the roles.
    const int warpgroup = warpgroup_index();
    if (warpgroup == 0) {
        ptx::registers_decrease<Tile::kProducerRegisters>();
        const int warp = warp_index();
        if (warp < 3 && ptx::elect_one()) {
            if (warp == 0) {
                producer(shared, map_a, map_b, in);
                // The next kernel's blocks may take this one's place as it ends. A block has said
                // so when its first thread has: after the last copy of operands.
                ptx::griddep_launch_dependents();
            } else
                PieceMover{.shared = shared,
                           .map_w = map_w,
                           .map_v = map_v,
                           .map_w_bf16 = map_w_bf16,
                           .weights = weights,
                           .consumer = warp - 1}
                    .run(in.schedule);
        }
        __syncwarp();
    } else {
        ptx::registers_increase<Tile::kConsumerRegisters>();
        consumer(shared, in, weights, warpgroup - 1);
    }
    end_block(cluster_size);
}

LaunchShape shape_of(int cluster_size) {
    return {.grid = dim3(static_cast<unsigned>(cluster_size)),
            .block = dim3(Tile::kThreads),
            .stream = nullptr,
            .shared = sizeof(SharedStorage),
            .cluster = static_cast<unsigned>(cluster_size),
            .pdl = true};
}

}  // namespace

int sgd_clusters_at_once(int cluster_size) {
    return clusters_at_once(shape_of(cluster_size), reinterpret_cast<const void*>(gemm_sgd_kernel));
}

void launch_sgd(const GemmProblem& p, const GemmArgs& g, const Plan& plan) {
    const MatrixMap a = operand_map<Tile::A>(g.a, p.m, p.k, p.lda, 1);
    const MatrixMap b = operand_map<Tile::B>(g.b, p.n, p.k, p.ldb, plan.schedule.multicast);
    const MatrixMap w = matrix_map(DType::f32, g.c, p.n, p.m, p.ldc, kPieceCols, kPieceRows, 128);
    const MatrixMap v =
        matrix_map(DType::f32, g.momentum, p.n, p.m, p.ldc, kPieceCols, kPieceRows, 128);
    MatrixMap w_bf16{};
    if (g.w_bf16)
        w_bf16 = matrix_map(DType::bf16, g.w_bf16, p.n, p.m, p.ldc, kPieceCols, kPieceRows, 64);
    if (w.shift != v.shift)
        throw Error("gemm.wgmma_sm90 with SGD: weights and momentum must lie alike to 16 bytes");
    LaunchShape shape = shape_of(plan.schedule.cluster_size());
    shape.grid = dim3(static_cast<unsigned>(plan.blocks));
    shape.stream = g.stream;
    launch("gemm.wgmma_sm90 sgd", shape, gemm_sgd_kernel, a.map, b.map, w.map, v.map, w_bf16.map,
           Inputs{plan.schedule, a.shift, b.shift},
           Weights{.rows = p.m,
                   .cols = p.n,
                   .shift = w.shift,
                   .shift_w_bf16 = w_bf16.shift,
                   .w_bf16 = g.w_bf16 != nullptr,
                   .bias_grad = p.bias ? g.bias_grad : nullptr,
                   .state = g.state,
                   .weight_decay = g.weight_decay,
                   .lr_scale = g.lr_scale});
}

}  // namespace wt::gemm_wgmma
