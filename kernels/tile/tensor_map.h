// Tensor maps: what TMA is told of a tensor (kernels/ptx/tma.h). Made on the host, passed to
// kernels as `const __grid_constant__ CUtensorMap`. The driver's functions are looked up at run
// time, so that programs start where there is no driver. Both throw wt::Error naming the extents
// when the driver refuses them.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <vector>

#include "kernels/common/dtype.h"

namespace wt {

// Boxes of a dense or strided tensor of up to 4 dimensions, the contiguous one first. `strides` in
// bytes, of all dimensions but the first: multiples of 16. `box` in elements, each at most 256;
// box[0] elements make 16 bytes or a multiple, and with a swizzle exactly its span. swizzle: 0, 32,
// 64 or 128 bytes. Outside the tensor reads zeros.
CUtensorMap tiled_map(DType, const void* base, const std::vector<uint64_t>& dims,
                      const std::vector<uint64_t>& strides, const std::vector<uint32_t>& box,
                      int swizzle);

// Columns of NHWC images for implicit GEMM: `pixels` positions by `channels` channels a copy.
struct Im2col {
    int n, h, w, c;  // extents that may be read; c: of the group
    int64_t pitch;   // channels from one pixel to the next (more than c for one group's slice)
    int lower_h, lower_w;  // the first position of the window's corner: -pad
    int upper_h,
        upper_w;  // the last one, counted from the last row (column): pad - (r - 1), pad - (s - 1)
    int stride_h = 1, stride_w = 1;
    int channels,
        pixels;   // of a copy: channels * size is the swizzle's span, if any; pixels at most 1024
    int swizzle;  // 0 (none), 32, 64 or 128 bytes
};
CUtensorMap im2col_map(DType, const void* base, const Im2col&);

}  // namespace wt
