// The way out of the gradient by views (dgrad_views_wgmma_sm90.cu): from a warp's sums of positions
// to the pixels of dx that they are, with the gradient of a ReLU.
#pragma once

#include "kernels/conv/dgrad_views.h"
#include "kernels/ptx/store.h"

namespace wt::conv_views {

struct ViewsShape {
    Positions positions;
    Window window;               // of dy: corners of positions
    int copied;                  // positions of a copy of dy
    int channels, all_channels;  // of a group; of an image
    int filters;                 // of a group, a multiple of 64
    ViewsSchedule schedule;
    int lag;        // stages of filters by which consumer 1 is behind
    const bf16* x;  // null: no gradient of a ReLU
    bf16* dx;
};

// What a block computes at a time: 256 positions, or 128 of them, by the tile's channels.
struct WorkItem {
    int first;  // position
    int column, group;
};

// A warp's 16 positions of dx on their way out, through 16 rows of shared memory: 16 bytes of a row
// to a lane, kUnits times.
template <int BN>
struct RowStore {
    static constexpr int kAcross = BN / 8, kUnits = 16 * kAcross / 32;
    // Bytes from one row to the next in shared memory: 16-byte accesses of 8 rows meet no bank
    // twice.
    static constexpr int kPitch = (BN + 8) * 2, kBytes = 16 * kPitch;
    const ViewsShape& v;
    int channel;   // the tile's first, of all
    int channels;  // how many of the tile's exist
    int pixel;     // of row lane % 16; -1: nowhere
    uint4 mask[kUnits];

    __device__ __forceinline__ RowStore(const ViewsShape& shape, const WorkItem& item)
        : v(shape),
          channel(item.group * shape.channels + item.column),
          channels(shape.channels - item.column) {}

    // Where unit i of this lane goes in dx, and comes from in x; below 0: nowhere.
    __device__ __forceinline__ int64_t offset(int i) const {
        const int at = i * 32 + threadIdx.x % 32, row = at / kAcross, unit = at % kAcross;
        const int to = __shfl_sync(0xffffffffu, pixel, row);
        return to >= 0 && unit * 8 < channels ? int64_t(to) * v.all_channels + channel + unit * 8
                                              : -1;
    }
    // Turns to the rows at `position`; starts to load x there, for its signs.
    __device__ __forceinline__ void seek(int position) {
        pixel = v.positions.pixel_of(position + threadIdx.x % 16);
        if (!v.x) return;
        unroll<kUnits>([&](auto i) {
            const int64_t from = offset(i);
            mask[i] = from >= 0 ? *reinterpret_cast<const uint4*>(v.x + from) : uint4{};
        });
    }
    // The halves of `pair` whose halves of `sign` are above 0: bf16 orders as int16 does.
    __device__ __forceinline__ static uint32_t masked(uint32_t pair, uint32_t sign) {
        return (static_cast<int16_t>(sign) > 0 ? pair & 0xffffu : 0) |
               (static_cast<int32_t>(sign) >= 1 << 16 ? pair & 0xffff0000u : 0);
    }
    // Stores what `rows` in shared memory have.
    __device__ __forceinline__ void send(const uint8_t* rows) const {
        unroll<kUnits>([&](auto i) {
            const int at = i * 32 + threadIdx.x % 32, row = at / kAcross, unit = at % kAcross;
            uint4 out = *reinterpret_cast<const uint4*>(rows + row * kPitch + unit * 16);
            if (v.x)
                out = {masked(out.x, mask[i].x), masked(out.y, mask[i].y), masked(out.z, mask[i].z),
                       masked(out.w, mask[i].w)};
            if (const int64_t to = offset(i); to >= 0) ptx::store_16(v.dx + to, out);
        });
    }
};

// A warp's sums of 16 positions, its 16 rows of a product, as rows of shared memory.
template <int BN>
__device__ __forceinline__ void write_rows(uint8_t* rows, const float (&acc)[BN / 2]) {
    const int lane = threadIdx.x % 32;
    uint32_t packed[BN / 16][4];
    void* to[BN / 16];
    unroll<BN / 16>([&](auto j) {
        unroll<4>([&](auto i) {  // rows 0-7 and 8-15 of the left 8 columns, then of the right
            const int k = j * 8 + i / 2 * 4 + i % 2 * 2;
            packed[j][i] = pack_bf16(pair_of(acc[k], acc[k + 1]));
        });
        // Lane l addresses row l % 16 of the left (l < 16) or right 8 columns.
        to[j] = rows + lane % 16 * RowStore<BN>::kPitch + (2 * j + lane / 16) * 16;
    });
    ptx::stmatrix_x4_tile(to, packed);
}

// The same where positions are columns, kColumns of them: a warp has 16 channels of each, and
// writes 32 bytes of each row.
template <int BN, int kColumns>
__device__ __forceinline__ void write_columns(uint8_t* rows, const float (&acc)[kColumns / 2]) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
    // Lane l addresses position l % 8 of the first (l < 16) or second 8, channels 0-7 or 8-15.
    uint8_t* to =
        rows + (lane / 16 * 8 + lane % 8) * RowStore<BN>::kPitch + (warp * 2 + lane / 8 % 2) * 16;
    unroll<kColumns / 16>([&](auto j) {
        uint32_t packed[4];  // channels 0-7 and 8-15 of the first 8 positions, then of the second
        unroll<4>([&](auto i) {
            packed[i] = pack_bf16(pair_of(acc[j * 8 + i * 2], acc[j * 8 + i * 2 + 1]));
        });
        ptx::stmatrix_x4_trans(to + j * 16 * RowStore<BN>::kPitch, packed);
    });
}

}  // namespace wt::conv_views
