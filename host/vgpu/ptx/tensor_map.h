// What a virtual GPU's CUtensorMap holds, and the copies it describes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

struct CUtensorMap_st;

namespace vgpu {

struct TensorMap {
    static constexpr uint32_t kMagic = 0x70a4ab1d;
    uint64_t base;       // first: the check of a launch's arguments finds it
    uint64_t extent;     // bytes from base to the last element's end
    uint64_t stride[4];  // bytes, of dimensions 1 to 4
    uint32_t last[5];    // extents less one
    uint32_t magic;
    uint32_t bytes;             // of a whole box
    uint16_t box[5];            // tiled: elements; im2col: channels, pixels
    int8_t lower[2], upper[2];  // im2col, W and H
    uint8_t step[5];            // traversal strides
    uint8_t rank;
    uint8_t element;  // bytes
    // bits of the row that are XORed into the chunk: 0, 1, 3, 7 for spans of -, 32, 64, 128 bytes
    uint8_t swizzle;
    bool im2col;
    uint8_t fill;  // byte that elements outside the tensor are made of
};
static_assert(sizeof(TensorMap) <= 128);

// False when it is not one.
bool decode(const CUtensorMap_st&, TensorMap&);

// Boxes. `image` is the box's place in shared memory or a copy of it, `address` its offset in the
// shared window, which decides the swizzle; `at` the coordinates of its corner.
void read_box(const TensorMap&, const int32_t* at, char* image, uint32_t address);
void write_box(const TensorMap&, const int32_t* at, const char* image, uint32_t address);
struct Im2colPlace {
    int32_t c, w, h, n;
    uint16_t offset_w, offset_h;
};
void read_columns(const TensorMap&, const Im2colPlace&, char* image, uint32_t address);

// The tensor's memory that a copy touches, row by row of the box.
using Run = std::function<void(const char* from, uint32_t bytes)>;
void each_run(const TensorMap&, const int32_t* at, const Run&);
void each_run(const TensorMap&, const Im2colPlace&, const Run&);

}  // namespace vgpu
