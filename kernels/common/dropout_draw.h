// The draw that kernels/dropout/problem.h defines, for its kernels and for products that drop in
// their epilogue: counter, key and threshold.
#pragma once

#include <cmath>

#include "kernels/common/philox.h"

namespace wt {

inline constexpr int kDropoutGroup = 8;  // columns that share one Philox call

__host__ __device__ inline PhiloxKey dropout_key(uint64_t seed, uint32_t layer) {
    return {
        {static_cast<uint32_t>(seed) ^ (layer * 0x9E3779B9u), static_cast<uint32_t>(seed >> 32)}};
}

// The counter of columns 8 * group ... 8 * group + 7 of row `row`, both counted in the whole batch
// and layer.
__host__ __device__ inline PhiloxCounter dropout_counter(int64_t group, int64_t row,
                                                         uint64_t step) {
    return {{static_cast<uint32_t>(group), static_cast<uint32_t>(row), static_cast<uint32_t>(step),
             static_cast<uint32_t>(step >> 32)}};
}

__host__ __device__ inline uint32_t dropout_half_word(const PhiloxCounter& words, int i) {
    return (words.w[i / 2] >> (i % 2 * 16)) & 0xFFFFu;
}

// An element is kept when its half word is at least this.
inline uint32_t dropout_threshold(float p) {
    return static_cast<uint32_t>(std::lround(p * 65536.0));
}

}  // namespace wt
