// Dropout (Krizhevsky et al. 2012, section 4.2), scaled at training time so that nothing changes at
// test time:
//   y[i,j] = keep(i,j) ? x[i,j] / (1 - p) : 0
// keep is a pure function of (seed, step, layer, row, column) through Philox4x32-10, so the
// mask does not depend on how many GPUs share the batch or the columns, and backward is the same
// operation on dy.
//
// Definition of the draw, which every variant must reproduce bit for bit. With R =
// state.row0 + row0 + i, J = col0 + j:
//   counter = (J / 8, R, low 32 bits of step, high 32 bits of step)
//   key     = (low 32 bits of seed ^ layer * 0x9E3779B9, high 32 bits of seed)
//   u = 16-bit half number J % 8 of the four output words (low half of word 0 first)
//   keep when u >= round(p * 65536)
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "kernels/common/dtype.h"
#include "kernels/common/step_state.h"
#include "kernels/variant.h"

namespace wt {

struct DropoutProblem {
    int64_t rows = 1, cols = 1;
    int64_t ld_x = 1, ld_y = 1;
    float p = 0.5f;  // probability of zeroing, 0 <= p < 1
    DType dtype = DType::f32;

    constexpr int64_t count() const { return rows * cols; }
    double bytes() const { return 2.0 * count() * size_of(dtype); }
};

struct DropoutArgs {
    static constexpr const char* operation = "dropout";

    const void* x;
    void* y;                 // may be x when the leading dimensions agree
    const StepState* state;  // device
    uint32_t layer;          // number of the dropout layer in the network
    int64_t row0, col0;      // of this matrix in the whole batch and layer
    cudaStream_t stream;
};

const ProblemFields& fields_of(const DropoutProblem&);  // fields.cpp

using Dropout = Variant<DropoutProblem, DropoutArgs>;
Table<DropoutProblem, DropoutArgs> dropout_variants();

inline std::string dropout_refuses(const DropoutProblem& p) {
    return p.p >= 0 && p.p < 1 ? "" : "p must be at least 0 and less than 1";
}

}  // namespace wt
