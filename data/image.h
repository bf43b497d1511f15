// Image files to pixels: JPEG and PNG through stb_image, with the checks stb leaves out. stb decodes a truncated
// JPEG to grey without a word, and takes a four-channel JPEG without an Adobe marker for YCbCr.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace wt {

struct Image {
    int height = 0, width = 0;
    std::vector<uint8_t> rgb;  // [height, width, 3]
};

// Decodes to RGB: grey, alpha (dropped), 16-bit and palette PNG; grey, YCbCr, RGB, CMYK and YCCK JPEG, by content,
// whatever the name says. Returns "" or the reason why not. CMYK without an Adobe marker is read as
// Adobe writes it (inverted), as other programs do.
std::string decode_image(std::vector<uint8_t> file, Image& image);

// The whole file, or the reason why not.
std::string read_file(const std::string& path, std::vector<uint8_t>& bytes);

// What can be seen from a file's first and last bytes: that it is not an image, or is cut off. Costs two
// reads of at most 4 KiB. "" when nothing is wrong so far.
std::string glance_at_image(const std::string& path);

}  // namespace wt
