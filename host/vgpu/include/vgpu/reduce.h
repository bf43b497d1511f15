// What the CUB classes share.
#pragma once

#include <cstring>
#include <type_traits>

#include "vgpu/device.h"

namespace vgpu {

inline constexpr auto plus = [](const auto& a, const auto& b) { return a + b; };

// The order of CUB's warp reductions: a tree of halving distances in each 32 values, then the
// warps' results one after another. Sums so round as they do on hardware.
template <class T, class Op>
T reduce_in_warps(const T* v, int n, Op op) {
    T total{};
    for (int base = 0; base < n; base += 32) {
        T w[32];
        const int m = n - base < 32 ? n - base : 32;
        for (int i = 0; i < m; ++i) w[i] = v[base + i];
        for (int d = 1; d < 32; d *= 2)
            for (int i = 0; i + d < m; i += 2 * d) w[i] = op(w[i], w[i + d]);
        total = base ? op(total, w[0]) : w[0];
    }
    return total;
}

template <class T, int N, class Op>
T fold(const T (&v)[N], Op op) {
    T r = v[0];
    for (int i = 1; i < N; ++i) r = op(r, v[i]);
    return r;
}

template <class T>
T all_ones() {
    T v{};
    if constexpr (std::is_trivially_copyable_v<T>)
        std::memset(static_cast<void*>(&v), 0xff, sizeof v);
    return v;
}

inline void expect_block(int x, int y, int z, Site site) {
    const dim3& b = context.block_dim;
    if (static_cast<int>(b.x) != x || static_cast<int>(b.y) != y || static_cast<int>(b.z) != z)
        [[unlikely]]
        fail(719, "a CUB class made for another block size than this launch's", site);
}

}  // namespace vgpu
