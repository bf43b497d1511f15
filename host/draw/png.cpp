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

namespace {

void append(void* to, void* bytes, int n) {
    static_cast<std::string*>(to)->append(static_cast<const char*>(bytes), static_cast<size_t>(n));
}

[[noreturn]] void fail(int height, int width) {
    throw Error("a picture of " + std::to_string(width) + "x" + std::to_string(height) +
                " pixels cannot be made");
}

}  // namespace

std::string png_of(const std::vector<uint8_t>& rgb, int height, int width) {
    std::string png;
    if (!stbi_write_png_to_func(append, &png, width, height, 3, rgb.data(), 3 * width))
        fail(height, width);
    return png;
}

std::string jpeg_of(const std::vector<uint8_t>& rgb, int height, int width, int quality) {
    std::string jpeg;
    if (!stbi_write_jpg_to_func(append, &jpeg, width, height, 3, rgb.data(), quality))
        fail(height, width);
    return jpeg;
}

std::string maps_png(const std::vector<float>& y, int height, int width, int channels,
                     const std::vector<int>& shown, int across) {
    const int count = static_cast<int>(shown.size()), down = (count + across - 1) / across;
    const int w = across * (width + 1) - 1, h = down * (height + 1) - 1;
    std::vector<uint8_t> grey(static_cast<size_t>(w * h * 2));  // and opacity
    for (int i = 0; i < count; ++i) {
        const auto value = [&](int at) {
            return y[static_cast<size_t>(at * channels + shown[static_cast<size_t>(i)])];
        };
        float low = value(0), high = value(0);
        for (int at = 1; at < height * width; ++at) {
            low = std::min(low, value(at));
            high = std::max(high, value(at));
        }
        const float range = std::max(high - low, 1e-20f);
        for (int at = 0; at < height * width; ++at) {
            const int row = i / across * (height + 1) + at / width,
                      column = i % across * (width + 1) + at % width;
            const auto to = static_cast<size_t>(2 * (row * w + column));
            grey[to] = static_cast<uint8_t>(255 * (value(at) - low) / range + 0.5f);
            grey[to + 1] = 255;
        }
    }
    std::string png;
    if (!stbi_write_png_to_func(append, &png, w, h, 2, grey.data(), 2 * w)) fail(h, w);
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
