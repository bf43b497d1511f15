// LRN + max pooling forward in one pass over x: windows of 3 or 2, stride 2. A thread owns 8
// channels of one column and walks down the image. It normalizes each pixel once, keeps the maximum
// over a window's rows in registers, and lends that to the windows of its columns through shared
// memory, a barrier for each row of the output.
//
// Moves x once but for a row between bands and a column between tiles (2% to 10% of x, which L2
// answers), y and argmax: 2.7 bytes an element at bf16. That is the floor, and leaves 17 issued
// instructions for an element of x at 85% of 4.3 TB/s on 132 SMs. nvcc 13.0 makes 246 of a step of
// two rows; half of the warps skip the 57 that write, so 217, or 13.6 an element, 32 of them for
// the special function unit (without LRN 173 and 145). Predicted, not measured, for norm1
// and norm2 of alexnet at batch 256: 50 and 33 us of issue at 3/4 of its rate, 42 and 27 us of that
// unit at its full one, below the 54 and 34 us that the bytes take at 87% of the copy rate.
#include <algorithm>

#include "kernels/common/pack.h"
#include "kernels/common/vec.h"
#include "kernels/launch.h"
#include "kernels/lrn/halo.h"
#include "kernels/lrn_pool/key.h"
#include "kernels/lrn_pool/problem.h"
#include "kernels/ptx/griddep.h"
#include "kernels/ptx/warp.h"

namespace wt {

namespace lrn_pool_forward_fused {
namespace {

constexpr int kGroup = 8, kHalf = 2;
constexpr int kMaxItems = 384;
// The code of a block's first element. An element's code is this minus kWindow * its row minus its
// column, both counted from the block's: so in every window codes fall as places rise, by the same
// number, and no maximum has to change a code.
constexpr int kTopCode = 0x6fff;
constexpr int kMaxBand = 1024;  // rows of y, so that no code falls below 0

// How the output is shared out: a block has tile_q columns and band_p rows of it.
struct Tiling {
    int tiles, tile_q;
    int bands, band_p;
};

template <class Key>
struct SharedStorage {
    static constexpr int kPer = 16 / sizeof(Key), kPlanes = kGroup / kPer;
    // two rows in turn, so that one barrier a row is enough
    Pack<Key, kPer> keys[2][kPlanes][kMaxItems];
};

// Normalizes the 8 channels of a row of x that `raw` holds, and makes keys of them. `reload` is
// called as soon as raw may be loaded anew: so a step ahead costs no second set of registers.
template <class PoolKey, class T, bool kLrn, class Reload>
__device__ __forceinline__ void make_keys(const lrn::Scale& scale, lrn::Channels<T, kLrn>& raw,
                                          int code, typename PoolKey::type (&keys)[kGroup],
                                          Reload&& reload) {
    if constexpr (kLrn) {
        float v[kGroup + 2 * kHalf], s[kGroup];
        raw.all(v);
        reload();
        lrn::scaled_sums(v, scale.half_offset, s);
#pragma unroll
        for (int e = 0; e < kGroup; ++e)
            keys[e] = PoolKey::make(v[kHalf + e] * lrn::power(s[e], scale), code);
    } else {
        const Vec<kGroup> v = unpack(raw.own);
        reload();
#pragma unroll
        for (int e = 0; e < kGroup; ++e) keys[e] = PoolKey::make(v[e], code);
    }
}

template <class T, int kWindow, bool kLrn, bool kSigned>
__global__ void __launch_bounds__(kMaxItems, sizeof(T) == 2 ? 2 : 1)
    lrn_pool_forward_fused_kernel(LrnPoolProblem s, Tiling t, lrn::Scale scale, const T* x, T* y,
                                  uint8_t* argmax) {
    using Key = PoolKey<T, kSigned>;
    using Int = typename Key::type;
    using Storage = SharedStorage<Int>;
    using Channels = lrn::Channels<T, kLrn>;
    ptx::griddep_wait();
    ptx::griddep_launch_dependents();
    auto& shared = shared_storage<Storage>();
    const int groups = s.c / kGroup, height = s.p(), width = s.q();
    const int tile = blockIdx.x % t.tiles, band = blockIdx.x / t.tiles % t.bands,
              n = blockIdx.x / t.tiles / t.bands;
    const int q0 = tile * t.tile_q, tile_q = min(t.tile_q, width - q0);
    const int p0 = band * t.band_p, p1 = min(p0 + t.band_p, height);

    // Warps without items end here; the threads of the last warp that have none compute along on
    // the last column's, for nobody: a branch around the work would cost all copies of registers.
    const int columns = 2 * tile_q - 2 + kWindow, threads = (columns * groups + 31) / 32 * 32;
    if (static_cast<int>(threadIdx.x) >= threads) return;
    const int item = static_cast<int>(threadIdx.x), g = item % groups;
    const bool first = g == 0, last = g == groups - 1;
    const int64_t pitch = int64_t(s.w) * s.c;
    const int column = min(item / groups, columns - 1);
    const T* at = x + ((int64_t(n) * s.h + 2 * p0) * s.w + 2 * q0 + column) * s.c + g * kGroup;
    int code = kTopCode - item / groups;  // of the next row

    const int out_items = tile_q * groups, out_q = item / groups;
    const bool writes = item < out_items;
    const int window_item = out_q * 2 * groups + g;  // of its window's first column
    int64_t out_at = ((int64_t(n) * height + p0) * width + q0) * s.c + int64_t(item) * kGroup;
    int base = kTopCode - 2 * out_q;  // the code of its window's first element

    // The row that ends one window and begins the next; and the two rows that this row of the
    // output is the first to need, loaded a step ahead.
    Int carried[kGroup];
    Channels row0 = Channels::load(at, first, last), row1;
    if constexpr (kWindow == 3) {
        at += pitch;
        row1 = Channels::load(at + pitch, first, last);
        make_keys<Key>(scale, row0, code, carried, [&] { row0 = Channels::load(at, first, last); });
        code -= kWindow;
    } else {
        row1 = Channels::load(at + pitch, first, last);
    }
    auto* keys = &shared.keys[0];
#pragma unroll 2
    for (int p = p0; p < p1; ++p) {
        // The last step loads its own rows again, from L1: a branch would cost registers.
        if (p + 1 < p1) at += 2 * pitch;
        Int best[kGroup], next[kGroup];
        make_keys<Key>(scale, row0, code, best, [&] { row0 = Channels::load(at, first, last); });
        make_keys<Key>(scale, row1, code - kWindow, next,
                       [&] { row1 = Channels::load(at + pitch, first, last); });
        code -= 2 * kWindow;
#pragma unroll
        for (int e = 0; e < kGroup; ++e) {
            best[e] = max(best[e], next[e]);
            if constexpr (kWindow == 3) {
                best[e] = max(best[e], carried[e]);
                carried[e] = next[e];
            }
        }
        unroll<Storage::kPlanes>([&](auto k) {
            Pack<Int, Storage::kPer> part;
            unroll<Storage::kPer>([&](auto e) { part.v[e] = best[k * Storage::kPer + e]; });
            (*keys)[k][item] = part;
        });
        ptx::bar_sync(1, threads);
        if (writes) {
            // Above every key of value 0, below every other: "no pixel".
            const Int closed = (kTopCode + 1) | ((base - closed_place(kWindow)) & 15);
            Int top[kGroup];
            unroll<Storage::kPlanes>([&](auto k) {
                Pack<Int, Storage::kPer> part = (*keys)[k][window_item];
                unroll<kWindow - 1>([&](auto j) {
                    const Pack<Int, Storage::kPer> other =
                        (*keys)[k][window_item + (j + 1) * groups];
                    unroll<Storage::kPer>([&](auto e) { part.v[e] = max(part.v[e], other.v[e]); });
                });
                unroll<Storage::kPer>([&](auto e) {
                    top[k * Storage::kPer + e] = kSigned ? part.v[e] : max(part.v[e], closed);
                });
            });
            Key::store(y + out_at, top);
            store_places(argmax + out_at, top, base);
        }
        keys = keys == &shared.keys[0] ? &shared.keys[1] : &shared.keys[0];
        out_at += int64_t(width) * s.c;
        base -= 2 * kWindow;
    }
}

// The columns of the output that a block's items reach over.
int most_columns(const LrnPoolProblem& s) {
    return (kMaxItems / (s.c / kGroup) - (s.window - 2)) / 2;
}

std::string refuses(const LrnPoolProblem& s) {
    if (std::string why = lrn_pool_refuses(s); !why.empty()) return why;
    if (s.window != 2 && s.window != 3) return "window must be 2 or 3";
    if (s.stride != 2) return "stride must be 2";
    if (s.pad) return "pad must be 0";
    if (s.lrn && s.size != 2 * kHalf + 1) return "size must be 5";
    if (s.c < kGroup || s.c % kGroup) return "channels must be a multiple of 8";
    if (std::string why = s.lrn ? lrn::scale_refuses(s.alpha, s.k) : ""; !why.empty()) return why;
    if (most_columns(s) < 1) return "too many channels for a block";
    if (!s.aligned) return "the tensors must start on 16 bytes";
    return {};
}

// Tiles as wide as a block reaches, bands so short that some 1500 blocks make the last wave of them
// a small part, but of 4 rows at least: each band normalizes one row that the band above it did
// too.
Tiling tiling(const LrnPoolProblem& s) {
    Tiling t;
    t.tiles = static_cast<int>(ceil_div(s.q(), most_columns(s)));
    t.tile_q = static_cast<int>(ceil_div(s.q(), t.tiles));
    t.tiles = static_cast<int>(ceil_div(s.q(), t.tile_q));
    const int64_t wanted = ceil_div(1500, int64_t(s.n) * t.tiles);
    t.band_p = static_cast<int>(std::max<int64_t>(std::min(4, s.p()), ceil_div(s.p(), wanted)));
    t.band_p = std::min(t.band_p, kMaxBand);
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
        auto start = [&]<int kWindow, bool kLrn, bool kSigned>() {
            const LaunchShape shape{
                .grid = dim3(static_cast<unsigned>(int64_t(s.n) * t.tiles * t.bands)),
                .block = dim3(static_cast<unsigned>(ceil_div(items, 32) * 32)),
                .stream = a.stream,
                .shared = sizeof(SharedStorage<typename PoolKey<T, kSigned>::type>)};
            launch("lrn_pool_forward_fused", shape.with_pdl(),
                   lrn_pool_forward_fused_kernel<T, kWindow, kLrn, kSigned>, s, t,
                   s.lrn ? lrn::scale_of(s.alpha, s.beta, s.k) : lrn::Scale{},
                   static_cast<const T*>(a.x), static_cast<T*>(a.y), a.argmax);
        };
        auto by_norm = [&]<int kWindow>() {
            if (!s.lrn) return start.template operator()<kWindow, false, true>();
            if (s.relu) return start.template operator()<kWindow, true, false>();
            start.template operator()<kWindow, true, true>();
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
