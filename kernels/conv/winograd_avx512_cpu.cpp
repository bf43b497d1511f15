// Winograd's transforms and products in AVX-512: 32 registers of 16 floats, 24 of them sums.
#include <immintrin.h>

#include "kernels/conv/winograd.h"
#include "kernels/conv/winograd_cpu.h"

#define WT_ALWAYS __attribute__((always_inline))
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")
namespace wt::winograd_cpu {
namespace avx512 {
constexpr int kLanes = 16, kRows = 12, kCols = 2;
#include "kernels/conv/winograd_leaves_cpu.h"
}  // namespace avx512

const Leaves& avx512_leaves() { return avx512::leaves; }

}  // namespace wt::winograd_cpu
#pragma GCC pop_options
