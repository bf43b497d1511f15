// Where Winograd's tiles lie in a batch of images.
//
// A tile of m x m results covers an image's edge badly: 13 rows are 3 tiles of 6, 18 rows. So
// images are laid side by side, in thought, as in a mosaic, with the padding between two of them
// shared: 6 images of 13 rows and a row of zeros between are 14 tiles instead of 18, in both
// directions 39% fewer. A tile at a seam has results of up to four images.
#pragma once

#include <algorithm>

#include "kernels/conv/winograd_cpu.h"
#include "kernels/launch.h"

namespace wt::winograd_cpu {

// One direction, down or across.
struct Axis {
    int in = 0, out = 0;  // pixels of an image that are read, results of an image
    int pad = 0;          // zeros before the first pixel, and at the least between two images
    int tile = 0;         // results of a tile
    int images = 1;       // of a mosaic, in this direction

    int pitch() const { return std::max(in + pad, out); }  // from one image to the next
    int tiles() const { return int(ceil_div((images - 1) * pitch() + out, tile)); }
    // The image that position `at` lies in, and the pixel there; -1 between images. `extent` is
    // in or out.
    struct Place {
        int image, pixel;
    };
    Place place(int at, int extent) const {
        if (at < 0) return {0, -1};
        const int image = at / pitch(), pixel = at % pitch();
        return {image, image < images && pixel < extent ? pixel : -1};
    }
};

struct Tiles {
    int n = 0;  // images
    Axis down, across;

    // The mosaic with the fewest tiles.
    void choose_mosaic() {
        int64_t best = INT64_MAX;
        Tiles t = *this;
        for (t.down.images = 1; t.down.images <= std::min(n, kMost); ++t.down.images)
            for (t.across.images = 1; t.across.images <= std::min(n, kMost); ++t.across.images)
                if (t.count() < best) {
                    best = t.count();
                    *this = t;
                }
    }
    int64_t count() const {
        return ceil_div(n, down.images * across.images) * down.tiles() * across.tiles();
    }

    // Calls f(i, j, image, row, column) for the `side` x `side` positions of tile t, row and column
    // -1 where there is none. read: its pixels, else its results.
    template <class F>
    void each(int64_t t, bool read, int side, F&& f) const {
        const int x = int(t % across.tiles()), y = int(t / across.tiles() % down.tiles());
        const int first = int(t / across.tiles() / down.tiles()) * down.images * across.images;
        Axis::Place rows[kMostSide], cols[kMostSide];
        for (int i = 0; i < side; ++i) {
            rows[i] =
                down.place(y * down.tile + i - (read ? down.pad : 0), read ? down.in : down.out);
            cols[i] = across.place(x * across.tile + i - (read ? across.pad : 0),
                                   read ? across.in : across.out);
        }
        for (int i = 0; i < side; ++i)
            for (int j = 0; j < side; ++j) {
                const int image = first + rows[i].image * across.images + cols[j].image;
                if (rows[i].pixel < 0 || cols[j].pixel < 0 || image >= n)
                    f(i, j, -1, -1, -1);
                else
                    f(i, j, image, rows[i].pixel, cols[j].pixel);
            }
    }

private:
    static constexpr int kMost = 6;  // images in a direction
};

}  // namespace wt::winograd_cpu
