// The powers of s that LRN needs, with or without the paper's exponent.
#pragma once

#include "kernels/ptx/approx.h"

namespace wt {

struct LrnPowers {
    float y;        // s^-beta
    float inverse;  // 1 / s
};

// beta = 3/4 takes two square roots, two instructions of the special function unit; otherwise
// __powf, whose relative error is below 2^-20 here.
template <bool kThreeQuarters>
__device__ __forceinline__ LrnPowers lrn_powers(float s, float beta) {
    if constexpr (kThreeQuarters) {
        const float r = ptx::rsqrt_approx(s);
        return {r * ptx::sqrt_approx(r), r * r};
    } else {
        return {__powf(s, -beta), __fdividef(1, s)};
    }
}

}  // namespace wt
