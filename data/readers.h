// The readers behind open_data, one function a kind. Each returns the splits without statistics.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/resize.h"

namespace wt {

// idx.cpp; dir "": looks for it
DataSplits open_fashion_mnist(const std::string& dir, const DataSpec& spec);
DataSplits open_mnist(const std::string& dir, const DataSpec& spec);    // idx.cpp
DataSplits open_cifar10(const std::string& dir, const DataSpec& spec);  // cifar10.cpp
DataSplits open_folder(const std::string& dir, const DataSpec& spec);   // folder.cpp
DataSplits open_records(const std::string& dir, const DataSpec& spec);  // records.cpp
inline constexpr int64_t kSyntheticImages = 5120;  // of the training split, unless told otherwise
DataSplits open_synthetic(int classes, int64_t images, const DataSpec& spec);  // synthetic.cpp

// mean, std_dev and pca of these first and second moments of RGB. Destroys `covariance`.
void set_colours(DataSplits& splits, const double (&mean)[3], double (&covariance)[3][3]);

// The side that a set's images are stored at; `native`: see stored_size.
inline int side_of(const DataSpec& spec, int native = 0) {
    return spec.stored > 0 ? spec.stored : stored_size(spec.net_input, native);
}

// A split that is in memory at its native size and resized when loaded (Fashion-MNIST for mini: 20
// microseconds an image, 1% of a core at 500 images/s, so no cache is needed).
class MemoryImages : public Dataset {
public:
    // pixels: [n, native_h, native_w, channels]; shrunk or enlarged to side x side.
    MemoryImages(std::vector<uint8_t> pixels, std::vector<uint8_t> labels, int native_h,
                 int native_w, int channels, int side);
    int64_t size() const override { return int64_t(labels_.size()); }
    int label(int64_t i) const override { return labels_[i]; }
    bool load(int64_t i, uint8_t* out) const override;
    bool load_crop(int64_t i, int y0, int x0, int side, uint8_t* out) const override;

private:
    std::vector<uint8_t> pixels_, labels_;
    size_t image_bytes_;
    ResizeAxis rows_, cols_;
};

}  // namespace wt
