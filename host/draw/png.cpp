#include "host/draw/png.h"

#include <algorithm>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STBI_WRITE_NO_STDIO
#include <stb/stb_image_write.h>
#pragma GCC diagnostic pop

#include "host/cuda/check.h"

namespace wt::draw {

std::string png_of(const std::vector<uint8_t>& rgb, int height, int width) {
    std::string png;
    const auto append = [](void* to, void* bytes, int n) {
        static_cast<std::string*>(to)->append(static_cast<const char*>(bytes),
                                              static_cast<size_t>(n));
    };
    if (!stbi_write_png_to_func(append, &png, width, height, 3, rgb.data(), 3 * width))
        throw Error("a picture of " + std::to_string(width) + "x" + std::to_string(height) +
                    " pixels cannot be made");
    return png;
}

std::string filters_png(const std::vector<float>& weights, int filters, int channels, int height,
                        int width, int across, int scale) {
    const int down = (filters + across - 1) / across, gap = 2;
    const int cell_h = height * scale + gap, cell_w = width * scale + gap;
    const int w = across * cell_w + gap, h = down * cell_h + gap;
    std::vector<uint8_t> rgb(static_cast<size_t>(w * h * 3), 235);
    for (int f = 0; f < filters; ++f) {
        const float* filter = &weights[static_cast<size_t>(f * channels * height * width)];
        const auto [low, high] = std::minmax_element(filter, filter + channels * height * width);
        const float range = std::max(*high - *low, 1e-20f);
        for (int y = 0; y < height * scale; ++y)
            for (int x = 0; x < width * scale; ++x)
                for (int c = 0; c < 3; ++c) {
                    const int channel = channels == 3 ? c : 0;
                    const float v = filter[(channel * height + y / scale) * width + x / scale];
                    const int at =
                        ((f / across * cell_h + gap + y) * w + f % across * cell_w + gap + x) * 3 +
                        c;
                    rgb[static_cast<size_t>(at)] =
                        static_cast<uint8_t>(255 * (v - *low) / range + 0.5f);
                }
    }
    return png_of(rgb, h, w);
}

}  // namespace wt::draw
