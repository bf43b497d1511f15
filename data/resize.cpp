#include "data/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace wt {

ResizeAxis resize_axis(int in, int full, int first, int out) {
    const double step = double(in) / full;       // input pixels an output pixel covers
    const double support = std::max(1.0, step);  // half the triangle's base
    ResizeAxis axis;
    axis.in = in, axis.out = out;
    axis.taps = std::min(in, int(std::ceil(2 * support)) + 1);
    axis.start.resize(out);
    axis.weight.assign(size_t(out) * axis.taps, 0.0f);
    for (int o = 0; o < out; ++o) {
        const double centre = (first + o + 0.5) * step - 0.5;  // pixel centres lie at + 0.5
        const int start = std::clamp(int(std::ceil(centre - support)), 0, in - axis.taps);
        float* w = &axis.weight[size_t(o) * axis.taps];
        double sum = 0;
        for (int t = 0; t < axis.taps; ++t)
            sum += std::max(0.0, 1 - std::abs(start + t - centre) / support);
        for (int t = 0; t < axis.taps; ++t)
            w[t] = float(std::max(0.0, 1 - std::abs(start + t - centre) / support) / sum);
        axis.start[o] = start;
    }
    return axis;
}

namespace {

// Across one row: `line` holds input columns from `left` on.
template <int C>
void resize_row(const float* line, int left, const ResizeAxis& cols, uint8_t* dst) {
    for (int o = 0; o < cols.out; ++o) {
        const float* w = &cols.weight[size_t(o) * cols.taps];
        const float* in = line + size_t(cols.start[o] - left) * C;
        float sum[C] = {};
        for (int t = 0; t < cols.taps; ++t)
            for (int c = 0; c < C; ++c) sum[c] += w[t] * in[t * C + c];
        for (int c = 0; c < C; ++c)
            dst[o * C + c] = uint8_t(std::clamp(sum[c] + 0.5f, 0.0f, 255.0f));
    }
}

}  // namespace

void resize(const uint8_t* src, int channels, const ResizeAxis& rows, const ResizeAxis& cols,
            uint8_t* dst) {
    // Down first: whole rows add up in long vectors, and only `rows.out` of them are left to go
    // across.
    const int left = *std::min_element(cols.start.begin(), cols.start.end());
    const int right = *std::max_element(cols.start.begin(), cols.start.end()) + cols.taps;
    const int n = (right - left) * channels;
    std::vector<float> line(n);
    for (int y = 0; y < rows.out; ++y) {
        std::fill(line.begin(), line.end(), 0.0f);
        for (int t = 0; t < rows.taps; ++t) {
            const float w = rows.weight[size_t(y) * rows.taps + t];
            if (w == 0) continue;
            const uint8_t* in = src + (size_t(rows.start[y] + t) * cols.in + left) * channels;
            for (int i = 0; i < n; ++i) line[i] += w * float(in[i]);
        }
        uint8_t* out = dst + size_t(y) * cols.out * channels;
        if (channels == 1)
            resize_row<1>(line.data(), left, cols, out);
        else
            resize_row<3>(line.data(), left, cols, out);
    }
}

void resize_short_side(const uint8_t* src, int height, int width, int channels, int side,
                       uint8_t* dst) {
    const double scale = double(side) / std::min(height, width);
    const int full_h = std::max(side, int(std::lround(height * scale)));
    const int full_w = std::max(side, int(std::lround(width * scale)));
    const int top = (full_h - side) / 2, left = (full_w - side) / 2;
    if (full_h == height && full_w == width) {
        for (int y = 0; y < side; ++y)
            std::memcpy(dst + size_t(y) * side * channels,
                        src + (size_t(top + y) * width + left) * channels, size_t(side) * channels);
        return;
    }
    resize(src, channels, resize_axis(height, full_h, top, side),
           resize_axis(width, full_w, left, side), dst);
}

}  // namespace wt
