// LRN + max pooling backward in one pass: windows of 3 or 2, stride 2. A thread owns 8 channels of
// two neighbouring columns and walks down the image two rows at a time: it has the gradients of two
// windows, hands out what each sends to the nine places of those rows and the next one, and takes
// the four pixels through LRN. s is recomputed from x; the neighbours' terms come by shuffle. The
// bias's sums stay in registers until the block ends: one partial sum per block and channel, which
// a second kernel adds in order. What is unpacked is loaded anew for the next two rows at once.
//
// Moves x, dx, dy and argmax once (dy and argmax of windows across the edge of a band or a warp
// again, from L1 and L2): the floor, 4.75 bytes an element at bf16, where 85% of 4.3 TB/s on 132
// SMs leave 29 issued instructions for an element. Without LRN dx, and dy, argmax and y of a
// quarter of the size. nvcc 13.0 makes 845 instructions of a step of two rows by two columns, 32
// elements a lane, 26.4 for each (without LRN 373, 11.7), and some 330 of a band's beginning.
// Predicted, not measured, at 3/4 of the rate of issue and batch 256: norm1 and norm2 of alexnet 99
// and 63 us, 83% of the copy rate, where 85% are 96 and 61 us: what is above that is the two lanes
// of a warp that only lend (7% at norm1), the row and column that an odd image lacks (4%) and the
// last round. Without LRN, pool1, pool2 and pool5 of owt: 30, 24 and 9 us of issue, below the 42,
// 30 and 9 us that the bytes take at 87% of the copy rate.
#include <algorithm>
#include <climits>
#include <cmath>
#include <numeric>

#include "kernels/common/machine.h"
#include "kernels/common/pack.h"
#include "kernels/common/vec.h"
#include "kernels/launch.h"
#include "kernels/lrn/halo.h"
#include "kernels/lrn/lanes.h"
#include "kernels/lrn_pool/bias_sum.h"
#include "kernels/lrn_pool/problem.h"
#include "kernels/ptx/griddep.h"

namespace wt {

namespace lrn_pool_backward_fused {
namespace {

using lrn::kGroup;
constexpr int kHalf = 2;
constexpr int kWarps = 8, kThreads = 32 * kWarps;

enum class Norm { none, three_quarters, any_power };

// Blocks of an SM: LRN wants 128 registers a thread; without it 80 are enough, and more blocks keep
// more loads under way.
constexpr int blocks_per_sm(bool lrn) { return lrn ? 2 : 3; }

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

// What a kernel is told of the normalization: dx = scale g s^-beta - x two_beta sum(...), with s as
// lrn/halo.h keeps it, so that alpha is in `gradient` or in `power`.
struct Factors {
    lrn::Scale power;
    float gradient;  // alpha^-beta where the power is made of square roots, else 1
    float two_beta;
};

struct SharedStorage {
    float bias[kThreads][kGroup];
};

// A window's gradient and choices, of 8 channels; y only where there is no LRN.
template <Norm kNorm, class T>
struct Window {
    PackedFragment<T, kGroup> dy, y;
    uint2 argmax;

    __device__ __forceinline__ void load(const LrnPoolProblem& s, const T* from, const T* out,
                                         const uint8_t* places, int at) {
        dy = PackedFragment<T, kGroup>::load(from + at);
        argmax = *reinterpret_cast<const uint2*>(places + at);
        if (kNorm == Norm::none && s.relu) y = PackedFragment<T, kGroup>::load(out + at);
    }
    __device__ __forceinline__ void gradient(const LrnPoolProblem& s, float factor,
                                             float (&d)[kGroup]) const {
        const Vec<kGroup> v = unpack(dy), open = unpack(y);
#pragma unroll
        for (int e = 0; e < kGroup; ++e)
            d[e] = kNorm != Norm::none ? factor * v[e] : !s.relu || open[e] > 0 ? v[e] : 0.f;
    }
    // Whether channel e chose place `tap`: one LOP3 where byte0 is 0xff in a register.
    __device__ __forceinline__ bool chose(int tap, int e, uint32_t byte0) const {
        const uint32_t four = e < 4 ? argmax.x : argmax.y;
        return ((four ^ tap * 0x01010101u) & byte0 << e % 4 * 8) == 0;
    }
    __device__ __forceinline__ void close_unless(bool there) {
        argmax.x = there ? argmax.x : ~0u;
        argmax.y = there ? argmax.y : ~0u;
    }
};

// Turns what the pooling sends to a pixel's 8 channels into the gradient of the convolution's
// output: 0 where x is, so that the ReLU needs no comparison (a window that the ReLU closed sends
// nothing). All lanes call it.
template <Norm kNorm>
__device__ __forceinline__ void through_lrn(const Factors& f, const float (&x)[kGroup + 2 * kHalf],
                                            bool first, bool last, float (&d)[kGroup]) {
    float s[kGroup], term[kGroup], all[kGroup + 2 * kHalf];
    lrn::scaled_sums(x, f.power.half_offset, s);
#pragma unroll
    for (int e = 0; e < kGroup; ++e) {
        float inverse;
        if constexpr (kNorm == Norm::three_quarters) {
            const float r = ptx::rsqrt_approx(s[e]);
            d[e] *= r * ptx::sqrt_approx(r);
            inverse = r * r;
        } else {
            d[e] *= lrn::power(s[e], f.power);
            inverse = __fdividef(1, s[e]);
        }
        term[e] = d[e] * x[kHalf + e] * inverse;
    }
    lrn::with_neighbours<kHalf>(term, first, last, all);
    // The sums of five, times two_beta, which the five pairs get and the single ones.
    float pair[5];
#pragma unroll
    for (int i = 0; i < 5; ++i) pair[i] = f.two_beta * (all[2 * i + 1] + all[2 * i + 2]);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const float middle = pair[i] + pair[i + 1];
        d[2 * i] -= x[kHalf + 2 * i] * (f.two_beta * all[2 * i] + middle);
        d[2 * i + 1] -= x[kHalf + 2 * i + 1] * (f.two_beta * all[2 * i + 5] + middle);
    }
}

template <class T, int kWindow, Norm kNorm>
__global__ void __launch_bounds__(kThreads, blocks_per_sm(kNorm != Norm::none))
    lrn_pool_backward_fused_kernel(LrnPoolProblem s, Walk t, Factors f, const T* x, const T* y,
                                   const T* dy, const uint8_t* argmax, T* dx, float* partial,
                                   uint32_t byte0) {
    constexpr bool kLrn = kNorm != Norm::none;
    ptx::griddep_wait();
    ptx::griddep_launch_dependents();
    auto& shared = shared_storage<SharedStorage>();
    const int groups = s.c / kGroup, height = s.p(), width = s.q(), pitch = s.w * s.c;
    float bias[kGroup] = {};
    for (int round = 0; round < t.rounds; ++round) {
        // A last round that has not work for all blocks leaves those that have it more of their SM.
        const int64_t of_block = (int64_t(round) * gridDim.x + blockIdx.x) * (kWarps * t.lanes);
        if (of_block >= t.items) break;
        const int64_t place = lrn::item_of_lane(of_block, t.lanes);
        const int item = static_cast<int>(min(max(place, int64_t(0)), int64_t(t.items - 1)));
        const bool own = place == item && lrn::owns(t.lanes);
        const int g = item % groups, pair = item / groups % t.pairs,
                  band = item / groups / t.pairs % t.bands;
        const int n = item / groups / t.pairs / t.bands;
        const bool first = g == 0, last = g == groups - 1;
        const bool right = 2 * pair + 1 < s.w;  // whether the second column is there
        const bool own_window = pair < width,
                   left_window = kWindow == 3 && pair > 0 && pair <= width;
        // Every load is of something that is there, so that none needs a branch, which would cost
        // copies of registers: beyond an edge of what is inside it, and counts nowhere.
        const int to_right = right ? s.c : 0, last_row = (s.h - 1) / 2;
        const int image_at = (n * s.h * s.w + 2 * pair) * s.c + g * kGroup;
        const int mine_at = (n * height * width + min(pair, width - 1)) * s.c + g * kGroup;
        const int left_at = mine_at - (kWindow == 3 && pair > 0 && pair < width ? s.c : 0);

        Window<kNorm, T> left{}, mine{};
        auto load_windows = [&](int r) {
            const int from = min(max(r, 0), height - 1) * width * s.c;
            if (kWindow == 3) left.load(s, dy, y, argmax, left_at + from);
            mine.load(s, dy, y, argmax, mine_at + from);
        };
        // The four pixels, row by row.
        lrn::Channels<T, kLrn> raw[4];
        auto load_pixel = [&](auto k, int r) {
            r = min(r, last_row);
            const int lower = k / 2 && 2 * r + 1 < s.h ? pitch : 0;
            if constexpr (kLrn)
                raw[k] = lrn::Channels<T, kLrn>::load(
                    x + (image_at + 2 * r * pitch + lower + (k % 2 ? to_right : 0)), first, last);
        };
        // The windows' gradients, and that those which are not there send nothing.
        float from_left[kGroup] = {}, from_mine[kGroup];
        auto look = [&](int r) {
            const bool there = r >= 0 && r < height;
            mine.close_unless(there && own_window);
            mine.gradient(s, f.gradient, from_mine);
            if (kWindow == 3) {
                left.close_unless(there && left_window);
                left.gradient(s, f.gradient, from_left);
            }
        };
        // Adds what the windows sent from their row i.
        auto send = [&](int i, float(&even)[kGroup], float(&odd)[kGroup]) {
#pragma unroll
            for (int e = 0; e < kGroup; ++e) {
                if (kWindow == 3 && left.chose(i * kWindow + 2, e, byte0)) even[e] += from_left[e];
                if (mine.chose(i * kWindow, e, byte0)) even[e] += from_mine[e];
                if (mine.chose(i * kWindow + 1, e, byte0)) odd[e] += from_mine[e];
            }
        };
        int row = band * t.band_rows;
        int at = image_at + 2 * row * pitch;
        auto finish = [&](auto k, bool there, float(&d)[kGroup]) {
            if constexpr (kLrn) {
                float v[kGroup + 2 * kHalf];
                raw[k].all(v);
                load_pixel(k, row + 1);
                through_lrn<kNorm>(f, v, first, last, d);
            }
            if (!there) return;
            store_pack(dx + (at + k / 2 * pitch + k % 2 * s.c), d);
#pragma unroll
            for (int e = 0; e < kGroup; ++e) bias[e] += d[e];
        };

        // What the windows above sent to the two pixels in row 2 * row.
        float above[2][kGroup] = {};
        unroll<4>([&](auto k) { load_pixel(k, row); });
        if (kWindow == 3) {
            load_windows(row - 1);
            look(row - 1);
            send(2, above[0], above[1]);
        }
        load_windows(row);
        for (int i = 0; i < t.band_rows; ++i, ++row) {
            look(row);
            const bool upper = own && 2 * row < s.h, lower = own && 2 * row + 1 < s.h;
            send(0, above[0], above[1]);
            finish(std::integral_constant<int, 0>{}, upper, above[0]);
            finish(std::integral_constant<int, 1>{}, upper && right, above[1]);
            float d[2][kGroup] = {};
            send(1, d[0], d[1]);
#pragma unroll
            for (int e = 0; e < kGroup; ++e) above[0][e] = above[1][e] = 0;
            if (kWindow == 3) send(2, above[0], above[1]);
            load_windows(row + 1);
            finish(std::integral_constant<int, 2>{}, lower, d[0]);
            finish(std::integral_constant<int, 3>{}, lower && right, d[1]);
            at += 2 * pitch;
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
    if (std::string why = s.lrn ? lrn::scale_refuses(s.alpha, s.k) : ""; !why.empty()) return why;
    if (s.x_count() > INT_MAX / 2) return "more than 2^30 elements";
    if (!s.y_count()) return "there is no window";
    if (!s.aligned) return "the tensors must start on 16 bytes";
    return {};
}

// The grid, 1 at least: what an H100's 132 SMs hold, a multiple of as many blocks as bring every
// thread back to its channels. Of no other machine, so that the order of the bias's sums is the
// problem's alone.
int64_t blocks_for(const LrnPoolProblem& s, int64_t steps) {
    const int most = blocks_per_sm(s.lrn) * kReferenceSms;
    if (steps <= most) return std::max<int64_t>(steps, 1);
    const int groups = s.c / kGroup, period = groups / std::gcd(groups, kWarps * item_lanes(s));
    return std::max(period, most / period * period);
}

// The band's rows by what they make an SM do in all its rounds. A band begins with the windows
// above it: that costs 0.4 of a step with LRN, a whole one without. An SM that has fewer blocks in
// the last round is done sooner, if not in proportion.
Walk walk(const LrnPoolProblem& s, int64_t* blocks) {
    const int row_pairs = (s.h + 1) / 2;
    Walk best{};
    double best_cost = 0;
    for (int rows = 1; rows <= 14; ++rows) {
        Walk t;
        t.lanes = item_lanes(s);
        t.pairs = (s.w + 1) / 2;
        t.band_rows = rows;
        t.bands = static_cast<int>(ceil_div(row_pairs, rows));
        t.items = s.n * t.bands * t.pairs * (s.c / kGroup);
        const int64_t steps = ceil_div(t.items, kWarps * t.lanes), grid = blocks_for(s, steps);
        t.rounds = static_cast<int>(ceil_div(steps, grid));
        const int64_t last_blocks = steps - (t.rounds - 1) * grid;
        const double last_round =
            (ceil_div(last_blocks, kReferenceSms) + 0.4) / (blocks_per_sm(s.lrn) + 0.4);
        const double cost = (t.rounds - 1 + last_round) * (rows + (s.lrn ? 0.4 : 1));
        if (rows > 1 && cost >= best_cost) continue;
        best = t, best_cost = cost, *blocks = grid;
    }
    return best;
}

Factors factors(const LrnPoolProblem& s) {
    if (!s.lrn) return {};
    return {.power = lrn::scale_of(s.alpha, s.beta, s.k),
            .gradient = s.beta == 0.75f ? static_cast<float>(std::pow(double(s.alpha), -0.75)) : 1,
            .two_beta = 2 * s.beta};
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
            launch("lrn_pool_backward_fused", shape.with_pdl(),
                   lrn_pool_backward_fused_kernel<T, kWindow, kNorm>, s, t, factors(s),
                   static_cast<const T*>(a.x), static_cast<const T*>(a.y),
                   static_cast<const T*>(a.dy), a.argmax, static_cast<T*>(a.dx), partial, 0xffu);
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
