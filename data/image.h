// Image files to pixels: JPEG through libjpeg-turbo, or stb_image in builds without it, and PNG
// through stb_image. Neither sees a byte that image_structure.h has not checked: files come from
// the web.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace wt {

struct Image {
    int height = 0, width = 0;
    std::vector<uint8_t> rgb;  // [height, width, 3]
};

// Decodes to RGB: grey, alpha (dropped), 16-bit and palette PNG; baseline and progressive JPEG,
// grey, YCbCr, RGB, CMYK and YCCK; by content, whatever the name says. Returns "" or the reason why
// not, and then `image` means nothing. CMYK without an Adobe marker is read as Adobe writes it
// (inverted), as other programs do. The orientation that EXIF may name is not applied. A JPEG whose
// data end early or are no codes is refused.
std::string decode_image(const std::vector<uint8_t>& file, Image& image);
// As a build without libjpeg-turbo does it. The two decoders' pixels differ by a few units of 255.
std::string decode_image_stb(const std::vector<uint8_t>& file, Image& image);
// Whether a file's name ends as those of the files that are decoded, .jpg, .jpeg or .png, in any
// case.
bool is_image_name(const std::string& path);
const char* jpeg_decoder();  // of decode_image: "libjpeg-turbo" or "stb_image"

// The whole file, or the reason why not.
std::string read_file(const std::string& path, std::vector<uint8_t>& bytes);

// What can be seen from a file's first and last bytes: that it is not an image, or is cut off.
// Costs two reads of at most 4 KiB. "" when nothing is wrong so far.
std::string glance_at_image(const std::string& path);

}  // namespace wt
