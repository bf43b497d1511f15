// stb_image, for a file that defines STBI_ONLY_JPEG or STBI_ONLY_PNG before it includes this, and
// nothing but that: with two formats in one file stb_image leaves behind, as the reason of one,
// what the other found wrong.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "data/image_decoders.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBI_NO_STDIO
#define STBI_MAX_DIMENSIONS 65500
// Zeros: what a damaged file leaves unwritten is the same every time.
#define STBI_MALLOC(bytes) std::calloc(1, bytes)
#define STBI_REALLOC(old, bytes) std::realloc(old, bytes)
#define STBI_FREE(old) std::free(old)
#include <stb/stb_image.h>
#pragma GCC diagnostic pop

namespace wt {

// `checked`: a file whose structure has been checked. Returns "", or why it cannot be decoded,
// which begins with the format's name.
static std::string decode_by_stb(const std::vector<uint8_t>& checked, const char* format,
                                 Image& image) {
    int width = 0, height = 0, channels = 0;
    const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
        stbi_load_from_memory(checked.data(), int(checked.size()), &width, &height, &channels, 3),
        stbi_image_free);
    if (!pixels)
        return std::string(format) + " that cannot be decoded (" + stbi_failure_reason() + ")";
    image.rgb.assign(pixels.get(), pixels.get() + size_t(height) * width * 3);
    return "";
}

}  // namespace wt
