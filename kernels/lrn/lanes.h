// LRN with a warp's lanes side by side along the channels: a lane holds 8 of them and gets the rest
// of its windows from its neighbours' registers by shuffles, so that each element is loaded,
// squared and normalized once.
//
// Items, which are the groups of 8 channels of one pixel after another's, lie in order over the
// lanes. Where 32 lanes hold whole pixels that is all. Elsewhere a warp's first and last item are
// its neighbour warps' too: those two lanes compute along and only lend their registers, which
// costs 1/16 of the lanes and saves the edge a second load path.
#pragma once

#include <cuda_runtime.h>

namespace wt::lrn {

inline constexpr int kGroup = 8;

// Lanes of a warp that own an item.
constexpr int lanes_used(int groups) { return 32 % groups == 0 ? 32 : 30; }

// This thread's item when the block's first warp begins with item `first`; may lie outside the
// items there are.
__device__ __forceinline__ int64_t item_of_lane(int64_t first, int used) {
    return first + threadIdx.x / 32 * used + threadIdx.x % 32 - (used == 32 ? 0 : 1);
}

// Whether this lane owns its item.
__device__ __forceinline__ bool owns(int used) {
    return used == 32 || (threadIdx.x % 32 != 0 && threadIdx.x % 32 != 31);
}

// A lane's 8 values between kHalf of the lane below and kHalf of the lane above; 0 beyond the
// pixel's first and last group. All 32 lanes call it.
template <int kHalf>
__device__ __forceinline__ void with_neighbours(const float (&own)[kGroup], bool first, bool last,
                                                float (&all)[kGroup + 2 * kHalf]) {
#pragma unroll
    for (int i = 0; i < kGroup; ++i) all[kHalf + i] = own[i];
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
        const float below = __shfl_up_sync(0xffffffffu, own[kGroup - kHalf + i], 1);
        const float above = __shfl_down_sync(0xffffffffu, own[i], 1);
        all[i] = first ? 0.f : below;
        all[kGroup + kHalf + i] = last ? 0.f : above;
    }
}

// sum[i] = v[i] + ... + v[i + 2 kHalf], or of the squares. Windows of 5 in 21 additions instead of
// 32: a pair of neighbouring windows shares the middle four, and those are sums of pairs.
template <int kHalf, bool kSquares>
__device__ __forceinline__ void window_sums(const float (&v)[kGroup + 2 * kHalf],
                                            float (&sum)[kGroup]) {
    auto plus = [&](int i, float to) { return kSquares ? to + v[i] * v[i] : to + v[i]; };
    if constexpr (kHalf == 2) {
        float pair[5];  // v[2 i + 1] + v[2 i + 2]
#pragma unroll
        for (int i = 0; i < 5; ++i)
            pair[i] = plus(2 * i + 2, kSquares ? v[2 * i + 1] * v[2 * i + 1] : v[2 * i + 1]);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float middle = pair[i] + pair[i + 1];
            sum[2 * i] = plus(2 * i, middle);
            sum[2 * i + 1] = plus(2 * i + 5, middle);
        }
    } else {
#pragma unroll
        for (int i = 0; i < kGroup; ++i) {
            sum[i] = 0;
#pragma unroll
            for (int d = 0; d <= 2 * kHalf; ++d) sum[i] = plus(i + d, sum[i]);
        }
    }
}

}  // namespace wt::lrn
