// ReLU and tanh: the tables of variants.
#include "kernels/activation/problem.h"

namespace wt {

namespace activation_naive {
extern const ActivationForward forward;
extern const ActivationBackward backward;
}  // namespace activation_naive
namespace activation_vec8 {
extern const ActivationForward forward;
extern const ActivationBackward backward;
}  // namespace activation_vec8

Table<ActivationProblem, ActivationForwardArgs> activation_forward_variants() {
    static const ActivationForward table[] = {
        activation_naive::forward,
        preferred(activation_vec8::forward, {.gpu = 1, .cpu = 1}),
    };
    return table;
}

Table<ActivationProblem, ActivationBackwardArgs> activation_backward_variants() {
    static const ActivationBackward table[] = {
        activation_naive::backward,
        preferred(activation_vec8::backward, {.gpu = 1, .cpu = 1}),
    };
    return table;
}

}  // namespace wt
