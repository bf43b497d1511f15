// The fastest variants as measured, where they are not the most preferred ones that fit. Rows are
// those of the files that `bin/train --kernels tune` writes, for instance
//
//   {"NVIDIA H200", "conv_wgrad", "n=128 h=27 w=27 c=96 k=256 ...", "mma"},
//
// No GPU has measured anything yet, so there are none: the tables' preferences decide.
#include <array>

#include "host/net/tuning.h"

namespace wt {

std::span<const TunedRow> tuned_table() {
    static constexpr std::array<TunedRow, 0> rows{};
    return rows;
}

}  // namespace wt
