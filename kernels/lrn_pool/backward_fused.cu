// LRN + max pooling backward in one pass: windows of 3 or 2, stride 2. A thread owns 8 channels of
// two neighbouring columns and walks down the image two rows at a time: it loads the gradient of
// two windows, hands out what each sends to the nine places of those rows and the next one, and
// takes the four pixels through LRN and ReLU. s is recomputed from x; the neighbours' terms come by
// shuffle. The bias's sums stay in registers until the block ends: one partial sum per block and
// channel, which a second kernel adds in order.
//
// Moves x, dx, dy and argmax once (dy and argmax of windows across the edge of a band or a warp
// again, from L1 and L2): the floor, 4.75 bytes an element at bf16, where 4.3 TB/s on 132 SMs leave
// 32 instructions for an element. Without LRN dx, and dy, argmax and y of a quarter of the size.
#include <algorithm>
#include <climits>
#include <numeric>

#include "kernels/common/machine.h"
#include "kernels/common/pack.h"
#include "kernels/common/vec.h"
#include "kernels/launch.h"
#include "kernels/lrn/lanes.h"
#include "kernels/lrn/power.h"
#include "kernels/lrn_pool/bias_sum.h"
#include "kernels/lrn_pool/problem.h"

namespace wt {

namespace lrn_pool_backward_fused {
namespace {

using lrn::kGroup;
constexpr int kHalf = 2;
constexpr int kWarps = 8, kThreads = 32 * kWarps;
// Two on each of an H100's 132 SMs. A constant, so that the order of the bias's sums is the
// problem's alone.
constexpr int kMaxBlocks = 2 * kReferenceSms;

enum class Norm { none, three_quarters, any_power };

// How the work is laid out. An item is 8 channels of two columns over a band of rows; a block takes
// kWarps * lanes items at a time and comes back for those of the same channels, gridDim.x blocks
// further on.
struct Walk {
    int lanes;  // of a warp that own an item
    int pairs;  // of columns
    int bands;  // of band_rows pairs of rows
    int band_rows;
    int items;
    int rounds;  // of the grid over the items
};

struct SharedStorage {
    float bias[kThreads][kGroup];
};

// One window's gradient and choices, of 8 channels.
struct Window {
    float dy[kGroup];
    uint2 argmax;

    // Adds to sum what the window sent to its place `tap`.
    __device__ __forceinline__ void send(int tap, float (&sum)[kGroup]) const {
        unroll<kGroup>([&](auto e) {
            const uint32_t four = e < 4 ? argmax.x : argmax.y;
            if (((four ^ tap * 0x01010101u) & 0xffu << e % 4 * 8) == 0) sum[e] += dy[e];
        });
    }
};

template <Norm kNorm, class T>
__device__ __forceinline__ Window load_window(const LrnPoolProblem& s, const T* dy,
                                              const uint8_t* argmax, const T* y, int64_t at,
                                              bool there) {
    Window v;
    PackedFragment<T, kGroup> raw = PackedFragment<T, kGroup>::zero(),
                              out = PackedFragment<T, kGroup>::zero();
    v.argmax = make_uint2(~0u, ~0u);
    if (there) {
        raw = PackedFragment<T, kGroup>::load(dy + at);
        v.argmax = *reinterpret_cast<const uint2*>(argmax + at);
        if (kNorm == Norm::none && s.relu) out = PackedFragment<T, kGroup>::load(y + at);
    }
    const Vec<kGroup> d = unpack(raw), open = unpack(out);
#pragma unroll
    for (int e = 0; e < kGroup; ++e)
        v.dy[e] = kNorm != Norm::none || !s.relu || open[e] > 0 ? d[e] : 0.f;
    return v;
}

// Turns what the pooling sends to a pixel's 8 channels into the gradient of the convolution's
// output. All lanes call it.
template <Norm kNorm, class T>
__device__ __forceinline__ void through_lrn(const LrnPoolProblem& s,
                                            const PackedFragment<T, kGroup>& raw, bool first,
                                            bool last, float (&d)[kGroup]) {
    if constexpr (kNorm == Norm::none) return;
    const Vec<kGroup> v = unpack(raw);
    float x[kGroup], all[kGroup + 2 * kHalf], sum[kGroup], term[kGroup];
#pragma unroll
    for (int e = 0; e < kGroup; ++e) x[e] = v[e];
    lrn::with_neighbours<kHalf>(x, first, last, all);
    lrn::window_sums<kHalf, true>(all, sum);
#pragma unroll
    for (int e = 0; e < kGroup; ++e) {
        const LrnPowers power =
            lrn_powers<kNorm == Norm::three_quarters>(s.k + s.alpha * sum[e], s.beta);
        d[e] *= power.y;
        term[e] = d[e] * x[e] * power.inverse;
    }
    lrn::with_neighbours<kHalf>(term, first, last, all);
    lrn::window_sums<kHalf, false>(all, sum);
    const float factor = 2 * s.alpha * s.beta;
#pragma unroll
    for (int e = 0; e < kGroup; ++e) {
        d[e] -= factor * x[e] * sum[e];
        d[e] = x[e] > 0 || !s.relu ? d[e] : 0.f;
    }
}

template <class T, int kWindow, Norm kNorm>
__global__ void __launch_bounds__(kThreads, 2)
    lrn_pool_backward_fused_kernel(LrnPoolProblem s, Walk t, const T* __restrict__ x,
                                   const T* __restrict__ y, const T* __restrict__ dy,
                                   const uint8_t* __restrict__ argmax, T* __restrict__ dx,
                                   float* __restrict__ partial) {
    auto& shared = shared_storage<SharedStorage>();
    const int groups = s.c / kGroup, height = s.p(), width = s.q(), pitch = s.w * s.c;
    float bias[kGroup] = {};
    for (int round = 0; round < t.rounds; ++round) {
        const int64_t place = lrn::item_of_lane(
            (int64_t(round) * gridDim.x + blockIdx.x) * (kWarps * t.lanes), t.lanes);
        const int item = static_cast<int>(min(max(place, int64_t(0)), int64_t(t.items - 1)));
        const bool own = place == item && lrn::owns(t.lanes);
        const int g = item % groups, pair = item / groups % t.pairs,
                  band = item / groups / t.pairs % t.bands;
        const int n = item / groups / t.pairs / t.bands;
        const bool first = g == 0, last = g == groups - 1;
        const bool right = 2 * pair + 1 < s.w;  // whether the second column is there
        const bool own_window = pair < width,
                   left_window = kWindow == 3 && pair > 0 && pair <= width;
        int row = band * t.band_rows;
        int at = ((n * s.h + 2 * row) * s.w + 2 * pair) * s.c + g * kGroup;
        int window_at = ((n * height + row) * width + pair) * s.c + g * kGroup;

        // What the windows above sent to the two pixels in row 2 * row.
        float from_above[2][kGroup] = {};
        auto load = [&](int back, bool there) {
            return load_window<kNorm>(s, dy, argmax, y, window_at - back, there);
        };
        if (kWindow == 3 && row > 0) {
            const bool there = row - 1 < height;
            const Window w0 = load(width * s.c + s.c, there && left_window),
                         w1 = load(width * s.c, there && own_window);
            w0.send(8, from_above[0]);
            w1.send(6, from_above[0]);
            w1.send(7, from_above[1]);
        }
        for (int i = 0; i < t.band_rows; ++i, ++row) {
            // The four pixels, row by row.
            const bool there[4] = {2 * row < s.h, 2 * row < s.h && right, 2 * row + 1 < s.h,
                                   2 * row + 1 < s.h && right};
            PackedFragment<T, kGroup> raw[4];
            unroll<4>([&](auto k) {
                raw[k] = PackedFragment<T, kGroup>::zero();
                if (kNorm != Norm::none && there[k])
                    raw[k] =
                        PackedFragment<T, kGroup>::load(x + (at + k / 2 * pitch + k % 2 * s.c));
            });
            const Window w0 = load(s.c, row < height && left_window),
                         w1 = load(0, row < height && own_window);
            unroll<4>([&](auto k) {
                float d[kGroup] = {};
                if constexpr (k < 2) {
#pragma unroll
                    for (int e = 0; e < kGroup; ++e) d[e] = from_above[k][e];
                }
                if (kWindow == 3 && k % 2 == 0) w0.send(k / 2 * kWindow + 2, d);
                w1.send(k / 2 * kWindow + k % 2, d);
                through_lrn<kNorm>(s, raw[k], first, last, d);
                if (own && there[k]) {
                    store_pack(dx + (at + k / 2 * pitch + k % 2 * s.c), d);
#pragma unroll
                    for (int e = 0; e < kGroup; ++e) bias[e] += d[e];
                }
            });
            if constexpr (kWindow == 3) {
#pragma unroll
                for (int e = 0; e < kGroup; ++e) from_above[0][e] = from_above[1][e] = 0;
                w0.send(8, from_above[0]);
                w1.send(6, from_above[0]);
                w1.send(7, from_above[1]);
            }
            at += 2 * pitch;
            window_at += width * s.c;
        }
    }
    if (!s.bias) return;

    // Every thread had the same channels in each round: item i of the block those of group (i +
    // offset) % groups.
    const int thread = threadIdx.x,
              offset = static_cast<int>(int64_t(blockIdx.x) * (kWarps * t.lanes) % groups);
#pragma unroll
    for (int e = 0; e < kGroup; ++e) shared.bias[thread][e] = bias[e];
    __syncthreads();
    for (int c = thread; c < s.c; c += kThreads) {
        float sum = 0;
        for (int i = (c / kGroup + groups - offset) % groups; i < kWarps * t.lanes; i += groups)
            sum += shared.bias[i / t.lanes * 32 + i % t.lanes + (32 - t.lanes) / 2][c % kGroup];
        partial[int64_t(blockIdx.x) * s.c + c] = sum;
    }
}

int item_lanes(const LrnPoolProblem& s) { return s.lrn ? lrn::lanes_used(s.c / kGroup) : 32; }

std::string refuses(const LrnPoolProblem& s) {
    if (std::string why = lrn_pool_refuses(s); !why.empty()) return why;
    if (s.window != 2 && s.window != 3) return "window must be 2 or 3";
    if (s.stride != 2) return "stride must be 2";
    if (s.pad) return "pad must be 0";
    if (s.lrn && s.size != 2 * kHalf + 1) return "size must be 5";
    if (s.c < kGroup || s.c % kGroup) return "channels must be a multiple of 8";
    if (s.x_count() > INT_MAX / 2) return "more than 2^30 elements";
    if (!s.y_count()) return "there is no window";
    if (!s.aligned) return "the tensors must start on 16 bytes";
    return {};
}

// The grid, 1 at least: a multiple of as many blocks as bring every thread back to its channels.
int64_t blocks_for(const LrnPoolProblem& s, int64_t steps) {
    if (steps <= kMaxBlocks) return std::max<int64_t>(steps, 1);
    const int groups = s.c / kGroup, period = groups / std::gcd(groups, kWarps * item_lanes(s));
    return std::max(period, kMaxBlocks / period * period);
}

// The band's rows by what they make a block do in all its rounds; a band begins with the windows
// above it.
Walk walk(const LrnPoolProblem& s, int64_t* blocks) {
    const int row_pairs = (s.h + 1) / 2;
    Walk best{};
    double best_cost = 0;
    for (int rows = 1; rows <= 8; ++rows) {
        Walk t;
        t.lanes = item_lanes(s);
        t.pairs = (s.w + 1) / 2;
        t.band_rows = rows;
        t.bands = static_cast<int>(ceil_div(row_pairs, rows));
        t.items = s.n * t.bands * t.pairs * (s.c / kGroup);
        const int64_t steps = ceil_div(t.items, kWarps * t.lanes), grid = blocks_for(s, steps);
        t.rounds = static_cast<int>(ceil_div(steps, grid));
        const double cost = t.rounds * (rows + 0.3);
        if (rows > 1 && cost >= best_cost) continue;
        best = t, best_cost = cost, *blocks = grid;
    }
    return best;
}

size_t workspace(const LrnPoolProblem& s) {
    int64_t blocks;
    walk(s, &blocks);
    return s.bias ? sizeof(float) * blocks * s.c : 0;
}

void run(const LrnPoolProblem& s, const LrnPoolBackwardArgs& a) {
    for (const void* pointer : {a.x, a.y, a.dy, static_cast<const void*>(a.dx)})
        require_aligned("lrn_pool_backward fused", pointer);
    require_aligned("lrn_pool_backward fused", a.argmax, 8);
    int64_t blocks;
    const Walk t = walk(s, &blocks);
    auto* partial = static_cast<float*>(a.workspace);
    const LaunchShape shape{.grid = dim3(static_cast<unsigned>(blocks)),
                            .block = dim3(kThreads),
                            .stream = a.stream,
                            .shared = sizeof(SharedStorage)};
    by_dtype(s.dtype, [&]<class T>() {
        auto start = [&]<int kWindow, Norm kNorm>() {
            launch("lrn_pool_backward_fused", shape,
                   lrn_pool_backward_fused_kernel<T, kWindow, kNorm>, s, t,
                   static_cast<const T*>(a.x), static_cast<const T*>(a.y),
                   static_cast<const T*>(a.dy), a.argmax, static_cast<T*>(a.dx), partial);
        };
        auto by_norm = [&]<int kWindow>() {
            if (!s.lrn) return start.template operator()<kWindow, Norm::none>();
            if (s.beta == 0.75f) return start.template operator()<kWindow, Norm::three_quarters>();
            start.template operator()<kWindow, Norm::any_power>();
        };
        s.window == 3 ? by_norm.template operator()<3>() : by_norm.template operator()<2>();
    });
    if (s.bias) launch_lrn_pool_bias_sum(static_cast<int>(blocks), s.c, partial, a.db, a.stream);
}

}  // namespace

extern const LrnPoolBackward variant;
const LrnPoolBackward variant{
    .name = "fused", .refuses = refuses, .workspace = workspace, .launch = run};

}  // namespace lrn_pool_backward_fused
}  // namespace wt
