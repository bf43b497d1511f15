// What the image fuzzers do with an input: decode it twice in differently filled memory, resize it,
// and hold the results against each other.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "data/image.h"
#include "data/image_structure.h"
#include "data/resize.h"
#include "test/fuzz/filled_memory.h"

namespace wt::fuzz {

struct Decoded {
    std::string why;
    Image image;
    std::vector<uint8_t> stored;
};

inline Decoded decode_filled(std::string (*decode)(const std::vector<uint8_t>&, Image&),
                             const std::vector<uint8_t>& file, unsigned char byte) {
    constexpr int side = 24;
    fill_memory_with(byte);
    Decoded d;
    d.why = decode(file, d.image);
    if (!d.why.empty()) return d;
    if (d.image.rgb.size() != size_t(d.image.height) * size_t(d.image.width) * 3)
        fault("the pixels are not as many as height and width say");
    d.stored.resize(size_t(side) * side * 3);
    resize_short_side(d.image.rgb.data(), d.image.height, d.image.width, 3, side, d.stored.data());
    return d;
}

// `file`: with a width and height that the caller has found to be bearable.
inline void decode_twice(std::string (*decode)(const std::vector<uint8_t>&, Image&),
                         const std::vector<uint8_t>& file) {
    const Decoded a = decode_filled(decode, file, 0x00), b = decode_filled(decode, file, 0xFF);
    if (a.why != b.why) fault("what was never written decides whether this can be decoded");
    if (!a.why.empty()) {
        if (a.why.find('\n') != std::string::npos) fault("a reason of two lines");
        return;
    }
    if (a.image.rgb != b.image.rgb) fault("pixels depend on what was never written");
    if (a.stored != b.stored) fault("resized pixels depend on what was never written");
}

// Larger ones take their time, and take no other way.
constexpr int64_t kPixels = 1 << 17;

// The input as a JPEG, through `decode`: what the checks refuse it must refuse, and what it decodes
// must not depend on memory.
inline int jpeg_target(std::string (*decode)(const std::vector<uint8_t>&, Image&),
                       const uint8_t* data, size_t size) {
    std::vector<uint8_t> file(data, data + size);
    file.resize(std::max<size_t>(size, 3));
    file[0] = file[2] = 0xFF;
    file[1] = 0xD8;
    JpegStructure jpeg;
    if (!read_jpeg_structure(file, jpeg).empty()) {
        Image image;
        if (decode(file, image).empty()) fault("decoded what the checks refuse");
        return 0;
    }
    if (int64_t(jpeg.width) * jpeg.height <= kPixels) decode_twice(decode, file);
    return 0;
}

}  // namespace wt::fuzz
