// Matrix products on Hopper's tensor cores (draft header)
#include "kernels/gemm/epilogue_of.h"
#include "kernels/gemm/wgmma_operands.h"
#include "kernels/tile/cluster_sum.h"

namespace wt::gemm_wgmma {
namespace {

// Of C, beside its map.
template <class Out>
struct Target {
    Epilogue<Out> epilogue;
    int rows;
    int shift;         // of C's map
    bool staged;       // through shared memory and TMA, else from the threads
    float* bias_grad;  // tn; null: not asked for
};

template <class Tile, class Staged>
struct SharedStorage {
    union {
        typename Tile::Stage stage[Tile::kStages];
        PartialTile<Tile> partial;  // when a unit's stages are read, in splits of k
    };
    typename Staged::Storage staged;
    Pipeline<Tile::kStages> pipeline;
    RowSums sums;
};

// What an element of C goes through (kernels/tile/epilogue.h), rows and columns counted from the unit's first.
template <EpilogueOp F, class Out>
struct ElementEpilogue {
    const Target<Out>& target;
    const int row0, col0;
    uint32_t keep[4] = {};  // dropout: of the thread's four neighbours with the same rows

    // Dropout draws 8 columns at a time, and four threads have them: each draws for every fourth row and group, and tells the others.
    // Byte i of keep[s] is number 4 i + s of 2 rows x kGroups.
    template <int kGroups>
    __device__ __forceinline__ void begin(int row, int col, int step) {
        if constexpr (F == EpilogueOp::dropout) {
            const int lane = threadIdx.x % 32;
            uint32_t bits = 0;
#pragma unroll 1
            for (int i = 0; i < kGroups / 2; ++i) {
                const int number = 4 * i + lane % 4, half = number / kGroups, group = number % kGroups;
                bits |= (keep_bits<8>(target.epilogue, row0 + row + fragment_coord().row + 8 * half, col0 + col + group * step) & 255u) << 8 * i;
            }
            unroll<4>([&](auto s) { keep[s] = __shfl_sync(0xffffffffu, bits, (lane & ~3) + s); });
        }
    }
    // Rows and columns beyond C get something.
    template <class S>
    __device__ __forceinline__ Vec<2> operator()(int row, int col, Vec<2> v, S) const {
        if constexpr (F == EpilogueOp::dropout) {
            constexpr int kNumber = S::kHalf * S::kGroups + S::kGroup;
            v = apply_epilogue<EpilogueOp::plain>(target.epilogue, row0 + row, col0 + col, v);
            const uint32_t bits = keep[kNumber % 4] >> (8 * (kNumber / 4) + threadIdx.x % 4 * 2);
            unroll<2>([&](auto j) { v.set(j, bits >> j & 1 ? v[j] * target.epilogue.keep_scale : 0.0f); });
            return v;
        } else {
            return row0 + row < target.rows ? apply_epilogue<F>(target.epilogue, row0 + row, col0 + col, v) : v;
        }
    }
};

// The same, and stored at once.
template <EpilogueOp F, class Out>
struct DirectStore {
    ElementEpilogue<F, Out> epilogue;

    template <int kGroups>
    __device__ __forceinline__ void begin(int row, int col, int step) {
        epilogue.template begin<kGroups>(row, col, step);
    }
    template <class S>
    __device__ __forceinline__ void operator()(int row, int col, const Vec<2>& v, S spot) const {
        const Epilogue<Out>& e = epilogue.target.epilogue;
        const int to_row = epilogue.row0 + row, to_col = epilogue.col0 + col;
        if (to_row < epilogue.target.rows && to_col < e.cols)
            store_run(e.c + to_row * e.ld + to_col, e.cols - to_col, e.vectorizable, epilogue(row, col, v, spot));
    }
};

// What a consumer does with its rows of a unit.
template <class Tile, class Staged, bool kSums, EpilogueOp F>
struct Consumer {
    using Out = typename Staged::Out;
    SharedStorage<Tile, Staged>& shared;
    const Inputs& in;
    const Target<Out>& target;
    const CUtensorMap& map_c;
    const int consumer;
    PipelineConsumer<Tile::kStages> pipeline;
    int turn = 0;  // of the pieces

    __device__ __forceinline__ void unit(const WorkUnit& w) {
        typename Tile::Accumulators acc;
        const ElementEpilogue<F, Out> epilogue{target, w.m * Tile::BM, w.n * Tile::BN};
        const bool sums = kSums && target.bias_grad && w.n == 0;
        if constexpr (kSums) {
            RowSummer<Tile> summer;
            multiply<Tile>(shared.stage, pipeline, consumer, w.steps, acc, [&](int stage) {
                if (sums) summer.add(shared.stage[stage], consumer);
            });
            if (sums) summer.put(shared.sums, consumer);
        } else {
            multiply<Tile>(shared.stage, pipeline, consumer, w.steps, acc);
        }
        if (!target.staged) {
            const int splits = in.schedule.cluster_splits;
            sum_in_cluster<Tile>(
                shared.partial, consumer, acc, in.schedule.multicast, splits,
                [&] {
                    if (sums && w.split == 0) store_sums(epilogue.row0, splits);
                },
                DirectStore<F, Out>{epilogue});
            return;
        }
        if (sums) {
            sync_warpgroup(consumer);
            store_sums(epilogue.row0, 1);
        }
        unroll<Tile::kHeight>([&](auto h) {
            const int first = Tile::row_of(consumer, h);
            if (epilogue.row0 + first >= target.rows) return;
            store_staged<Staged>(shared.staged, consumer, turn, map_c, epilogue.row0 + first, target.shift + epilogue.col0, acc[h],
                                 ElementEpilogue<F, Out>{target, epilogue.row0 + first, epilogue.col0});
        });
    }

    // bias_grad of 64 rows of m, the splits' sums in order.
    __device__ __forceinline__ void store_sums(int row0, int splits) const {
        const int row = Tile::row_of(consumer, 0) + static_cast<int>(threadIdx.x) % 128;
        if (threadIdx.x % 128 >= 64 || row0 + row >= target.rows) return;
        const int multicast_rank = static_cast<int>(ptx::cluster_rank()) % in.schedule.multicast;
        float sum = 0;
        for (int s = 0; s < splits; ++s)
            sum += row_sum(splits == 1 ? shared.sums : *ptx::map_shared_pointer(&shared.sums, s * in.schedule.multicast + multicast_rank), row);
        target.bias_grad[row0 + row] = sum;
    }
};

template <GemmLayout L, EpilogueOp F, class Out, int BN>
__global__ void __launch_bounds__(384, 1)
    gemm_kernel(const __grid_constant__ CUtensorMap map_a, const __grid_constant__ CUtensorMap map_b, const __grid_constant__ CUtensorMap map_c,
                const __grid_constant__ Inputs in, const __grid_constant__ Target<Out> target) {
    using Tile = TileOf<L, BN>;
    using Staged = StagedStore<Out, BN>;
    auto& shared = shared_storage<SharedStorage<Tile, Staged>>();
    static_assert(sizeof(SharedStorage<Tile, Staged>) <= kSharedPerBlock);
    const bool clustered = in.schedule.cluster_size() > 1;
    if (threadIdx.x == 0) {
        ptx::prefetch_tensor_map(map_a), ptx::prefetch_tensor_map(map_b);
        if (target.staged) ptx::prefetch_tensor_map(map_c);
        shared.pipeline.init(Tile::kConsumerWarps * in.schedule.multicast);
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
        const Sharing share(in.schedule);
        const bool copies = threadIdx.x < 32 && ptx::elect_one();
        PipelineProducer<Tile::kStages> pipeline{shared.pipeline};
        for_each_unit(in.schedule, [&](const WorkUnit& w) {
            if (copies) copy_unit<Tile>(shared.stage, pipeline, map_a, map_b, in, w, share);
            if (!target.staged) {  // the next unit's stages lie where the sums are
                __syncwarp();
                cluster_sync();
                cluster_sync();
            }
        });
        ptx::griddep_launch_dependents();
        __syncwarp();
    } else {
        ptx::registers_increase<Tile::kConsumerRegisters>();
        const Sharing share(in.schedule);
        Consumer<Tile, Staged, L == GemmLayout::tn, F> consumer{shared, in, target, map_c, warpgroup - 1,
                                                                {shared.pipeline, share.multicast, share.first}};
        for_each_unit(in.schedule, [&](const WorkUnit& w) { consumer.unit(w); });
        drain_stores();
    }
    if (clustered) cluster_sync();  // no block ends while others may still tell it that a stage is free
}

template <GemmLayout L, EpilogueOp F, class Out, int BN>
void launch_kernel(const GemmProblem& p, const GemmArgs& g, const Plan& plan) {
    using Tile = TileOf<L, BN>;
    using Staged = StagedStore<Out, BN>;
    const MatrixMap a = operand_map<typename Tile::A>(g.a, p.m, p.k, p.lda, 1);
    const MatrixMap b = operand_map<typename Tile::B>(g.b, p.n, p.k, p.ldb, plan.schedule.multicast);
    Target<Out> t{};
    t.rows = p.m;
    t.bias_grad = L == GemmLayout::tn && p.bias ? g.bias_grad : nullptr;
    t.epilogue = epilogue_of<Out>(p, g);
    t.staged = p.ldc * sizeof(Out) % 16 == 0 && plan.schedule.cluster_splits == 1;
    MatrixMap c{};
    if (t.staged) c = matrix_map(dtype_of<Out>, g.c, p.n, p.m, p.ldc, Staged::kColumns, Staged::kRows, Staged::kSpan);
    t.shift = c.shift;
    launch("gemm.wgmma_sm90",
           LaunchShape{dim3(static_cast<unsigned>(plan.blocks)), dim3(Tile::kThreads), g.stream, sizeof(SharedStorage<Tile, Staged>),
                       static_cast<unsigned>(plan.schedule.cluster_size())}.with_pdl(),
           gemm_kernel<L, F, Out, BN>, a.map, b.map, c.map, Inputs{plan.schedule, a.shift, b.shift}, t);
}

template <GemmLayout L, EpilogueOp F>
void launch_width(const GemmProblem& p, const GemmArgs& g, const Plan& plan) {
    if constexpr (L != GemmLayout::tn) {
        if (p.out == DType::bf16) switch (plan.bn) {
                case 64: return launch_kernel<L, F, bf16, 64>(p, g, plan);
                case 192: return launch_kernel<L, F, bf16, 192>(p, g, plan);
                case 256: return launch_kernel<L, F, bf16, 256>(p, g, plan);
            }
    } else if (p.out == DType::f32 && plan.bn == 256) {
        return launch_kernel<L, F, float, 256>(p, g, plan);
    }
    return p.out == DType::bf16 ? launch_kernel<L, F, bf16, 128>(p, g, plan) : launch_kernel<L, F, float, 128>(p, g, plan);
}

template <GemmLayout L>
void launch_layout(const GemmProblem& p, const GemmArgs& g, const Plan& plan) {
    by_epilogue<L, bf16>(p, [&]<EpilogueOp F>() { launch_width<L, F>(p, g, plan); });
}

void launch_gemm(const GemmProblem& p, const GemmArgs& g) {
    if (p.sgd) return launch_sgd(p, g);
    const Plan plan = choose_tile(p, planned_sms());
    switch (p.layout) {
        case GemmLayout::nt: return launch_layout<GemmLayout::nt>(p, g, plan);
        case GemmLayout::nn: return launch_layout<GemmLayout::nn>(p, g, plan);
        case GemmLayout::tn: return launch_layout<GemmLayout::tn>(p, g, plan);
    }
}

std::string refuses(const GemmProblem& p) {
    if (p.dtype != DType::bf16) return "bf16 operands only";
    if (p.lda % 8 || p.ldb % 8) return "rows of A and B must be multiples of 8 elements (16 bytes) apart";
    if (p.sgd && p.ldc % 8) return "rows of the weights must be multiples of 8 elements apart for SGD";
    return "";
}

}  // namespace

extern const Gemm gemm = {.name = "wgmma_sm90", .refuses = refuses, .workspace = nullptr, .launch = launch_gemm, .sm = 90};

}  // namespace wt::gemm_wgmma
