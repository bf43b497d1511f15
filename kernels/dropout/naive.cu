// Dropout, one thread and one Philox call per element: seven of its eight half words go unused.
#include "kernels/common/dropout_draw.h"
#include "kernels/dropout/problem.h"
#include "kernels/launch.h"

namespace wt::dropout_naive {
namespace {

template <class T>
__global__ void dropout_naive_kernel(DropoutProblem p, const T* x, T* y, const StepState* state,
                                     uint32_t layer, int64_t row0, int64_t col0,
                                     uint32_t threshold) {
    const int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (e >= p.count()) return;
    const int64_t row = e / p.cols, col = e % p.cols, whole_col = col0 + col;
    const PhiloxCounter words = philox4x32_10(
        dropout_counter(whole_col / kDropoutGroup, state->row0 + row0 + row, state->step),
        dropout_key(state->seed, layer));
    const bool keep =
        dropout_half_word(words, static_cast<int>(whole_col % kDropoutGroup)) >= threshold;
    y[row * p.ld_y + col] = from_float<T>(keep ? to_float(x[row * p.ld_x + col]) / (1 - p.p) : 0.f);
}

void run(const DropoutProblem& p, const DropoutArgs& a) {
    if (!p.count()) return;
    by_dtype(p.dtype, [&]<class T>() {
        launch("dropout_naive", {dim3(ceil_div(p.count(), 256)), dim3(256), a.stream},
               dropout_naive_kernel<T>, p, static_cast<const T*>(a.x), static_cast<T*>(a.y),
               a.state, a.layer, a.row0, a.col0, dropout_threshold(p.p));
    });
}

}  // namespace

extern const Dropout variant;
const Dropout variant{
    .name = "naive", .refuses = dropout_refuses, .workspace = nullptr, .launch = run};

}  // namespace wt::dropout_naive
