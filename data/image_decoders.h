// The decoders behind decode_image. Each takes what image_structure.h has checked and fills
// image.rgb, whose height and width are set. Returns "" or the reason why not.
#pragma once

#include <string>
#include <vector>

#include "data/image.h"

namespace wt {

std::string decode_png_stb(const std::vector<uint8_t>& checked, Image& image);   // stb_png.cpp
std::string decode_jpeg_stb(const std::vector<uint8_t>& checked, Image& image);  // stb_jpeg.cpp
// jpeg_turbo.cpp, in builds with libjpeg-turbo. `components`: the file's.
std::string decode_jpeg_turbo(const std::vector<uint8_t>& checked, int components, Image& image);

}  // namespace wt
