// Dropout's draw as kernels/dropout/problem.h defines it, one element at a time.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/common/philox.h"
#include "kernels/common/step_state.h"

namespace wt::reference {

inline uint32_t dropout_draw(const StepState& state, uint32_t layer, int64_t row, int64_t col) {
    const uint32_t seed_low = static_cast<uint32_t>(state.seed & 0xFFFFFFFFu);
    const uint32_t seed_high = static_cast<uint32_t>(state.seed >> 32);
    const PhiloxCounter out =
        philox4x32_10({{static_cast<uint32_t>(col / 8), static_cast<uint32_t>(state.row0 + row),
                        static_cast<uint32_t>(state.step & 0xFFFFFFFFu),
                        static_cast<uint32_t>(state.step >> 32)}},
                      {{seed_low ^ (layer * 0x9E3779B9u), seed_high}});
    const int half = static_cast<int>(col % 8);
    const uint32_t word = out.w[half / 2];
    return half % 2 ? word >> 16 : word & 0xFFFFu;
}

inline bool dropout_keep(const StepState& state, uint32_t layer, int64_t row, int64_t col,
                         double p) {
    return dropout_draw(state, layer, row, col) >= static_cast<uint32_t>(std::lround(p * 65536));
}

}  // namespace wt::reference
