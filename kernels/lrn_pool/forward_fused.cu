// LRN + max pooling forward in one pass over x: windows of 3 or 2, stride 2. A thread owns 8
// channels of one column and walks down the image. It normalizes each pixel once, keeps the maximum
// over a window's rows in registers, and lends that to the windows of its columns through shared
// memory, a barrier for each row of the output.
//
// Moves x once but for a row between bands and a column between tiles (2% to 10% of x, which L2
// answers), y and argmax: the floor. At bf16 that leaves 19 instructions for an element of x at 4.3
// TB/s on 132 SMs; the special function unit alone has 16 of them to do (two square roots, at a
// quarter of a lane's rate).
#include <algorithm>

#include "kernels/common/pack.h"
#include "kernels/common/vec.h"
#include "kernels/launch.h"
#include "kernels/lrn/lanes.h"
#include "kernels/lrn/power.h"
#include "kernels/lrn_pool/key.h"
#include "kernels/lrn_pool/problem.h"

namespace wt {

namespace lrn_pool_forward_fused {
namespace {

using lrn::kGroup;
constexpr int kHalf = 2;
constexpr int kMaxWarps = 16, kMaxItems = 32 * kMaxWarps;
// the code of a window's first element; an element's code is this minus its argmax
constexpr int kFirstCode = 15;

enum class Norm { none, three_quarters, any_power };

// How the output is shared out: a block has tile_q columns and band_p rows of it.
struct Tiling {
    int lanes;  // of a warp: those that own an item
    int tiles, tile_q;
    int bands, band_p;
};

template <class Key>
struct SharedStorage {
    static constexpr int kPer = 16 / sizeof(Key), kPlanes = kGroup / kPer;
    // two rows in turn, so that one barrier a row is enough
    Pack<Key, kPer> keys[2][kPlanes][kMaxItems];
};

// Normalizes 8 channels of a row of x, and makes keys of them.
template <class PoolKey, Norm kNorm, class T>
__device__ __forceinline__ void make_keys(const LrnPoolProblem& s,
                                          const PackedFragment<T, kGroup>& raw, bool first,
                                          bool last, int code,
                                          typename PoolKey::type (&keys)[kGroup]) {
    const Vec<kGroup> v = unpack(raw);
    float out[kGroup];
#pragma unroll
    for (int e = 0; e < kGroup; ++e) out[e] = v[e];
    if constexpr (kNorm != Norm::none) {
        float all[kGroup + 2 * kHalf], sum[kGroup];
        lrn::with_neighbours<kHalf>(out, first, last, all);
        lrn::window_sums<kHalf, true>(all, sum);
#pragma unroll
        for (int e = 0; e < kGroup; ++e)
            out[e] *= lrn_powers<kNorm == Norm::three_quarters>(s.k + s.alpha * sum[e], s.beta).y;
    }
#pragma unroll
    for (int e = 0; e < kGroup; ++e) keys[e] = PoolKey::make(out[e], code);
}

template <class T, int kWindow, Norm kNorm, bool kSigned>
__global__ void __launch_bounds__(kMaxItems, sizeof(T) == 2 ? 2 : 1)
    lrn_pool_forward_fused_kernel(LrnPoolProblem s, Tiling t, const T* __restrict__ x,
                                  T* __restrict__ y, uint8_t* __restrict__ argmax) {
    using Key = PoolKey<T, kSigned>;
    using Int = typename Key::type;
    using Storage = SharedStorage<Int>;
    auto& shared = shared_storage<Storage>();
    const int groups = s.c / kGroup, height = s.p(), width = s.q();
    const int tile = blockIdx.x % t.tiles, band = blockIdx.x / t.tiles % t.bands,
              n = blockIdx.x / t.tiles / t.bands;
    const int q0 = tile * t.tile_q, tile_q = min(t.tile_q, width - q0);
    const int p0 = band * t.band_p, p1 = min(p0 + t.band_p, height);

    const int items = (2 * tile_q - 2 + kWindow) * groups;
    const int lane_item = static_cast<int>(lrn::item_of_lane(0, t.lanes));
    // beyond the ends a lane loads along and lends to nobody
    const int item = min(max(lane_item, 0), items - 1);
    const bool owns_item = lane_item == item && lrn::owns(t.lanes);
    const int g = item % groups;
    const bool first = g == 0, last = g == groups - 1;
    const int64_t pitch = int64_t(s.w) * s.c;
    const T* at = x + ((int64_t(n) * s.h + 2 * p0) * s.w + 2 * q0) * s.c + int64_t(item) * kGroup;

    const int out_items = tile_q * groups, out = static_cast<int>(threadIdx.x);
    // the item of its window's first column
    const int window_item = out / groups * 2 * groups + out % groups;
    int64_t out_at = ((int64_t(n) * height + p0) * width + q0) * s.c + int64_t(out) * kGroup;

    // the row that ends one window and begins the next, with the code of the end
    Int carried[kGroup];
    constexpr int kRow0 = kFirstCode - (kWindow - 2) * kWindow,
                  kRow1 = kFirstCode - (kWindow - 1) * kWindow;
    if constexpr (kWindow == 3) {
        make_keys<Key, kNorm>(s, PackedFragment<T, kGroup>::load(at), first, last, kRow1, carried);
        at += pitch;
    }
    // The two rows that this row of the output is the first to need; loaded a step ahead.
    PackedFragment<T, kGroup> row0 = PackedFragment<T, kGroup>::load(at),
                              row1 = PackedFragment<T, kGroup>::load(at + pitch);
    for (int p = p0; p < p1; ++p) {
        const PackedFragment<T, kGroup> now0 = row0, now1 = row1;
        at += 2 * pitch;
        if (p + 1 < p1)
            row0 = PackedFragment<T, kGroup>::load(at),
            row1 = PackedFragment<T, kGroup>::load(at + pitch);

        Int best[kGroup], next[kGroup];
        make_keys<Key, kNorm>(s, now0, first, last, kRow0, best);
        make_keys<Key, kNorm>(s, now1, first, last, kRow1, next);
#pragma unroll
        for (int e = 0; e < kGroup; ++e) {
            best[e] = max(best[e], next[e]);
            if constexpr (kWindow == 3) {
                best[e] = max(best[e], carried[e] + (kFirstCode - kRow1));
                carried[e] = next[e];
            }
        }
        auto& keys = shared.keys[p % 2];
        if (owns_item)
            unroll<Storage::kPlanes>([&](auto k) {
                Pack<Int, Storage::kPer> part;
                unroll<Storage::kPer>([&](auto e) { part.v[e] = best[k * Storage::kPer + e]; });
                keys[k][item] = part;
            });
        __syncthreads();
        if (out < out_items) {
            Int top[kGroup];
            unroll<Storage::kPlanes>([&](auto k) {
                Pack<Int, Storage::kPer> part = keys[k][window_item];
                unroll<kWindow - 1>([&](auto j) {
                    const Pack<Int, Storage::kPer> other = keys[k][window_item + (j + 1) * groups];
                    unroll<Storage::kPer>(
                        [&](auto e) { part.v[e] = max(part.v[e], other.v[e] - (j + 1)); });
                });
                unroll<Storage::kPer>([&](auto e) { top[k * Storage::kPer + e] = part.v[e]; });
            });
            Key::store(y + out_at, top);
            store_places<kFirstCode>(argmax + out_at, top);
        }
        out_at += int64_t(width) * s.c;
    }
}

// The columns of the output that a block's items reach over.
int most_columns(const LrnPoolProblem& s) {
    const int groups = s.c / kGroup, lanes = s.lrn ? lrn::lanes_used(groups) : 32;
    return (kMaxWarps * lanes / groups - (s.window - 2)) / 2;
}

std::string refuses(const LrnPoolProblem& s) {
    if (std::string why = lrn_pool_refuses(s); !why.empty()) return why;
    if (s.window != 2 && s.window != 3) return "window must be 2 or 3";
    if (s.stride != 2) return "stride must be 2";
    if (s.pad) return "pad must be 0";
    if (s.lrn && s.size != 2 * kHalf + 1) return "size must be 5";
    if (s.c < kGroup || s.c % kGroup) return "channels must be a multiple of 8";
    if (most_columns(s) < 1) return "too many channels for a block";
    if (!s.aligned) return "the tensors must start on 16 bytes";
    return {};
}

// Tiles as wide as a block reaches, bands so short that some 1500 blocks make the last wave of them
// a small part, but of 4 rows at least: each band normalizes one row that the band above it did
// too.
Tiling tiling(const LrnPoolProblem& s) {
    Tiling t;
    t.lanes = s.lrn ? lrn::lanes_used(s.c / kGroup) : 32;
    t.tiles = static_cast<int>(ceil_div(s.q(), most_columns(s)));
    t.tile_q = static_cast<int>(ceil_div(s.q(), t.tiles));
    t.tiles = static_cast<int>(ceil_div(s.q(), t.tile_q));
    const int64_t wanted = ceil_div(1500, int64_t(s.n) * t.tiles);
    t.band_p = static_cast<int>(std::max<int64_t>(std::min(4, s.p()), ceil_div(s.p(), wanted)));
    t.bands = static_cast<int>(ceil_div(s.p(), t.band_p));
    return t;
}

void run(const LrnPoolProblem& s, const LrnPoolForwardArgs& a) {
    if (!s.y_count()) return;
    for (const void* pointer : {a.x, static_cast<const void*>(a.y)})
        require_aligned("lrn_pool_forward fused", pointer);
    require_aligned("lrn_pool_forward fused", a.argmax, 8);
    const Tiling t = tiling(s);
    const int items = (2 * t.tile_q - 2 + s.window) * (s.c / kGroup);
    by_dtype(s.dtype, [&]<class T>() {
        auto start = [&]<int kWindow, Norm kNorm, bool kSigned>() {
            const LaunchShape shape{
                .grid = dim3(static_cast<unsigned>(int64_t(s.n) * t.tiles * t.bands)),
                .block = dim3(static_cast<unsigned>(ceil_div(items, t.lanes) * 32)),
                .stream = a.stream,
                .shared = sizeof(SharedStorage<typename PoolKey<T, kSigned>::type>)};
            launch("lrn_pool_forward_fused", shape,
                   lrn_pool_forward_fused_kernel<T, kWindow, kNorm, kSigned>, s, t,
                   static_cast<const T*>(a.x), static_cast<T*>(a.y), a.argmax);
        };
        auto by_norm = [&]<int kWindow>() {
            if (!s.lrn) return start.template operator()<kWindow, Norm::none, true>();
            if (s.beta != 0.75f) return start.template operator()<kWindow, Norm::any_power, true>();
            if (s.relu) return start.template operator()<kWindow, Norm::three_quarters, false>();
            start.template operator()<kWindow, Norm::three_quarters, true>();
        };
        s.window == 3 ? by_norm.template operator()<3>() : by_norm.template operator()<2>();
    });
}

}  // namespace

extern const LrnPoolForward variant;
const LrnPoolForward variant{
    .name = "fused", .refuses = refuses, .workspace = nullptr, .launch = run};

}  // namespace lrn_pool_forward_fused
}  // namespace wt
