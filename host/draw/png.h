// PNG files of pixels, by stb_image_write.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace wt::draw {

// rgb: height x width x 3.
std::string png_of(const std::vector<uint8_t>& rgb, int height, int width);

// A first convolution's filters as the paper's figure 3 has them: each stretched to its own range,
// in rows of `across`, every weight `scale` x `scale` pixels. weights: OIHW, `channels` 1 or 3.
std::string filters_png(const std::vector<float>& weights, int filters, int channels, int height,
                        int width, int across = 16, int scale = 4);

}  // namespace wt::draw
