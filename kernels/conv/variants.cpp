// The variants of convolution: plainest first, fastest last.
#include "kernels/conv/problem.h"

namespace wt {

namespace conv_naive {
extern const ConvFprop fprop;
extern const ConvDgrad dgrad;
extern const ConvWgrad wgrad;
}  // namespace conv_naive

// Variants live in other files: the arrays are made at the first call, when those are initialised.
Table<ConvProblem, ConvFpropArgs> conv_fprop_variants() {
    static const ConvFprop table[] = {conv_naive::fprop};
    return table;
}

Table<ConvProblem, ConvDgradArgs> conv_dgrad_variants() {
    static const ConvDgrad table[] = {conv_naive::dgrad};
    return table;
}

Table<ConvProblem, ConvWgradArgs> conv_wgrad_variants() {
    static const ConvWgrad table[] = {conv_naive::wgrad};
    return table;
}

}  // namespace wt
