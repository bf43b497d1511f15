// What an SM of an H100 or H200 does in how many clocks: the rates that the wgmma kernels' tiles
// are chosen with. All are published figures or estimates from compiled code; none is measured.
#pragma once

namespace wt::wgmma_clocks {

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

}  // namespace wt::wgmma_clocks
