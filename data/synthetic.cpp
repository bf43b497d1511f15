// Images made up on the spot: a 4x4 grid of colours that belongs to the class, and noise that
// belongs to the image. About 30 microseconds for 256x256 on one core, twice a copy, so a benchmark
// on it measures the training and not the data; no pool of ready images is kept.
#include <algorithm>
#include <array>

#include "data/random.h"
#include "data/readers.h"

namespace wt {
namespace {

constexpr int64_t kHeldOut = 256;
constexpr int64_t kHeldOutFirst = int64_t(1) << 31;  // behind all training images, however many
constexpr int kGrid = 4;
constexpr size_t kNoise = 1 << 18;  // bytes of noise shared by all images; stays in cache

class Synthetic : public Dataset {
public:
    Synthetic(int64_t count, int64_t first, int n_classes, int side, uint64_t seed)
        : count_(count), first_(first), seed_(seed), noise_(kNoise + size_t(side) * 3) {
        height = width = side;
        channels = 3;
        for (int c = 0; c < n_classes; ++c) classes.push_back("class " + std::to_string(c));
        std::array<uint32_t, 4> words{};
        for (size_t i = 0; i < noise_.size(); ++i) {
            if (i % 4 == 0) words = philox({uint32_t(i), 0, 0, uint32_t(Draw::synthetic)}, seed);
            noise_[i] = uint8_t(words[i % 4] >> 26);  // 0..63
        }
    }
    int64_t size() const override { return count_; }
    int label(int64_t i) const override { return int(i % int64_t(classes.size())); }
    bool load(int64_t i, uint8_t* out) const override {
        const int row_bytes = width * 3;
        const uint32_t which = uint32_t(first_ + i);
        std::vector<uint8_t> line(row_bytes);
        for (int y = 0, cell_row = -1; y < height; ++y) {
            if (const int now = y * kGrid / height; now != cell_row) {
                cell_row = now;
                for (int x = 0; x < width; ++x) {
                    const int cell = cell_row * kGrid + x * kGrid / width;
                    const auto colour = cell_colour(label(i), cell);
                    for (int ch = 0; ch < 3; ++ch) line[x * 3 + ch] = colour[ch];
                }
            }
            // A row begins somewhere in the noise: a multiplicative hash of (image, row).
            const uint8_t* noise = &noise_[(which * 2654435761u + uint32_t(y) * 2246822519u) >> 14];
            uint8_t* to = out + size_t(y) * row_bytes;
            for (int x = 0; x < row_bytes; ++x) to[x] = uint8_t(line[x] + noise[x]);
        }
        return true;
    }

private:
    // 16..191, so that with noise it stays in a byte.
    std::array<uint8_t, 3> cell_colour(int label, int cell) const {
        const auto r =
            philox({uint32_t(label), uint32_t(cell), 1, uint32_t(Draw::synthetic)}, seed_);
        return {uint8_t(16 + below(r[0], 176)), uint8_t(16 + below(r[1], 176)),
                uint8_t(16 + below(r[2], 176))};
    }
    int64_t count_, first_;
    uint64_t seed_;
    std::vector<uint8_t> noise_;
};

}  // namespace

DataSplits open_synthetic(int classes, int64_t images, const DataSpec& spec) {
    const int side = side_of(spec);
    const int64_t train = std::min(images, kHeldOutFirst);
    DataSplits s;
    if (!spec.held_out_only)
        s.train = std::make_unique<Synthetic>(train, 0, classes, side, spec.seed);
    s.held_out = std::make_unique<Synthetic>(kHeldOut, kHeldOutFirst, classes, side, spec.seed);
    s.held_out_name = "val";
    s.description = "synthetic, of seed " + std::to_string(spec.seed) + ": " +
                    (spec.held_out_only ? "" : std::to_string(train) + " training and ") +
                    std::to_string(kHeldOut) + " held-out images, " + std::to_string(classes) +
                    " classes, made at " + std::to_string(side);
    return s;
}

}  // namespace wt
