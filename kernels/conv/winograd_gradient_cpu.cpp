// wgrad by Winograd on a CPU. dy's tile is the filter that goes over x's, and dw is what comes
// out: it is summed over the tiles while it is at the points, and transformed once.
#include <algorithm>

#include "host/vgpu/exec/grid.h"
#include "kernels/conv/winograd_passes_cpu.h"

namespace wt::winograd_cpu {

static constexpr int64_t kSmallGradient = 4 << 20;  // bytes of dw at the points

// Bytes of a block's tiles of x and dy at the points. They are written and read once; dw at the
// points is read and written once a block. Where the caches hold dw, they are to hold the block
// too; a dw of up to 25 MB wants few blocks. AVX2, one core, owt at batch 64: conv1 takes 55 ms
// with blocks of 2 MB, 61 of 4, 69 of 8; conv4 112 of 12 MB, 89 of 25, 84 of 64.
static int64_t block_bytes(int64_t points, int64_t c, int64_t k) {
    const int64_t dw = int64_t(sizeof(float)) * points * c * k;
    return dw <= kSmallGradient ? 2 << 20 : 64 << 20;
}
static constexpr int kDepth = 128;  // tiles of a product: a panel of them stays in the first cache
static constexpr int kRows = 96;    // filters of a product: what a thread takes at once

template <class T>
Gradient<T>::Gradient(const ConvProblem& p, const Leaves& leaves)
    : leaves_(leaves),
      strided_(p),
      tiles_(tiles_of(unstrided(p))),
      groups_(p.groups),
      taps_(unstrided(p).r),
      transforms_(leaves.of<T>(taps_)),
      points_(transforms_.side * transforms_.side),
      c_(unstrided(p).cg()),
      k_(p.kg()),
      c_pitch_(int(padded(c_))),
      k_pitch_(int(padded(k_))),
      block_(tiles_of_a_block(tiles_.count(), block_bytes(points_, c_, k_),
                              int64_t(points_) * groups_ * (c_pitch_ + k_pitch_))) {}

template <class T>
size_t Gradient<T>::workspace() const {
    return sizeof(float) * (padded(groups_ * std::max(c_, k_)) + padded(folded_filters()) +
                            groups_ * points_ * (x_plane() + dy_plane() + dw_plane()));
}

template <class T>
void Gradient<T>::transform(const T* from, bool is_x, const T* zeros, int64_t tile,
                            float* to) const {
    const T* pixels[kMostPoints];
    alignas(64) T blocks[kMostPoints * kMostFolded];
    const int channels = is_x ? c_ : k_, side = is_x ? transforms_.side : transforms_.tile();
    if (is_x) {
        read_pixels(tiles_, tile, side, from, strided_, groups_ * c_, zeros, blocks, pixels);
    } else {
        const int rows = tiles_.down.out, cols = tiles_.across.out;
        tiles_.each(tile, false, side, [&](int i, int j, int image, int row, int col) {
            pixels[i * side + j] =
                image < 0 ? zeros
                          : from + ((int64_t(image) * rows + row) * cols + col) * groups_ * k_;
        });
    }
    const auto transform = is_x ? transforms_.input : transforms_.gradient;
    const int64_t plane = is_x ? x_plane() : dy_plane();
    for (int g = 0; g < groups_; ++g) {
        transform(pixels, channels, to + g * points_ * plane, plane);
        for (int i = 0; i < side * side; ++i) pixels[i] += channels;
    }
}

// The sums of a group's dy: at the point (1, 1) is a tile's sum, over the square of G's factor.
template <class T>
void Gradient<T>::add_bias(const float* dy, int rows, bool add, float* db) const {
    for (int k = 0; k < k_; ++k) db[k] = add ? db[k] : 0;
    for (int i = 0; i < rows; ++i)
        for (int k = 0; k < k_; ++k) db[k] += transforms_.one_scale * dy[int64_t(i) * k_pitch_ + k];
}

template <class T>
void Gradient<T>::run(const T* x, const T* dy, float* dw, float* db, void* workspace) const {
    T* zeros = static_cast<T*>(workspace);  // with as much room as if they were floats
    float* folded = static_cast<float*>(workspace) + padded(groups_ * std::max(c_, k_));
    float* xs = folded + padded(folded_filters());
    float* dys = xs + groups_ * points_ * x_plane();
    float* dws = dys + groups_ * points_ * dy_plane();
    std::fill_n(zeros, padded(groups_ * std::max(c_, k_)), from_float<T>(0));
    const int64_t count = tiles_.count();
    const int parts = int(ceil_div(k_, kRows)), taps = taps_ * taps_;
    float* sums = is_strided(strided_) ? folded : dw;
#pragma omp parallel num_threads(vgpu::core_count())
    for (int64_t first = 0; first < count; first += block_) {
        const int tiles = int(std::min(block_, count - first));
#pragma omp for schedule(dynamic, 2)
        for (int i = 0; i < 2 * tiles; ++i) {
            const int64_t at = i / 2;
            if (i % 2)
                transform(dy, false, zeros, first + at, dys + at * k_pitch_);
            else
                transform(x, true, zeros, first + at, xs + at * c_pitch_);
        }
        if (db)
#pragma omp for schedule(dynamic) nowait
            for (int g = 0; g < groups_; ++g)
                add_bias(dys + (g * points_ + transforms_.one) * dy_plane(), tiles, first > 0,
                         db + g * k_);
#pragma omp for schedule(dynamic)
        for (int task = 0; task < groups_ * points_ * parts; ++task) {
            const int64_t plane = task / parts;
            const int row = task % parts * kRows;
            for (int t = 0; t < tiles; t += kDepth)
                leaves_.product({.rows = std::min(kRows, k_ - row),
                                 .cols = c_,
                                 .depth = std::min(kDepth, tiles - t),
                                 .a = dys + plane * dy_plane() + int64_t(t) * k_pitch_ + row,
                                 .a_row = k_pitch_,
                                 .b = xs + plane * x_plane() + int64_t(t) * c_pitch_,
                                 .b_row = c_pitch_,
                                 .out = dws + plane * dw_plane() + int64_t(row) * c_pitch_,
                                 .out_row = c_pitch_,
                                 .add = first > 0 || t > 0,
                                 .across = true});
        }
    }
#pragma omp parallel for schedule(dynamic, 4) num_threads(vgpu::core_count())
    for (int filter = 0; filter < groups_ * k_; ++filter) {
        float* results[25];
        for (int t = 0; t < taps; ++t) results[t] = sums + (int64_t(filter) * taps + t) * c_;
        transforms_.of_filters(
            dws + filter / k_ * points_ * dw_plane() + int64_t(filter % k_) * c_pitch_, dw_plane(),
            c_, {}, results);
    }
    if (is_strided(strided_))
        each_run(strided_, [&](int64_t to, int64_t from) {
            std::copy_n(folded + from, strided_.c, dw + to);
        });
}

template class Gradient<float>;
template class Gradient<bf16>;

}  // namespace wt::winograd_cpu
