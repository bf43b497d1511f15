#include "data/sampling.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "data/random.h"

namespace wt {

AugmentParams draw_augment(AugmentMode mode, uint64_t seed, uint64_t epoch, uint64_t sample,
                           int src_h, int src_w, int out, const float pca[3][3]) {
    AugmentParams p{};
    const int free_y = src_h - out, free_x = src_w - out;
    if (mode == AugmentMode::none) {
        p.y0 = int16_t(free_y / 2), p.x0 = int16_t(free_x / 2);
        return p;
    }
    const auto draw = [&](Draw purpose) {
        return philox(
            {uint32_t(sample), uint32_t(sample >> 32), uint32_t(epoch), uint32_t(purpose)}, seed);
    };
    const auto r = draw(Draw::crop);
    p.y0 = int16_t(below(r[0], uint32_t(free_y) + 1));
    p.x0 = int16_t(below(r[1], uint32_t(free_x) + 1));
    p.mirror = int32_t(r[2] >> 31);
    if (mode == AugmentMode::full) {
        // Box-Muller, three of four normals. The + 0.5 keeps the logarithm's argument off 0.
        const auto u = draw(Draw::colour);
        const auto unit = [](uint32_t x) { return (x + 0.5) * 0x1p-32; };
        const double m0 = std::sqrt(-2 * std::log(unit(u[0]))),
                     m1 = std::sqrt(-2 * std::log(unit(u[2])));
        const double turn0 = 2 * std::numbers::pi * unit(u[1]),
                     turn1 = 2 * std::numbers::pi * unit(u[3]);
        const double a[3] = {0.1 * m0 * std::cos(turn0), 0.1 * m0 * std::sin(turn0),
                             0.1 * m1 * std::cos(turn1)};
        for (int ch = 0; ch < 3; ++ch)
            p.noise[ch] = float(pca[ch][0] * a[0] + pca[ch][1] * a[1] + pca[ch][2] * a[2]);
    }
    return p;
}

AugmentParams view_of(int view, int views, int src_h, int src_w, int out) {
    AugmentParams p{};
    const int down = src_h - out, across = src_w - out, place = views == 1 ? 4 : view % 5;
    p.y0 = static_cast<int16_t>(place == 4 ? down / 2 : place / 2 * down);
    p.x0 = static_cast<int16_t>(place == 4 ? across / 2 : place % 2 * across);
    p.mirror = view / 5;
    return p;
}

int64_t shuffled(uint64_t seed, uint64_t epoch, int64_t i, int64_t n) {
    if (n < 2) return 0;
    // The halves differ by a bit when the width is odd, so each is changed by xor with a function
    // of the other in turn: a bijection whatever that function is. Ten rounds, because few-bit
    // halves mix slowly.
    const int bits = std::max(2, int(std::bit_width(uint64_t(n) - 1)));
    const int low_bits = bits / 2;
    const uint64_t low_mask = (uint64_t(1) << low_bits) - 1,
                   high_mask = (uint64_t(1) << (bits - low_bits)) - 1;
    uint64_t low = uint64_t(i) & low_mask, high = uint64_t(i) >> low_bits;
    for (;;) {
        for (uint32_t round = 0; round < 10; ++round) {
            const uint64_t from = round & 1 ? low : high;
            const auto r = philox({uint32_t(from), uint32_t(from >> 32) ^ (round << 16),
                                   uint32_t(epoch), uint32_t(Draw::order)},
                                  seed);
            if (round & 1)
                high ^= r[0] & high_mask;
            else
                low ^= r[0] & low_mask;
        }
        const uint64_t value = high << low_bits | low;
        if (value < uint64_t(n)) return int64_t(value);
    }
}

}  // namespace wt
