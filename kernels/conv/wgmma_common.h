// What the Hopper convolutions (*_wgmma_sm90.cu) share: how patches of images become operands, and
// the store. The loop over k and the pipeline of stages are in kernels/tile/wgmma_tile.h; what fits
// and which tiles are taken is in wgmma_tiles.h.
//
// Operands are gathered by TMA's im2col mode: one copy brings a column of consecutive positions
// (output pixels for fprop, input pixels for dgrad) times a box of channels at one tap; padding is
// zeros that the copy itself supplies. So a stage of 64 k is 64 / box copies of the activations and
// nobody computes an address per pixel.
//
// Boxes: k runs over (tap, channel) with boxes of 64 channels where 64 divides the channels of a
// group, else 32 (96 = 3 boxes of 32, 64-byte swizzle), else 16 (48 = 3 boxes of 16, 32-byte
// swizzle). A stage is always 64 k, so 2 or 4 of the small boxes, which may belong to different
// taps; behind the last tap a box names channels that do not exist and reads zeros (conv2 of
// alexnet: 75 boxes in 38 stages, 1.3% more work; a stage of three boxes would leave no room for
// the store).
#pragma once

#include <algorithm>

#include "kernels/common/clusters.h"
#include "kernels/common/machine.h"
#include "kernels/conv/gemm_map.h"
#include "kernels/conv/wgmma_tiles.h"
#include "kernels/ptx/bf16x2.h"
#include "kernels/ptx/ldmatrix.h"
#include "kernels/ptx/tma.h"
#include "kernels/tile/scheduler.h"
#include "kernels/tile/tensor_map.h"
#include "kernels/tile/wgmma_tile.h"

namespace wt::conv_wgmma {

// ---- tiles --------------------------------------------------------------------------------------

static_assert(kMostSharers == kMaxMulticast);

// The order of a product's tiles. A cluster is the blocks that share B.
inline TileSchedule schedule_of(const TilePlan& plan, const Extents& e) {
    TileSchedule s;
    s.tiles_m = static_cast<int>(ceil_div(e.rows, plan.tile.bm));
    s.tiles_n = static_cast<int>(ceil_div(e.cols, plan.tile.bn));
    s.groups = e.groups;
    s.split_steps = s.total_steps = static_cast<int>(e.steps);
    s.multicast = plan.multicast;
    return s;
}

// ---- patches ------------------------------------------------------------------------------------

// The positions that im2col gathers from images, and the taps at each.
struct Window {
    int rows, cols;          // positions down and across
    int stride_h, stride_w;  // from one position to the next
    int lower_h, lower_w;    // pixel of position (0, 0), tap (0, 0)
    int r, s;                // taps down and across
    int channels;            // of a group
    int all_channels;        // of an image

    // The pixel under tap (0, 0) of a position, where a copy starts.
    __device__ __forceinline__ Pixel corner_at(const Pixel& p) const {
        return {p.n, p.row * stride_h + lower_h, p.col * stride_w + lower_w};
    }
    __device__ __forceinline__ Pixel corner(int m) const {
        return corner_at(pixel_at(m, rows, cols));
    }
};

// The window of x over the outputs' positions: fprop's A and wgrad's.
inline Window input_window(const ConvProblem& p) {
    return {.rows = p.p(),
            .cols = p.q(),
            .stride_h = p.stride_h,
            .stride_w = p.stride_w,
            .lower_h = -p.pad_h,
            .lower_w = -p.pad_w,
            .r = p.r,
            .s = p.s,
            .channels = p.cg(),
            .all_channels = p.c};
}

// The tensor map of n images of h x w pixels, for copies of `pixels` positions by `box` channels.
inline CUtensorMap patches_map(const void* images, int n, int h, int w, const Window& v, int box,
                               int pixels) {
    return im2col_map(DType::bf16, images,
                      {.n = n,
                       .h = h,
                       .w = w,
                       .c = v.all_channels,
                       .pitch = v.all_channels,
                       .lower_h = v.lower_h,
                       .lower_w = v.lower_w,
                       .upper_h = v.lower_h + (v.rows - 1) * v.stride_h - (h - 1),
                       .upper_w = v.lower_w + (v.cols - 1) * v.stride_w - (w - 1),
                       .stride_h = v.stride_h,
                       .stride_w = v.stride_w,
                       .channels = box,
                       .pixels = pixels,
                       .swizzle = 2 * box});
}

// Steps through the boxes of a group's k: channels fastest, then taps across, then down.
struct BoxCursor {
    int c = 0, s = 0, r = 0;

    // At box number `box` of `across` channels each.
    __device__ __forceinline__ static BoxCursor at(const Window& v, int box, int across) {
        const Tap t = tap_at(box * across, v.s, v.channels);
        return {t.c, t.s, t.r};
    }
    __device__ __forceinline__ void advance(const Window& v, int across) {
        if ((c += across) < v.channels) return;
        c = 0;
        if (++s == v.s) {
            s = 0;
            ++r;
        }
    }
};

// Copies the next box of patches at `corner` into shared memory; zeros behind the last tap.
__device__ __forceinline__ void load_patches(uint8_t* to, const CUtensorMap& images,
                                             ptx::Mbarrier& bar, const Window& v, int group,
                                             const Pixel& corner, const BoxCursor& box) {
    const bool exists = box.r < v.r;
    ptx::tma_load_im2col(to, images, bar, exists ? group * v.channels + box.c : v.all_channels,
                         corner.col, corner.row, corner.n, static_cast<uint16_t>(box.s),
                         static_cast<uint16_t>(exists ? box.r : 0));
}

// ---- kernels ------------------------------------------------------------------------------------

constexpr int kStoreRows = 16;  // rows of a box of the store: a warp's
// Columns of a box of the store: what its swizzle spans.
constexpr int store_columns(int bn) { return bn % 64 == 0 ? 64 : 32; }

// How many stages fit beside `other_bytes`, 1 KB being left for barriers and alignment.
constexpr int stages_beside(int stage_bytes, int other_bytes) {
    return std::min(kMostStages, (kSharedPerBlock - 1024 - other_bytes) / stage_bytes);
}
// The store's boxes: two for each of 8 consumer warps.
constexpr int store_bytes(int bn) { return 8 * 2 * kStoreRows * store_columns(bn) * 2; }

// A tile's type with as many stages as fit beside the store's boxes.
template <class A, class B>
using StoredTile = WgmmaTile<A, B, stages_beside(A::kBytes + B::kBytes, store_bytes(B::kRows))>;

template <class Tile>
struct SharedStorage {
    typename Tile::Stage stages[Tile::kStages];
    alignas(1024) uint8_t boxes[8][2][kStoreRows * store_columns(Tile::BN) * 2];
    Pipeline<Tile::kStages> pipeline;
};

// rows x columns of bf16 in memory, columns in groups, as boxes of the store: what lies outside a
// group or below the last row is not written.
inline CUtensorMap store_map(const void* y, int64_t rows, int group_columns, int groups, int bn) {
    const int across = store_columns(bn);
    const uint64_t pitch = uint64_t(group_columns) * 2;
    return tiled_map(DType::bf16, y, {uint64_t(group_columns), uint64_t(groups), uint64_t(rows)},
                     {pitch, pitch * groups}, {uint32_t(across), 1, kStoreRows}, 2 * across);
}

// Carries a consumer warp's sums to memory as kernels/tile/wgmma_store.h does a warpgroup's: 16
// rows by one box of columns at a time, two boxes in turn, so that no other warp is waited for and
// a map of (column of a group, group, row) keeps a group's tile from reaching into the next.
// epilogue(half, column, pair) returns what becomes of two neighbouring sums, packed as bf16: those
// of row lane / 4 + 8 half of the warp's 16, and of the tile's columns lane % 4 * 2 after `column`.
template <class Tile>
struct TileStore {
    static constexpr int kAcross = store_columns(Tile::BN), kSpan = 2 * kAcross,
                         kChunks = Tile::BN / kAcross;
    uint8_t (&boxes)[2][kStoreRows * kSpan];  // of this warp
    int turn = 0;

    // Stores the sums of 16 rows in the columns of box number `chunk`.
    template <class F>
    __device__ __forceinline__ void put(const CUtensorMap& map, const float (&acc)[Tile::BN / 2],
                                        int chunk, int row, int column, int group, F&& epilogue) {
        const int lane = threadIdx.x % 32;
        uint8_t* box = boxes[turn];
        turn ^= 1;
        if (ptx::elect_one()) ptx::bulk_wait_read<1>();  // the store before last has read this box
        __syncwarp();
        uint32_t packed[kAcross / 16][4];
        void* to[kAcross / 16];
        unroll<kAcross / 16>([&](auto j) {
            unroll<4>([&](auto i) {  // rows 0-7 and 8-15 of the left 8 columns, then of the right
                const int first = chunk * kAcross + j * 16 + i / 2 * 8;
                const int k = first / 2 + i % 2 * 2;
                packed[j][i] = epilogue(i % 2, first, pair_of(acc[k], acc[k + 1]));
            });
            // Lane l addresses row l % 16 of the left (l < 16) or right 8 columns.
            to[j] = box + swizzled<kSpan>(lane % 16, 2 * j + lane / 16);
        });
        ptx::stmatrix_x4_tile(to, packed);
        ptx::fence_proxy_async();
        __syncwarp();
        if (ptx::elect_one()) {
            ptx::tma_store(map, box, column + chunk * kAcross, group, row);
            ptx::bulk_commit();
        }
    }
    // Before the block ends, and its shared memory with it: by then it must have been read.
    __device__ __forceinline__ static void drain() {
        if (ptx::elect_one()) ptx::bulk_wait_read<0>();
    }
};

}  // namespace wt::conv_wgmma
