// Spreads the work of a memory-bound kernel over threads.
//
// A block owns a contiguous piece; its threads interleave over the piece pack by pack, so on a real
// GPU consecutive threads touch consecutive 16 bytes. On a virtual GPU a block has one thread,
// which walks the piece in order: the same loop with a stride of 1, and no call per group.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "kernels/common/machine.h"
#include "kernels/launch.h"

namespace wt {

inline constexpr int64_t kMaxGridY = 65535;

// A rows x cols matrix in groups of `group` columns: blockIdx.x counts pieces of `piece` groups of
// a row; the rows go by blockIdx.y in steps of gridDim.y. A matrix without gaps between its rows is
// one long row.
struct RowPieces {
    int64_t rows, cols;
    int64_t groups;  // of a row
    int64_t piece;   // groups of a block
};

inline RowPieces row_pieces(int64_t rows, int64_t cols, bool gaps, int group,
                            int64_t piece = 1024) {
    if (!gaps) cols *= rows, rows = 1;
    const int64_t groups = ceil_div(cols, group);
    return {.rows = rows, .cols = cols, .groups = groups, .piece = std::min(piece, groups)};
}

inline LaunchShape stream_shape(const RowPieces& s, cudaStream_t stream) {
    const int64_t warps = ceil_div(s.piece, 32);
    return {
        dim3(static_cast<unsigned>(ceil_div(s.groups, s.piece)),
             static_cast<unsigned>(std::min(s.rows, kMaxGridY))),
        dim3(static_cast<unsigned>(std::min<int64_t>(plan_overrides.stream_threads, warps * 32))),
        stream};
}

// A block over pixels of `groups` channel groups each: threadIdx.x over the groups, threadIdx.y
// over the pixels.
inline dim3 pixel_block(int groups, int64_t pixels) {
    const int most = plan_overrides.stream_threads, x = std::min(most, groups);
    return dim3(x, static_cast<unsigned>(std::clamp<int64_t>(pixels, 1, most / x)));
}

}  // namespace wt
