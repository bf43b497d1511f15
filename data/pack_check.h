// Looks a set of images over, before hours are spent on packing it or training on it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/pack_source.h"

namespace wt {

struct SetFindings {
    // A line each, in the source's order.
    std::vector<std::string> unreadable;  // and why
    std::vector<std::string> duplicates;  // of equal bytes, with the first of them
    std::vector<std::string> leaked;      // a held-out image whose bytes a training image has too
    std::vector<std::string> tiny;        // short side below kTinySide
    std::vector<std::string> extreme;     // one side more than kExtremeRatio times the other
    std::vector<std::string> poor;        // classes with few training images
    int64_t images = 0;
    int64_t smallest_class = 0, median_class = 0, largest_class = 0;  // training images
};

inline constexpr int kTinySide = 64;
inline constexpr double kExtremeRatio = 4;
inline constexpr double kPoorShare = 0.1;  // of the median class's images

// Reads and decodes every image, on all cores; `show` as in pack().
SetFindings check_set(const PackSource& source, int threads,
                      const std::function<void(int64_t done, int64_t images)>& show,
                      const std::function<bool()>& stop);

}  // namespace wt
