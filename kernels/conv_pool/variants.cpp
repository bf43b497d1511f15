// Convolution with pooling: the table of variants. The plain one multiplies an output as often as
// windows share it, 9/4 times, so that no GPU gains by it: it is taken only where it is named.
#include "kernels/conv_pool/problem.h"

namespace wt {

namespace conv_pool_naive {
extern const ConvPoolForward forward;
}
namespace conv_pool_wgmma {
extern const ConvPoolForward forward;
}

Table<ConvPoolProblem, ConvPoolForwardArgs> conv_pool_forward_variants() {
    static const ConvPoolForward table[] = {
        conv_pool_naive::forward,
        // Predicted for an H200 (`bin/compare --predict h200 --net owt`), batch 256: 65 us, where
        // the convolution takes 66 and the pooling 38.
        preferred(conv_pool_wgmma::forward, {.gpu = 1, .cpu = 1}),
    };
    return table;
}

}  // namespace wt
