// PNG and JPEG files of pixels, by stb_image_write.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace wt::draw {

// rgb: height x width x 3.
std::string png_of(const std::vector<uint8_t>& rgb, int height, int width);

// Likewise, with losses that are hardly seen: a photograph takes a quarter of a PNG's bytes.
std::string jpeg_of(const std::vector<uint8_t>& rgb, int height, int width, int quality = 85);

// Some channels of a layer's output as grey pictures, each stretched to its own range, in rows of
// `across`, a pixel apart with nothing between. y: HWC.
std::string maps_png(const std::vector<float>& y, int height, int width, int channels,
                     const std::vector<int>& shown, int across);

// A first convolution's filters as the paper's figure 3 has them: each stretched to its own range,
// in rows of `across`, every weight `scale` x `scale` pixels. weights: OIHW, `channels` 1 or 3.
std::string filters_png(const std::vector<float>& weights, int filters, int channels, int height,
                        int width, int across = 16, int scale = 4);

}  // namespace wt::draw
