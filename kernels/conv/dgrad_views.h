// How the gradient of a convolution's input becomes a product whose taps are views
// (dgrad_views_wgmma_sm90.cu): the positions, which layers can have it, the order of the work, and
// what it is predicted to cost.
//
// im2col copies every position of dy once a tap. Here the positions of all images are one long row,
// with zeros between the rows of an image: of dy's p x q pixels, p + above rows of q + before
// columns, where above = r - 1 - pad_h and before = s - 1 - pad_w are the zeros that the first tap
// needs on one side; those on the other side are the next row's, or the next image's. Pixel (n, i,
// j) of dx is position (n (p + above) + i) (q + before) + j, and tap (o, u) of a run of positions
// is the run o (q + before) + u further on. So a tile's positions, and what its taps reach, are
// copied once for 64 filters and serve all the taps.
//
// Conv2 of AlexNet (25 taps, 27 x 27, before = above = 2), a stage of 64 filters at one tap:
//
//   tile 256 x 96 (owt: 256 x 64)     views                      im2col, kernels/conv/wgmma_tiles.h
//   tensor cores                      768 clocks (512)           768 (512)
//   L2, 40 bytes a clock              249 (199): 10 KB (8)       973 (922): 38 KB (36)
//   shared memory, 128 bytes a clock  751 (463): wgmma reads     992 (832): reads 80 KB (64),
//                                     80 KB (48), TMA writes     writes 44 KB (40)
//                                     14 KB (10)
//   rows that TMA walks               216 (152)                  352 (288)
//   products for 1                    (29 / 27)^2 = 1.154        1
//
// With 64 channels these are the 64 rows of a product, and 128 positions its columns: of 64 columns
// each 64 rows would want all 128 bytes a clock that shared memory has.
//
// The zeros between images' rows cost 15 % of the products, which is less than what im2col waits
// for L2. 132 SMs, batch 256: 841 tiles in pairs are 6 waves and, the last one being cut in halves
// (below), one of half the height: 6 x 768 + 431 clocks a step, 100 steps. In us, at the clock at
// which the tensor cores do 790 TFLOP/s (1.46 GHz), as views_clocks and plan_with have it:
//
//                           batch 128: views, im2col     batch 256: views, im2col
//   alexnet conv2                  189, 202                     349, 403
//   alexnet2012 conv2              120, 192                     235, 385
//   owt conv2                       98, 143                     178, 287
//   alexnet conv3                   59, 70 (2.6 of 3 waves)     116, 116
//   alexnet conv4                   87, 77                      174, 154
//
// From 128 columns on a byte of dy serves enough products, and im2col's bigger tiles are bound by
// the tensor cores: there views only add zeros, and win where their halves fill a last wave better.
// Predicted, not measured; that wgmma reads eight rows of 16 bytes as fast where they do not start
// on 128 bytes is assumed, as it is for the first layer.
#pragma once

#include "kernels/conv/wgmma_common.h"

namespace wt::conv_views {

using namespace conv_wgmma;

constexpr int kTileRows = 256;   // positions of a tile; the last wave's may have half of them
constexpr int kMostReach = 128;  // positions that the last tap may lie behind the first
constexpr int kPositions = kTileRows + kMostReach;  // of a stage of dy
constexpr int kWidths[] = {64, 96, 128};            // columns of a tile: channels

// The positions of dy with zeros between its rows, and dx on them.
struct Positions {
    int n, h, w;        // of dx
    int above, before;  // rows and columns of zeros
    int rows, cols;     // of an image's positions
    int r, s;           // taps

    explicit Positions(const ConvProblem& p)
        : n(p.n),
          h(p.h),
          w(p.w),
          above(p.r - 1 - p.pad_h),
          before(p.s - 1 - p.pad_w),
          rows(p.p() + above),
          cols(p.q() + before),
          r(p.r),
          s(p.s) {}
    __host__ __device__ int64_t count() const { return int64_t(n) * rows * cols; }
    __host__ __device__ int taps() const { return r * s; }
    // How far the last tap lies behind the first.
    __host__ __device__ int reach() const { return (r - 1) * cols + s - 1; }
    // The pixel of dx at a position; -1 if there is none.
    __device__ __forceinline__ int pixel_of(int position) const {
        const int line = position / cols, col = position - line * cols, image = line / rows,
                  row = line - image * rows;
        return image < n && row < h && col < w ? (image * h + row) * w + col : -1;
    }
};

inline std::string refuses_views(const ConvProblem& p) {
    if (p.stride_h != 1 || p.stride_w != 1)
        return "strides of 1 only: a strided layer's gradient is no convolution of dy";
    if (p.pad_h >= p.r || p.pad_w >= p.s) return "padding must be less than the filter";
    if (p.kg() % kDepth) return "the filters of a group must be a multiple of 64: whole stages";
    if (p.cg() % 8)
        return "the channels of a group must be a multiple of 8: rows of whole 16 bytes";
    const Positions at(p);
    if (at.reach() > kMostReach)
        return "a filter's last tap lies more than 128 positions behind its first: too wide an "
               "image for its height";
    if (at.count() >= int64_t(1) << 30) return "needs fewer than 2^30 positions";
    return refuses_any(p);
}

// The order of the work: tiles in pairs, wave after wave of all clusters; the pairs of a last wave
// that is at most half full are done in halves of 128 rows by twice as many clusters.
struct ViewsSchedule {
    TileSchedule tiles;
    int clusters;
    int whole;   // pairs done whole, first; a multiple of the clusters where others follow
    int halved;  // pairs done in two halves

    ViewsSchedule(const ConvProblem& p, int width)
        : tiles(schedule_of(tile_plan(p, width), extents(p))) {
        const int units = tiles.units(), most = std::max(1, planned_sms() / tiles.cluster_size());
        halved = units % most;
        if (2 * halved > most) halved = 0;
        whole = units - halved;
        clusters = std::min(most, items());
    }
    __host__ __device__ int items() const { return whole + 2 * halved; }

private:
    static Extents extents(const ConvProblem& p) {
        return {.rows = Positions(p).count(), .cols = p.cg(), .groups = p.groups, .steps = 1};
    }
    static TilePlan tile_plan(const ConvProblem& p, int width) {
        return {.tile = {kTileRows, width},
                .multicast = Positions(p).count() > kTileRows ? kMostSharers : 1};
    }
};

// The clocks of a step (64 filters at one tap) of a tile of so many rows, as in the table above.
inline double views_step_clocks(const ConvProblem& p, int width, int rows) {
    const Positions at(p);
    const double dy = double(kTileRows + at.reach()) * kDepth * 2 / at.taps();  // bytes
    const double tensor = double(rows) * width * kDepth / 2048;
    // What wgmmas read for 16 of k: 64 rows and their columns, 32 bytes of each. With 64 channels
    // these are the rows, and each consumer's half of the positions the columns.
    const double products = width == 64 ? 2 * (64 + rows / 2) : rows / 64 * (64 + width);
    const double shared = (products * 32 * (kDepth / 16) + double(width) * kDepth * 2 + dy) / 128;
    const double l2 = (double(width) * kDepth * 2 / kMaxMulticast + 2 * dy) / 40;
    return std::max({tensor, shared, l2});
}

// Stages of the filters by which consumer 1 is behind consumer 0 (kernels/tile/wgmma_tile.h): half
// of those that there are, so that 2 us are left for copies that are under way.
constexpr int views_lag(int width) { return width <= 96 ? 4 : 2; }

// The clocks of the whole kernel, stores as im2col's tiles have them (plan_with).
inline double views_clocks(const ConvProblem& p, int width) {
    const ViewsSchedule s(p, width);
    const double steps = double(Positions(p).taps()) * (p.kg() / kDepth);
    const auto wave = [&](int rows) {
        return steps * views_step_clocks(p, width, rows) + wgmma_clocks::epilogue(rows, width);
    };
    const double waves = double(ceil_div(s.whole, s.clusters)),
                 hidden = hidden_clocks({kTileRows, width}, views_lag(width));
    return waves * wave(kTileRows) + (s.halved ? wave(kTileRows / 2) : 0) -
           (waves - (s.halved ? 0 : 1)) * hidden;
}

// The width of the cheapest tile.
inline int views_width(const ConvProblem& p) {
    return *std::ranges::min_element(kWidths, {},
                                     [&](int width) { return views_clocks(p, width); });
}

// Whether this is predicted to be faster than im2col, by more than the prediction can tell.
inline bool suits_views(const ConvProblem& p) {
    const TilePlan im2col = choose_tile(kDgradTiles, dgrad_extents(p), planned_sms());
    return views_clocks(p, views_width(p)) < 0.97 * im2col.clocks;
}

// ---- shared memory ------------------------------------------------------------------------------

// How dy lies in shared memory, for views to start at any position:
//   planes     of 8 filters, 16 bytes a position, no swizzle, as the first layer has its input
//              (first_layer_wgmma.h): 8 copies of rows of 16 bytes for 64 filters
//   swizzled   rows of 64 filters, 128 bytes, one copy. A view then starts within the 1,024 bytes
//              after which the swizzle's pattern repeats. The pattern itself begins where TMA put
//              it, at a multiple of 1,024 bytes, so the descriptor's base offset is 0 (PTX
//              9.7.15.5.1.2), and the exclusive or must be of whole addresses. The test "ptx: wgmma
//              reads rows from any row of a swizzled tile on" asks a GPU that; none has run it, so
//              this form is only taken where it is named.
// A stage: 64 filters of kPositions positions.
template <bool kSwizzled>
struct DyViews {
    static constexpr int kAcross = kSwizzled ? 64 : 8;  // filters of a box
    static constexpr int kBoxes = kDepth / kAcross, kPitch = kAcross * 2;
    static constexpr int kBoxBytes = kPositions * kPitch, kBytes = kBoxes * kBoxBytes;

    // wgmma's descriptor of the rows from `position` on, at filter 0.
    __device__ __forceinline__ static uint64_t descriptor(const uint8_t* stage, int position) {
        return ptx::wgmma_descriptor(stage + position * kPitch, kSwizzled ? 16 : kBoxBytes,
                                     8 * kPitch,
                                     kSwizzled ? ptx::Swizzle::b128 : ptx::Swizzle::none);
    }
    // The bytes to filter 16 j.
    static constexpr uint32_t step(int j) { return kSwizzled ? j * 32 : j * 2 * kBoxBytes; }
};

// Whether positions are a product's columns, not its rows: 64 channels are wgmma's 64 rows.
constexpr bool positions_across(int width) { return width == 64; }

// Where the operands of a stage's products lie: kHeight x 64 positions are rows ...
template <class Dy, class W, int kHeight_>
struct ViewSteps {
    static constexpr int kHeight = kHeight_, kCount = kDepth / 16;
    static constexpr uint32_t a(int h, int j) { return h * 64 * Dy::kPitch + Dy::step(j); }
    static constexpr uint32_t b(int j) { return W::step(j); }
};
// ... or columns.
template <class Dy, class W>
struct ViewAcrossSteps {
    static constexpr int kHeight = 1, kCount = kDepth / 16;
    static constexpr uint32_t a(int, int j) { return W::step(j); }
    static constexpr uint32_t b(int j) { return Dy::step(j); }
};

}  // namespace wt::conv_views
