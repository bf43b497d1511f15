// Matrix products on Hopper's tensor cores: TMA copies tiles of A and B into a pipeline of stages,
// wgmma multiplies them, and the sums leave with the layer's epilogue (bias, ReLU, dropout, or the
// gradient of ReLU).
//
// Roles. A block is three warpgroups, persistent: it takes units of work until there are none
// (kernels/tile/scheduler.h).
//   warpgroup 0     one thread copies; it is up to kStages stages ahead, into the next unit too
//   warpgroup 1, 2  consumers: each multiplies 64 of the tile's 128 rows and stores them
//
// Tiles are 128 x 64 to 128 x 256, 64 of k a stage; a stage of 128 x 256 is 48 KB, and 4 fit beside
// 32 KB for the store. wgmma_plan.h chooses the width, and of what a cluster consists:
//   multicast  two blocks along m, which have B in common: each copies half of it into both
//   splits     2, 4 or 8 blocks that divide k of one tile, where there are too few tiles to fill
//              the machine (fc layers at small batches). Their sums meet in distributed shared
//              memory, in order (kernels/tile/cluster_sum.h): no workspace, no second kernel, the
//              same bits in every run
//
// C leaves through shared memory by TMA where it can (`staged`: rows of whole 16 bytes, no splits),
// so that the next unit's products run beside the stores; else each thread stores its pairs. tn
// also adds up A's rows for the bias gradient.
//
// Expected by wgmma_plan.h's model, not measured. A stage of 128 x 256 x 64 takes the tensor cores
// 1,024 clocks, 1,229 with the power that they get, and L2 819 in a pair of blocks (1,229 alone).
// Forward of AlexNet's fc6 at batch 1024 is 128 tiles, one wave of 144 stages: 177,000 clocks and
// 4,400 of start and epilogue, 103 us at 1.755 GHz. At batch 128 it is 16 tiles of 128 x 256 in 8
// splits, each 18 stages of 1,229 clocks (13 us); reading the weights' 75 MB takes longer, 18 us.
#include <array>

#include "kernels/common/clusters.h"
#include "kernels/gemm/epilogue_of.h"
#include "kernels/gemm/wgmma_operands.h"
#include "kernels/tile/cluster_sum.h"

namespace wt::gemm_wgmma {
namespace {

// What a kernel is told of C beside its map.
template <class Out>
struct Target {
    Epilogue<Out> epilogue;
    int rows;
    int shift;         // of C's map (MatrixMap)
    bool staged;       // C goes through shared memory and TMA, else from the threads
    float* bias_grad;  // tn; null: not asked for
};

template <class Tile, class Staged>
struct SharedStorage {
    union {
        typename Tile::Stage stage[Tile::kStages];
        PartialTile<Tile> partial;  // of a unit whose stages have been read, where k is split
    };
    typename Staged::Storage staged;
    Pipeline<Tile::kStages> pipeline;
    SharedRowSums sums;
};

// What an element of C goes through (kernels/tile/epilogue.h); rows and columns are counted from
// row0 and col0.
template <EpilogueOp F, class Out>
struct ElementEpilogue {
    const Target<Out>& target;
    const int row0, col0;
    // plain, dropout: the biases of the thread's columns, loaded together and once for both of its
    // rows: between the stores to shared memory the compiler may not move loads
    static constexpr int kMaxGroups = 8;
    Vec<2> bias[kMaxGroups] = {};
    // drelu: the mask of these columns in both rows, likewise
    Vec<2> mask[2][F == EpilogueOp::drelu ? kMaxGroups : 1] = {};
    // dropout: bits drawn by the thread and its three neighbours with the same rows
    uint32_t keep[4] = {};

    // Dropout draws 8 columns at a time, and four threads have them: each draws for every fourth
    // (row, group), and tells the others. Byte i of keep[s] is number 4 i + s of 2 rows x kGroups.
    template <int kGroups>
    __device__ __forceinline__ void begin(int row, int col, int step) {
        if constexpr (F == EpilogueOp::plain || F == EpilogueOp::dropout) {
            static_assert(kGroups <= kMaxGroups);
            const Epilogue<Out>& e = target.epilogue;
            unroll<kGroups>([&](auto group) {
                const int column = col0 + col + group * step + fragment_coord().col;
                unroll<2>([&](auto j) {
                    bias[group].set(j, e.bias && column + j < e.cols ? e.bias[column + j] : 0.0f);
                });
            });
        }
        if constexpr (F == EpilogueOp::drelu) {
            static_assert(kGroups <= kMaxGroups);
            const Epilogue<Out>& e = target.epilogue;
            const FragmentCoord coord = fragment_coord();
            const int first = col0 + col + coord.col;
            const bool whole = e.vectorizable && col0 + col + (kGroups - 1) * step + 8 <= e.cols;
            unroll<2>([&](auto half) {  // a row beyond C has the last one's mask, and is not stored
                const int of_row = min(row0 + row + coord.row + 8 * half, target.rows - 1);
                const Out* from = e.mask + of_row * e.ld_mask + first;
                if (whole)
                    unroll<kGroups>(
                        [&](auto group) { mask[half][group] = load<2>(from + group * step); });
                else
                    unroll<kGroups>([&](auto group) {
                        mask[half][group] =
                            load_run<2>(from + group * step, e.cols - first - group * step, false);
                    });
            });
        }
        if constexpr (F == EpilogueOp::dropout) {
            const int lane = threadIdx.x % 32;
            uint32_t bits = 0;
#pragma unroll 1
            for (int i = 0; i < kGroups / 2; ++i) {
                const int number = 4 * i + lane % 4, half = number / kGroups,
                          group = number % kGroups;
                bits |= (keep_bits<8>(target.epilogue, row0 + row + fragment_coord().row + 8 * half,
                                      col0 + col + group * step) &
                         255u)
                        << 8 * i;
            }
            unroll<4>([&](auto s) { keep[s] = __shfl_sync(0xffffffffu, bits, (lane & ~3) + s); });
        }
    }
    // The value for rows and columns beyond C does not matter: it is not stored.
    template <class S>
    __device__ __forceinline__ Vec<2> operator()(int, int, Vec<2> v, S) const {
        if constexpr (F == EpilogueOp::plain || F == EpilogueOp::dropout) {
            v = v + bias[S::kGroup];
            unroll<2>([&](auto j) { v.set(j, target.epilogue.relu && v[j] < 0 ? 0 : v[j]); });
        }
        if constexpr (F == EpilogueOp::plain) {
            return v;
        } else if constexpr (F == EpilogueOp::dropout) {
            constexpr int kNumber = S::kHalf * S::kGroups + S::kGroup;
            const uint32_t bits = keep[kNumber % 4] >> (8 * (kNumber / 4) + threadIdx.x % 4 * 2);
            unroll<2>([&](auto j) {
                v.set(j, bits >> j & 1 ? v[j] * target.epilogue.keep_scale : 0.0f);
            });
            return v;
        } else {
            static_assert(F == EpilogueOp::drelu);
            const Vec<2>& m = mask[S::kHalf][S::kGroup];
            unroll<2>([&](auto j) { v.set(j, m[j] > 0 ? v[j] * target.epilogue.mask_scale : 0); });
            return v;
        }
    }
};

// Applies ElementEpilogue, and stores at once.
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
            store_run(e.c + to_row * e.ld + to_col, e.cols - to_col, e.vectorizable,
                      epilogue(row, col, v, spot));
    }
};

// The producer's warpgroup: its first warp's elected thread starts all the block's copies. It is
// elected where it branches off, in each unit anew (ptx::elect_one says why).
template <class Tile, class Staged>
__device__ __forceinline__ void producer(SharedStorage<Tile, Staged>& shared,
                                         const CUtensorMap& map_a, const CUtensorMap& map_b,
                                         const Inputs& in, bool staged) {
    const Multicast multicast(in.schedule);
    const int warp = warp_index();
    PipelineProducer<Tile::kStages> pipeline{shared.pipeline};
    for_each_unit(in.schedule, [&](const WorkUnit& w) {
        if (warp == 0 && ptx::elect_one())
            copy_unit<Tile>(shared.stage, pipeline, map_a, map_b, in, w, multicast);
        if (!staged) {  // the next unit's stages lie where the consumers' sums are (sum_in_cluster)
            __syncwarp();
            meet_in_sum();
        }
    });
    // The next kernel's blocks may take this one's place as it ends. A block has said so when its
    // first thread has: the one that copies, so that it is after the last copy.
    if (warp == 0 && ptx::elect_one()) ptx::griddep_launch_dependents();
    __syncwarp();
}

// A consumer warpgroup: its rows of one unit after the other.
template <class Tile, class Staged, bool kSums, EpilogueOp F>
struct Consumer {
    using Out = typename Staged::Out;
    SharedStorage<Tile, Staged>& shared;
    const Inputs& in;
    const Target<Out>& target;
    const CUtensorMap& map_c;
    const int consumer;
    PipelineConsumer<Tile::kStages> pipeline;
    int turn = 0;  // of the store's pieces

    __device__ __forceinline__ void run() {
        for_each_unit<true>(in.schedule, [&](const WorkUnit& w) { unit(w); });
        drain_stores();
    }

    __device__ __forceinline__ void unit(const WorkUnit& w) {
        // Wait for stages, multiply them; meanwhile add up A's rows.
        typename Tile::Accumulators acc;
        const bool sums = kSums && target.bias_grad && w.n == 0;
        if constexpr (kSums) {
            RowSummer<Tile> summer;
            const auto add_rows = [&](int stage) {
                if (sums) summer.add(shared.stage[stage], consumer);
            };
            multiply<Tile>(shared.stage, pipeline, consumer, w.steps, acc, add_rows);
            if (sums) summer.put(shared.sums, consumer);
        } else {
            multiply<Tile>(shared.stage, pipeline, consumer, w.steps, acc);
        }

        // Epilogue, on the way to C.
        if (target.staged)
            store_by_tma(w, acc, sums);
        else
            store_directly(w, acc, sums);
    }

    // Writes the sums to shared memory, from where TMA takes pieces of C while the next unit is
    // multiplied.
    __device__ __forceinline__ void store_by_tma(const WorkUnit& w,
                                                 const typename Tile::Accumulators& acc,
                                                 bool sums) {
        const int row0 = w.m * Tile::BM, col0 = w.n * Tile::BN;
        if (sums) {
            sync_warpgroup(consumer);
            store_sums(row0, 1);
        }
        unroll<Tile::kHeight>([&](auto h) {
            const int row = row0 + Tile::row_of(consumer, h);
            if (row >= target.rows) return;
            store_staged<Staged>(shared.staged, consumer, turn, map_c, row, target.shift + col0,
                                 acc[h], ElementEpilogue<F, Out>{target, row, col0});
        });
    }

    // Adds up the splits of k, and stores from the threads.
    __device__ __forceinline__ void store_directly(const WorkUnit& w,
                                                   const typename Tile::Accumulators& acc,
                                                   bool sums) {
        const int row0 = w.m * Tile::BM, col0 = w.n * Tile::BN, splits = in.schedule.cluster_splits;
        const auto between = [&] {
            if (sums && w.split == 0) store_sums(row0, splits);
        };
        sum_in_cluster<Tile>(shared.partial, consumer, acc, in.schedule.multicast, splits, between,
                             DirectStore<F, Out>{ElementEpilogue<F, Out>{target, row0, col0}});
    }

    // Stores bias_grad of 64 rows of m, adding the splits' sums in order.
    __device__ __forceinline__ void store_sums(int row0, int splits) const {
        const int row = Tile::row_of(consumer, 0) + static_cast<int>(threadIdx.x) % 128;
        if (threadIdx.x % 128 >= 64 || row0 + row >= target.rows) return;
        const int multicast = in.schedule.multicast,
                  multicast_rank = static_cast<int>(ptx::cluster_rank()) % multicast;
        float sum = 0;
        for (int s = 0; s < splits; ++s)
            sum += row_sum(splits == 1 ? shared.sums
                                       : *ptx::map_shared_pointer(&shared.sums,
                                                                  s * multicast + multicast_rank),
                           row);
        target.bias_grad[row0 + row] = sum;
    }
};

template <GemmLayout L, EpilogueOp F, class Out, int BN>
__global__ void __launch_bounds__(384, 1)
    gemm_kernel(const __grid_constant__ CUtensorMap map_a,
                const __grid_constant__ CUtensorMap map_b,
                const __grid_constant__ CUtensorMap map_c, const __grid_constant__ Inputs in,
                const __grid_constant__ Target<Out> target) {
    using Tile = TileOf<L, BN>;
    using Staged = StagedStore<Out, BN>;
    static_assert(sizeof(SharedStorage<Tile, Staged>) <= kSharedPerBlock);
    auto& shared = shared_storage<SharedStorage<Tile, Staged>>();
    const int cluster_size = in.schedule.cluster_size();
    // Prefetch the descriptors, initialise the barriers, wait for the kernel before this one.
    begin_block(cluster_size, [&] {
        ptx::prefetch_tensor_map(map_a);
        ptx::prefetch_tensor_map(map_b);
        if (target.staged) ptx::prefetch_tensor_map(map_c);
        shared.pipeline.init(Tile::kConsumerWarps * in.schedule.multicast);
    });

    // Move registers from the producer's warpgroup to the consumers', and take the roles.
    const int warpgroup = warpgroup_index();
    if (warpgroup == 0) {
        ptx::registers_decrease<Tile::kProducerRegisters>();
        producer(shared, map_a, map_b, in, target.staged);
    } else {
        ptx::registers_increase<Tile::kConsumerRegisters>();
        const Multicast multicast(in.schedule);
        Consumer<Tile, Staged, L == GemmLayout::tn, F> consumer{
            .shared = shared,
            .in = in,
            .target = target,
            .map_c = map_c,
            .consumer = warpgroup - 1,
            .pipeline = {shared.pipeline, multicast.size, multicast.first}};
        consumer.run();
    }
    end_block(cluster_size);
}

// The launch of a kernel: of one block an SM and so many of these to a cluster.
template <GemmLayout L, EpilogueOp F, class Out, int BN>
LaunchShape shape_of(int cluster_size) {
    return {.grid = dim3(static_cast<unsigned>(cluster_size)),
            .block = dim3(TileOf<L, BN>::kThreads),
            .stream = nullptr,
            .shared = sizeof(SharedStorage<TileOf<L, BN>, StagedStore<Out, BN>>),
            .cluster = static_cast<unsigned>(cluster_size),
            .pdl = true};
}

template <GemmLayout L, EpilogueOp F, class Out, int BN>
void launch_kernel(const GemmProblem& p, const GemmArgs& g, const Plan& plan) {
    using Tile = TileOf<L, BN>;
    using Staged = StagedStore<Out, BN>;
    const MatrixMap a = operand_map<typename Tile::A>(g.a, p.m, p.k, p.lda, 1);
    const MatrixMap b =
        operand_map<typename Tile::B>(g.b, p.n, p.k, p.ldb, plan.schedule.multicast);
    Target<Out> t{};
    t.rows = p.m;
    t.bias_grad = L == GemmLayout::tn && p.bias ? g.bias_grad : nullptr;
    t.epilogue = epilogue_of<Out>(p, g);
    t.staged = p.ldc * sizeof(Out) % 16 == 0 && plan.schedule.cluster_splits == 1;
    MatrixMap c{};
    if (t.staged)
        c = matrix_map(dtype_of<Out>, g.c, p.n, p.m, p.ldc, Staged::kColumns, Staged::kRows,
                       Staged::kSpan);
    t.shift = c.shift;
    LaunchShape shape = shape_of<L, F, Out, BN>(plan.schedule.cluster_size());
    shape.grid = dim3(static_cast<unsigned>(plan.blocks));
    shape.stream = g.stream;
    launch("gemm.wgmma_sm90", shape, gemm_kernel<L, F, Out, BN>, a.map, b.map, c.map,
           Inputs{plan.schedule, a.shift, b.shift}, t);
}

// Calls f.operator()<L, F, Out, BN>() with the parameters of the kernel that has this width.
template <GemmLayout L, EpilogueOp F, class Call>
void by_width(const GemmProblem& p, int bn, Call&& f) {
    if constexpr (L != GemmLayout::tn) {
        if (p.out == DType::bf16) {
            if (bn == 64) return f.template operator()<L, F, bf16, 64>();
            if constexpr (L == GemmLayout::nn)
                if (bn == 160) return f.template operator()<L, F, bf16, 160>();
            if (bn == 192) return f.template operator()<L, F, bf16, 192>();
            if (bn == 256) return f.template operator()<L, F, bf16, 256>();
        } else if constexpr (L == GemmLayout::nt && F == EpilogueOp::plain) {
            if (bn == 64) return f.template operator()<L, F, float, 64>();
        }
    } else if (p.out == DType::f32 && bn == 256) {
        return f.template operator()<L, F, float, 256>();
    }
    return p.out == DType::bf16 ? f.template operator()<L, F, bf16, 128>()
                                : f.template operator()<L, F, float, 128>();
}
template <GemmLayout L, class Call>
void by_layout(const GemmProblem& p, int bn, Call&& f) {
    by_epilogue<L, bf16>(p, [&]<EpilogueOp F>() { by_width<L, F>(p, bn, f); });
}
template <class Call>
void by_kernel(const GemmProblem& p, int bn, Call&& f) {
    switch (p.layout) {
        case GemmLayout::nt: return by_layout<GemmLayout::nt>(p, bn, f);
        case GemmLayout::nn: return by_layout<GemmLayout::nn>(p, bn, f);
        case GemmLayout::tn: return by_layout<GemmLayout::tn>(p, bn, f);
    }
}

int kernel_clusters_at_once(const GemmProblem& p, int bn, int cluster_size) {
    int clusters = 0;
    by_kernel(p, bn, [&]<GemmLayout L, EpilogueOp F, class Out, int BN>() {
        clusters = clusters_at_once(shape_of<L, F, Out, BN>(cluster_size),
                                    reinterpret_cast<const void*>(gemm_kernel<L, F, Out, BN>));
    });
    return clusters;
}

void launch_gemm(const GemmProblem& p, const GemmArgs& g, Choice only) {
    const Plan plan = plan_of(p, only);
    if (p.sgd) return launch_sgd(p, g, plan);
    by_kernel(p, plan.bn, [&]<GemmLayout L, EpilogueOp F, class Out, int BN>() {
        launch_kernel<L, F, Out, BN>(p, g, plan);
    });
}

std::string refuses(const GemmProblem& p, Choice only) {
    if (p.dtype != DType::bf16) return "bf16 operands only";
    if (p.lda % 8 || p.ldb % 8)
        return "rows of A and B must be multiples of 8 elements (16 bytes) apart";
    if (p.sgd && p.ldc % 8)
        return "rows of the weights must be multiples of 8 elements apart for SGD";
    return refuses_choice(p, only);
}

template <int BN, int kMulticast = 0>
Gemm row(const char* name) {
    static constexpr Choice kOnly{BN, kMulticast};
    return {.name = name,
            .refuses = [](const GemmProblem& p) { return refuses(p, kOnly); },
            .workspace = nullptr,
            .launch = [](const GemmProblem& p, const GemmArgs& g) { launch_gemm(p, g, kOnly); },
            .sm = 90};
}

}  // namespace

Plan plan_of(const GemmProblem& p, Choice only) {
    return choose_tile(
        p,
        [&](int bn, int cluster_size) {
            return p.sgd ? sgd_clusters_at_once(cluster_size)
                         : kernel_clusters_at_once(p, bn, cluster_size);
        },
        only);
}

extern const Gemm gemm = row<0>("wgmma_sm90");

// The same with a width of kWidths, or without pairs.
extern const std::array<Gemm, 6> gemm_fixed{
    row<256>("wgmma_128x256_sm90"), row<192>("wgmma_128x192_sm90"), row<160>("wgmma_128x160_sm90"),
    row<128>("wgmma_128x128_sm90"), row<64>("wgmma_128x64_sm90"),   row<0, 1>("wgmma_single_sm90")};

}  // namespace wt::gemm_wgmma
