// What an SM of an H100 or H200 does in how many clocks: the rates that the wgmma kernels' tiles
// are chosen with. All are published figures or estimates from compiled code; none is measured.
#pragma once

namespace wt::wgmma_clocks {

inline constexpr double kHertz = 1.461e9;      // at 2048 multiply-adds, 790 TFLOP/s of 132 SMs
inline constexpr double kMultiplyAdds = 2048;  // bf16, of the tensor cores, in a clock
inline constexpr double kSharedBytes = 128;    // read from shared memory in a clock
// From L2, in a clock, when every SM asks; a published matrix product without multicast got 37.
inline constexpr double kL2Bytes = 40;

// From the last product of a tile of 128 x 256 to the first of the block's next tile. A consumer
// warp issues 488 instructions for its 128 accumulators a thread (make sass, conv_fprop: bias,
// ReLU, conversions, stmatrix), 2 warps to a scheduler: 976 clocks. The rest, an estimate, is what
// these wait for: the boxes of the store before, stmatrix before the store, and the first stage.
inline constexpr double kEpilogue = 1900;
// Of these, what does not depend on the tile's size.
inline constexpr double kEpilogueOfAnyTile = 500;

inline double epilogue(int bm, int bn) {
    return kEpilogueOfAnyTile + (kEpilogue - kEpilogueOfAnyTile) * bm * bn / (128.0 * 256);
}

// Where a tile is summed in parts: an SM's share of what L2 takes (5.5 TB/s at 1.46 GHz).
inline constexpr double kL2Written = 28;
// A second kernel that adds the parts up: the gap before it, whose blocks are there by then (1 us),
// and the least that it takes, a trip to memory and back (2 us), at 1.46 GHz.
inline constexpr double kSecondKernelGap = 1460, kSecondKernel = 2920;

// Parts of so many bytes of all SMs, `sms` of them: written, read and added up.
inline double parts(double bytes, int sms) {
    const double reads = bytes / (kL2Bytes * sms);
    return bytes / (kL2Written * sms) + kSecondKernelGap +
           (reads > kSecondKernel ? reads : kSecondKernel);
}

}  // namespace wt::wgmma_clocks
