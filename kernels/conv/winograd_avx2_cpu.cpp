// Winograd's transforms and products in AVX2: 16 registers of 8 floats, 12 of them sums.
#include <immintrin.h>

#include "kernels/conv/winograd.h"
#include "kernels/conv/winograd_cpu.h"

#define WT_ALWAYS __attribute__((always_inline))
#pragma GCC push_options
#pragma GCC target("avx2,fma,no-avx512f")
namespace wt::winograd_cpu {
namespace avx2 {
constexpr int kLanes = 8, kRows = 6, kCols = 2;
#include "kernels/conv/winograd_leaves_cpu.h"
}  // namespace avx2

const Leaves& avx2_leaves() { return avx2::leaves; }

}  // namespace wt::winograd_cpu
#pragma GCC pop_options
