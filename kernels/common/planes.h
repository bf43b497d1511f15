// Planes: how the first convolution's kernels on Hopper have folded images stored
// (kernels/conv/problem.h). What writes them is the augmentation, what reads them
// kernels/conv/first_layer_wgmma.h; nobody else does.
//
//     [plane][position][8 channels]
//
// A position is a block of pixels, all images' in one long row; plane i has its channels 8 i to 8 i
// + 7: 16 bytes in bf16. So a stretch of positions of a plane is contiguous memory, which a bulk
// copy takes without a tensor map and in whole sectors, while the positions' own rows, of 48
// channels, it would have to take apart into 16 bytes each.
//
// Behind the last position follow zeros: as many positions as complete the last run, and a run
// more. So kernels copy two runs at a time from any run on, without looking for the end.
#pragma once

#include <cstdint>

namespace wt {

inline constexpr int kPlaneChannels = 8;
inline constexpr int kPlaneRun = 128;  // positions

// Positions that a plane has room for.
constexpr int64_t plane_pitch(int64_t positions) {
    return (positions + kPlaneRun - 1) / kPlaneRun * kPlaneRun + kPlaneRun;
}

// Where an element lies.
constexpr int64_t plane_offset(int64_t position, int channel, int64_t pitch) {
    return (channel / kPlaneChannels * pitch + position) * kPlaneChannels +
           channel % kPlaneChannels;
}

// What lies at an offset; behind the last position too.
struct PlaneElement {
    int64_t position;
    int channel;
};
constexpr PlaneElement plane_element(int64_t offset, int64_t pitch) {
    const int64_t row = offset / kPlaneChannels;
    return {.position = row % pitch,
            .channel = static_cast<int>(row / pitch) * kPlaneChannels +
                       static_cast<int>(offset % kPlaneChannels)};
}

}  // namespace wt
