// ReLU and tanh: the tables of variants, plainest first, fastest last.
#include "kernels/activation/problem.h"

namespace wt {

namespace activation_naive {
extern const ActivationForward forward;
extern const ActivationBackward backward;
}
namespace activation_vec8 {
extern const ActivationForward forward;
extern const ActivationBackward backward;
}

Table<ActivationProblem, ActivationForwardArgs> activation_forward_variants() {
    static const ActivationForward table[] = {
        activation_naive::forward,
        activation_vec8::forward,
    };
    return table;
}

Table<ActivationProblem, ActivationBackwardArgs> activation_backward_variants() {
    static const ActivationBackward table[] = {
        activation_naive::backward,
        activation_vec8::backward,
    };
    return table;
}

}  // namespace wt
