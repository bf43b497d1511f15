// PNG through stb_image.
#define STBI_ONLY_PNG
#include "data/stb_decoder.h"

namespace wt {

std::string decode_png_stb(const std::vector<uint8_t>& checked, Image& image) {
    return decode_by_stb(checked, "PNG", image);
}

}  // namespace wt
