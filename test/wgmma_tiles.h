// Operands of a wgmma in shared memory, for tests of the virtual GPU.
#pragma once

#include "kernels/common/dtype.h"

namespace wt::test {

// Two tiles of each operand, 64 rows of 64: 128 bytes a row, swizzled.
struct Tiles {
    alignas(1024) bf16 a[2][64][64], b[2][64][64];
};
// By a warpgroup: small whole numbers, others for each tile and prime.
__device__ inline void fill(bf16 (&tile)[64][64], int number, int prime) {
    for (int e = static_cast<int>(threadIdx.x); e < 4096; e += 128) {
        const int row = e / 64, chunk = e / 8 % 8;
        tile[row][(chunk ^ row % 8) * 8 + e % 8] =
            from_float<bf16>(static_cast<float>((number * 4096 + e) * prime % 17 - 8));
    }
}

}  // namespace wt::test
