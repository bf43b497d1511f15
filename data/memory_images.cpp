#include <algorithm>
#include <cmath>
#include <cstring>

#include "data/readers.h"

namespace wt {

MemoryImages::MemoryImages(std::vector<uint8_t> pixels, std::vector<uint8_t> labels, int native_h,
                           int native_w, int channels_, int side)
    : pixels_(std::move(pixels)),
      labels_(std::move(labels)),
      image_bytes_(size_t(native_h) * native_w * channels_) {
    height = width = side;
    channels = channels_;
    const double scale = double(side) / std::min(native_h, native_w);
    const int full_h = std::max(side, int(std::lround(native_h * scale)));
    const int full_w = std::max(side, int(std::lround(native_w * scale)));
    rows_ = resize_axis(native_h, full_h, (full_h - side) / 2, side);
    cols_ = resize_axis(native_w, full_w, (full_w - side) / 2, side);
}

bool MemoryImages::load(int64_t i, uint8_t* out) const {
    const uint8_t* image = &pixels_[size_t(i) * image_bytes_];
    if (rows_.in == height && cols_.in == width)
        std::memcpy(out, image, image_bytes_);
    else
        resize(image, channels, rows_, cols_, out);
    return true;
}

bool MemoryImages::load_crop(int64_t i, int y0, int x0, int side, uint8_t* out) const {
    if (rows_.in != height || cols_.in != width) return Dataset::load_crop(i, y0, x0, side, out);
    copy_crop(&pixels_[size_t(i) * image_bytes_], y0, x0, side, out);
    return true;
}

}  // namespace wt
