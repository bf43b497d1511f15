// What the first layer's two direct kernels share. The first layer has 3 input channels and large
// filters: channels are no whole 16 bytes, but a row of a patch (s, c) is one run of memory, and so
// is a row of the image. These kernels keep whole image rows in shared memory and index them by
// (column, channel) together; no patch is ever gathered. The input of the first layer needs no
// gradient.
#pragma once

#include <algorithm>
#include <string>

#include "kernels/common/machine.h"
#include "kernels/common/vec.h"
#include "kernels/conv/gemm_map.h"
#include "kernels/launch.h"

namespace wt::conv1_direct {

constexpr int kFilters = 32;  // of a block: 4 threads across, 8 filters each
// of the image at a time: the 23 rows that 4 output rows of AlexNet read
constexpr int kInputFloats = 16192;
constexpr int kMaxPixels = 280;  // output pixels at a time

// How the output is cut into pieces of work: `rows` x `columns` output pixels of one image, which
// read `in_rows` x `pitch` floats of it.
struct Cut {
    int rows, columns;
    int row_groups, column_groups;  // pieces down and across an image
    int in_rows, pitch;

    __host__ __device__ int pieces(int images) const { return images * row_groups * column_groups; }
};

// Whether pieces of at most `rows` x `columns` fit; fills in the rest, evened out.
inline bool cut_into(const ConvProblem& p, int rows, int columns, Cut& cut) {
    cut.row_groups = static_cast<int>(ceil_div(p.p(), rows));
    cut.column_groups = static_cast<int>(ceil_div(p.q(), columns));
    cut.rows = static_cast<int>(ceil_div(p.p(), cut.row_groups));
    cut.columns = static_cast<int>(ceil_div(p.q(), cut.column_groups));
    cut.in_rows = (cut.rows - 1) * p.stride_h + p.r;
    const int read =
        (cut.columns - 1) * p.stride_w * p.c + static_cast<int>(ceil_div(p.s * p.c, 4)) * 4;
    cut.pitch = static_cast<int>(ceil_div(read, 4)) * 4;
    return cut.rows * cut.columns <= kMaxPixels && int64_t(cut.in_rows) * cut.pitch <= kInputFloats;
}

// The cheapest cut when pixels are dealt out in lots of `lot`: a pixel costs its taps, a staged
// float as much as two taps. Small pieces stage the same input rows again and again, large ones may
// leave a lot part empty.
inline bool best_cut(const ConvProblem& p, int lot, Cut& best) {
    double least = 0;
    Cut cut;
    for (int across = 1; across <= p.q() && least == 0; ++across)  // whole rows if they fit
        for (int rows = std::min(p.p(), kMaxPixels); rows >= 1; --rows) {
            if (!cut_into(p, rows, static_cast<int>(ceil_div(p.q(), across)), cut)) continue;
            const double pixels = double(ceil_div(cut.rows * cut.columns, lot)) * lot;
            const double cost =
                cut.pieces(1) * (pixels * p.r * p.s * p.c + 2.0 * cut.in_rows * cut.pitch);
            if (least == 0 || cost < least) least = cost, best = cut;
        }
    return least > 0;
}

inline std::string refuses_shape(const ConvProblem& p) {
    if (std::string why = refuses_fusions(p); !why.empty()) return why;
    if (p.c > 4 || p.groups != 1) return "for a first layer: at most 4 channels, one group";
    if (int64_t(p.n) * p.p() * p.q() >= int64_t(1) << 30 || int64_t(p.h) * p.w * p.c >= int64_t(1)
                                                                                            << 30)
        return "needs fewer than 2^30 pixels";
    if (Cut cut; !best_cut(p, 1, cut))
        return "the input of one output pixel does not fit in shared memory";
    return "";
}

// Copies in_rows x pitch floats of image n into shared memory, from input row h and element `start`
// of that row (column * c + channel) on, zeros outside the image. A warp takes a row at a time:
// whole lines.
template <class T>
__device__ __forceinline__ void stage_input(float* to, const Cut& cut, const ConvShape& v,
                                            const T* x, int n, int h, int start) {
    const int warps = blockDim.x / 32, lane = threadIdx.x % 32, line = v.w * v.c;
    for (int r = threadIdx.x / 32; r < cut.in_rows; r += warps) {
        const bool inside = h + r >= 0 && h + r < v.h;
        const T* from = x + (static_cast<int64_t>(n) * v.h + (inside ? h + r : 0)) * line;
        for (int e = lane; e < cut.pitch; e += 32) {
            const int i = start + e;
            to[r * cut.pitch + e] = inside && i >= 0 && i < line ? to_float(from[i]) : 0.0f;
        }
    }
}

}  // namespace wt::conv1_direct
