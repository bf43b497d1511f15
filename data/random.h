// The loader's random draws: Philox (kernels/common/philox.h) with a purpose in its counter.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/common/philox.h"

namespace wt {

// What a stream of draws is for, so that no two purposes share counters.
enum class Draw : uint32_t { order = 1, crop = 2, colour = 3, synthetic = 4 };

inline std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, uint64_t key) {
    const PhiloxCounter r = philox4x32_10({{counter[0], counter[1], counter[2], counter[3]}},
                                          {{uint32_t(key), uint32_t(key >> 32)}});
    return {r.w[0], r.w[1], r.w[2], r.w[3]};
}

// 0 .. n - 1, each as likely as the next but for a bias of n / 2^32.
inline uint32_t below(uint32_t random, uint32_t n) {
    return uint32_t((uint64_t(random) * n) >> 32);
}

}  // namespace wt
