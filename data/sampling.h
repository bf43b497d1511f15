// What is random about the input: each epoch's order and each image's augmentation, as pure
// functions of (seed, epoch, sample). No state, so they depend on no thread, no worker and no
// restart.
#pragma once

#include <cstdint>

#include "kernels/augment/problem.h"

namespace wt {

// none: centre crop. crop: random crop, mirrored with probability 1/2. full: crop, and colour noise
// along the principal components of RGB with standard deviation 0.1 (the paper's).
enum class AugmentMode { none, crop, full };

// `sample` is the image's index in its data set. out <= src_h, src_w. pca: see DataSplits.
AugmentParams draw_augment(AugmentMode mode, uint64_t seed, uint64_t epoch, uint64_t sample,
                           int src_h, int src_w, int out, const float pca[3][3]);

// The views of an image that are evaluated (Krizhevsky et al. 2012, section 4.1). views 1: the
// centre. 10: the four corners and the centre, then these mirrored; the first five where nothing is
// to be mirrored.
constexpr int view_count(int views, bool mirrors) { return views == 10 && !mirrors ? 5 : views; }
AugmentParams view_of(int view, int views, int src_h, int src_w, int out);

// Which sample stands at position i (0 <= i < n) of an epoch: for every (seed, epoch) a permutation
// of 0..n-1, computed in place in under a microsecond. A Feistel network over the next power of two
// with Philox as its round function; values >= n are sent round again ("cycle walking": Black and
// Rogaway, 2002).
int64_t shuffled(uint64_t seed, uint64_t epoch, int64_t i, int64_t n);

}  // namespace wt
