// PNG through stb_image. Alone in this file, as JPEG is in stb_jpeg.cpp.
#include <cstdlib>
#include <memory>

#include "data/image_decoders.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#define STBI_MAX_DIMENSIONS 65500
// Zeros: what a damaged file leaves unwritten is the same every time.
#define STBI_MALLOC(bytes) std::calloc(1, bytes)
#define STBI_REALLOC(old, bytes) std::realloc(old, bytes)
#define STBI_FREE(old) std::free(old)
#include <stb/stb_image.h>
#pragma GCC diagnostic pop

namespace wt {

std::string decode_png_stb(const std::vector<uint8_t>& checked, Image& image) {
    int width = 0, height = 0, channels = 0;
    const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
        stbi_load_from_memory(checked.data(), int(checked.size()), &width, &height, &channels, 3),
        stbi_image_free);
    if (!pixels) return std::string("PNG that cannot be decoded (") + stbi_failure_reason() + ")";
    image.rgb.assign(pixels.get(), pixels.get() + size_t(height) * width * 3);
    return "";
}

}  // namespace wt
