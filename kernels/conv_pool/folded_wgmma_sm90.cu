// The first layer with its pooling on Hopper, from planes (kernels/conv/first_layer_wgmma.h): the
// convolution of 55 x 55 outputs (AlexNet's 11x11/4 of 3 channels), bias, ReLU and max pooling of
// windows of 3 x 3, 2 apart. Sums never leave the registers that wgmma leaves them in.
//
// The product is turned round: filters are the 64 rows of D, positions its columns. The 57
// positions of a row of blocks give 55 outputs, so that 112 columns from a row's first on are two
// whole rows of outputs, 0 to 54 and 57 to 111, and two that are none. A thread then has, of two
// filters, the columns 2 t and 2 t + 1 of every 8: of the upper row outputs 2 q and 2 q + 1 of the
// window q = 4 j + t, of the lower one 2 q - 1 and 2 q. What a window lacks, the thread of the next
// one has: one shuffle for each row. Filters lie in shared memory such that a thread's two are
// neighbours (fold_weights_into_planes), and it stores what it has: a warp 32 bytes of a pixel, and
// 16 of argmax, half a sector, whose other half is another warp's.
//
// A number is kept as a key, its bf16 above a code that falls with its place in the window
// (kernels/lrn_pool/key.h): a maximum of keys is a maximum with its place. ReLU is the maximum with
// the key of "no pixel", value 0.
//
// A warpgroup goes down a band of an image (plan.h), two rows of outputs a turn, and keeps the
// maxima of a window's first two rows until the next turn has the third. Two warpgroups have bands
// of their own and take turns, so that one pools while the other multiplies.
//
// owt, batch 256: 28 turns of 27 products of 56 clocks for each of 2 images, on 128 of 132 SMs: 58
// us at the clock at which the tensor cores do 790 TFLOP/s (1.46 GHz). wgmma reads 100 of 128 bytes
// a clock of shared memory, copies of x write 14 of those and take 14 of L2's 40. Memory, x, y and
// argmax once, 116 MB: 27 us at 4.3 TB/s. Apart, 99 MB are written and read between the two
// operations. Predicted, not measured.
#include "kernels/conv/first_layer_fold.h"
#include "kernels/conv/first_layer_wgmma.h"
#include "kernels/conv_pool/plan.h"
#include "kernels/lrn_pool/key.h"

namespace wt::conv_pool_wgmma {

namespace {

using conv1_wgmma::Folded, conv1_wgmma::kChannels, conv1_wgmma::kPlaneBytes, conv1_wgmma::kPlanes;

constexpr int kOutputs = 55, kPitch = 57;     // of a row; positions from one to the next
constexpr int kWindows = (kOutputs - 1) / 2;  // of a row
constexpr int kColumns = kPitch + kOutputs;   // of D: two rows
constexpr int kGroups = (kOutputs + 1) / 8;   // of 8 columns, for each row
constexpr int kFilters = 64;
constexpr int kTaps = 9;                    // blocks of a filter, at most
constexpr int kSpan = 3 * kPitch + kPitch;  // positions that a turn reads: four rows
constexpr int kWindow = 3, kTopCode = 15, kStages = 3;
static_assert(kColumns == 16 * kGroups && 2 * kPitch + 2 + kColumns <= kSpan);
static_assert(kSpan * 16 <= kPlaneBytes);

struct SharedStorage {
    alignas(1024) uint8_t w[kTaps * kPlanes * kFilters * 16];
    alignas(1024) uint8_t x[2][kStages][kPlanes * kPlaneBytes];  // of each warpgroup
    Pipeline<kStages> pipeline[2];
    ptx::Mbarrier filters;
};
static_assert(sizeof(SharedStorage) <= kSharedPerBlock);

struct Shape {
    Folded folded;
    int height, bands, rows, items;  // pooled rows of an image; plan.h
    const float* bias;
    bf16* y;
    uint8_t* argmax;
};

// Pooled rows `first` to `last` - 1 of an image.
struct Band {
    int image, first, last;
    __device__ __forceinline__ Band(const Shape& v, int item)
        : image(item / v.bands),
          first((item - image * v.bands) * v.rows),
          last(min(first + v.rows, v.height)) {}
    __device__ __forceinline__ int turns() const { return last - first + 1; }
};

// Calls f(band) for the bands of a block's warpgroup 0 or 1, in order.
template <class F>
__device__ __forceinline__ void each_band(const Shape& v, int warpgroup, F&& f) {
    const int blocks = static_cast<int>(gridDim.x);
    for (int i = static_cast<int>(blockIdx.x) + warpgroup * blocks; i < v.items; i += 2 * blocks)
        f(Band(v, i));
}

// One thread for each warpgroup copies its positions, turn after turn, as many ahead as there are
// stages. The first one's copies the filters before. Of an image's last turn the fourth row is the
// next image's or what planes have behind the last; no output that is asked for reads it.
__device__ __forceinline__ void producer(SharedStorage& shared, const bf16* x, const bf16* w,
                                         const Shape& v, int warpgroup) {
    if (warpgroup == 0) {
        const uint32_t bytes = v.folded.taps() * kPlanes * kFilters * 16;
        ptx::mbarrier_arrive_expect_tx(shared.filters, bytes);
        ptx::bulk_load(shared.w, w, bytes, shared.filters);
    }
    PipelineProducer<kStages> pipeline{shared.pipeline[warpgroup]};
    each_band(v, warpgroup, [&](const Band& band) {
        int position = (band.image * v.folded.h + 2 * band.first) * kPitch;
        for (int turn = 0; turn < band.turns(); ++turn, position += 2 * kPitch) {
            conv1_wgmma::load_planes(shared.x[warpgroup][pipeline.stage()], x, v.folded,
                                     pipeline.producer_acquire(kPlanes * kSpan * 16), position,
                                     kSpan);
            pipeline.advance();
        }
    });
    // the next kernel's blocks may take this one's place as it ends
    ptx::griddep_launch_dependents();
}

// Whose turn it is: warpgroups 0 and 1 by turns, for as long as both have any.
struct Order {
    int other, warpgroup, turn = 0;
    __device__ __forceinline__ void begin() const {
        if (warpgroup == 0 ? turn > 0 && turn <= other : turn < other) await_turn(warpgroup);
    }
    __device__ __forceinline__ void end() {
        if (warpgroup == 0 ? turn < other : turn + 1 < other) pass_turn(warpgroup);
        ++turn;
    }
};

struct Steps {
    static constexpr int kHeight = 1, kCount = kChannels / 16;
    static constexpr uint32_t a(int, int j) { return j * 2 * kFilters * 16; }
    static constexpr uint32_t b(int j) { return j * 2 * kPlaneBytes; }
};

// Two rows of the convolution: all taps of all filters.
__device__ __forceinline__ void multiply(float (&acc)[1][kColumns / 2], const Shape& v,
                                         const uint8_t* x, const uint8_t* w, Order& order) {
    // Each tap is a group of products with a fence of its own: ptxas bears no other control flow
    // between them.
#pragma unroll 1
    for (int tap = 0, r = 0, s = 0; tap < v.folded.taps(); ++tap) {
        const uint64_t a = ptx::wgmma_descriptor(w + tap * kPlanes * kFilters * 16, kFilters * 16,
                                                 128, ptx::Swizzle::none),
                       b = ptx::wgmma_descriptor(x + (r * kPitch + s) * 16, kPlaneBytes, 128,
                                                 ptx::Swizzle::none);
        ptx::wgmma_fence();
        ptx::wgmma_bf16_tile<kColumns, false, false, Steps>(acc, a, b, tap > 0);
        ptx::wgmma_commit();
        if (++s == v.folded.s) s = 0, ++r;
    }
    // The other one's turn begins when the last tap's products are left.
    ptx::wgmma_wait<1>();
    order.end();
    ptx::wgmma_wait<0>();
    ptx::wgmma_keep(acc[0]);
}

__device__ __forceinline__ int key_of(float v, int place) {
    return PoolKey<bf16, false>::packed(v, kTopCode - place);
}

// What a thread's lane asks the next window's for: `of(j)` of its window 4 j + t + 1. Lane 3 of
// four asks lane 0, whose next window is in the next group.
template <class F>
__device__ __forceinline__ void from_next(int (&got)[kGroups], F&& of) {
    const int lane = threadIdx.x % 32, next = (lane & ~3) | ((lane + 1) & 3);
    unroll<kGroups>([&](auto j) {
        constexpr int after = j + 1 < kGroups ? j + 1 : int(j);
        const int lent = lane % 4 == 0 ? of(after) : of(j);
        got[j] = __shfl_sync(0xffffffffu, lent, next);
    });
}

// Pools two rows of one filter: `done` becomes the maxima of the windows whose last row the upper
// one is, `carried`, before of their first two rows, those of the next ones.
__device__ __forceinline__ void pool_rows(const float (&acc)[kColumns / 2], int half, float bias,
                                          int (&carried)[kGroups], int (&done)[kGroups]) {
    int even[kGroups], odd[kGroups], next[kGroups];
    // The upper row: places 0 and 1, and of the next window its 0, here 2.
    unroll<kGroups>([&](auto j) {
        even[j] = key_of(acc[4 * j + 2 * half] + bias, 0);
        odd[j] = key_of(acc[4 * j + 2 * half + 1] + bias, 1);
    });
    from_next(next, [&](int j) { return even[j]; });
    int upper[kGroups];
    unroll<kGroups>([&](auto j) { upper[j] = max(max(even[j], odd[j]), next[j] - 2); });
    // The lower row: place 3; places 4 and 5 lie with the next window's 3.
    unroll<kGroups>([&](auto j) {
        constexpr int at = 4 * (kGroups + j);
        odd[j] = key_of(acc[at + 2 * half] + bias, kWindow + 1);
        even[j] = key_of(acc[at + 2 * half + 1] + bias, kWindow);
        odd[j] = max(odd[j], even[j] - 2);
    });
    from_next(next, [&](int j) { return odd[j]; });
    constexpr int kClosed = (kTopCode + 1) | ((kTopCode - closed_place(kWindow)) & 15);
    unroll<kGroups>([&](auto j) {
        done[j] = max(max(carried[j], upper[j] - 2 * kWindow), kClosed);
        carried[j] = max(upper[j], max(even[j], next[j]));
    });
}

__device__ __forceinline__ void consumer(SharedStorage& shared, const Shape& v, int warpgroup) {
    const int lane = threadIdx.x % 32, t = lane % 4;
    const int filter = static_cast<int>(threadIdx.x) % 128 / 32 * 16 + lane / 4 * 2;
    const bool has_filter = filter < v.folded.k;
    const float bias[2] = {has_filter ? v.bias[filter] : 0, has_filter ? v.bias[filter + 1] : 0};
    Order order{.other = 0, .warpgroup = warpgroup};
    each_band(v, 1 - warpgroup, [&](const Band& band) { order.other += band.turns(); });
    ptx::mbarrier_wait(shared.filters, 0);

    PipelineConsumer<kStages> pipeline{shared.pipeline[warpgroup]};
    each_band(v, warpgroup, [&](const Band& band) {
        int carried[2][kGroups] = {};
        int64_t at =
            ((int64_t(band.image) * v.height + band.first - 1) * kWindows + t) * v.folded.k +
            filter;
        for (int turn = 0; turn < band.turns(); ++turn, at += int64_t(kWindows) * v.folded.k) {
            float acc[1][kColumns / 2];
            pipeline.consumer_wait();
            order.begin();
            multiply(acc, v, shared.x[warpgroup][pipeline.stage()], shared.w, order);
            pipeline.consumer_release(pipeline.stage());
            pipeline.advance();

            int done[2][kGroups];
            unroll<2>(
                [&](auto half) { pool_rows(acc[0], half, bias[half], carried[half], done[half]); });
            if (turn == 0 || !has_filter) continue;
            unroll<kGroups>([&](auto j) {
                if (4 * j + t >= kWindows) return;
                const int64_t to = at + int64_t(4 * j) * v.folded.k;
                *reinterpret_cast<uint32_t*>(v.y + to) =
                    __byte_perm(done[0][j], done[1][j], 0x7632);
                *reinterpret_cast<uint16_t*>(v.argmax + to) =
                    static_cast<uint16_t>(~__byte_perm(done[0][j], done[1][j], 0x0040) & 0x0f0f);
            });
        }
    });
}

__global__ void __launch_bounds__(384, 1)
    conv_pool_kernel(const bf16* x, const bf16* w, const __grid_constant__ Shape v) {
    SharedStorage& shared = shared_storage<SharedStorage>();
    // Initialise the barriers, wait for the kernel before this one.
    begin_block(1, [&] {
        ptx::mbarrier_init(shared.filters, 1);
        shared.pipeline[0].init(4);
        shared.pipeline[1].init(4);
    });

    // Take the roles.
    const int warpgroup = warpgroup_index();
    if (warpgroup == 0) {
        const int warp = warp_index();
        if (warp < 2 && ptx::elect_one()) producer(shared, x, w, v, warp);
    } else {
        consumer(shared, v, warpgroup - 1);
    }
}

std::string refuses(const ConvPoolProblem& p) {
    if (std::string why = conv_pool_refuses(p); !why.empty()) return why;
    if (std::string why = conv1_wgmma::refuses_folded(p.conv()); !why.empty()) return why;
    if (p.k > kFilters) return "at most 64 filters";
    if (p.window != kWindow || p.window_stride != 2) return "windows of 3 x 3, 2 apart";
    const Folded f(p.conv());
    if (f.q != kOutputs || f.w != kPitch || f.r > 3)
        return "55 outputs in a row, of filters of 3 x 3 blocks";
    return "";
}

size_t workspace(const ConvPoolProblem& p) {
    return sizeof(bf16) * kFilters * Folded(p.conv()).taps() * kChannels;
}

void launch_forward(const ConvPoolProblem& p, const ConvPoolForwardArgs& a) {
    const ConvPoolPlan plan = conv_pool_plan(p, planned_sms());
    const Shape v{.folded = Folded(p.conv()),
                  .height = p.pool().p(),
                  .bands = plan.bands,
                  .rows = plan.rows,
                  .items = plan.items,
                  .bias = a.bias,
                  .y = static_cast<bf16*>(a.y),
                  .argmax = a.argmax};
    fold_weights_into_planes(p.conv(), a.w, a.workspace, kFilters, a.stream, true);
    launch("conv_pool_forward.folded_wgmma_sm90",
           LaunchShape{.grid = dim3(static_cast<unsigned>(plan.blocks)),
                       .block = dim3(384),
                       .stream = a.stream,
                       .shared = sizeof(SharedStorage),
                       .pdl = true},
           conv_pool_kernel, static_cast<const bf16*>(a.x), static_cast<const bf16*>(a.workspace),
           v);
}

}  // namespace

extern const ConvPoolForward forward = {.name = "folded_wgmma_sm90",
                                        .refuses = refuses,
                                        .workspace = workspace,
                                        .launch = launch_forward,
                                        .sm = 90};

}  // namespace wt::conv_pool_wgmma
