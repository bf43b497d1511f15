// What every problem that has a convolution in it is asked where it is typed.
#pragma once

#include <string>

#include "kernels/conv/problem.h"

namespace wt {

// Why there is no such convolution: groups, a filter beyond the padded image, a storage of x that
// its stride does not have. "" where there is one. Every field has its value.
std::string no_such_convolution(const ConvProblem& p);

}  // namespace wt
