// JPEG through stb_image, for builds without libjpeg-turbo.
#define STBI_ONLY_JPEG
#include "data/stb_decoder.h"

namespace wt {

std::string decode_jpeg_stb(const std::vector<uint8_t>& checked, Image& image) {
    return decode_by_stb(checked, "JPEG", image);
}

}  // namespace wt
