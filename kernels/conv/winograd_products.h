// The products of Winograd's planes: a batch of matrix products, one launch (blockIdx.z is the
// matrix). Each is short (k is the channels of a group: 6 to 24 steps), and there are 36 or 64 for
// each group.
#pragma once

#include "kernels/gemm/problem.h"
#include "kernels/tile/split_k.h"

namespace wt::conv_winograd {

// out.groups products of A and B in a layout of kernels/gemm/problem.h, rows x cols summed over k.
// Rows of A and B begin on 16 bytes; what lies between their last element and the next 16 bytes is
// zeros.
struct Products {
    GemmLayout layout;
    const float *a, *b;
    int lda, ldb;                // from row to row
    int64_t stride_a, stride_b;  // from matrix to matrix
    int k;
    SplitKOutput<float> out;
    int splits = 1;  // that this launch computes; out.split may have more
};

// On which units: fp32 lanes, or tensor cores, which round operands to tf32.
enum class Unit { lanes, tensor };

void multiply_tiled(const char* name, const Products& p, cudaStream_t stream);
void multiply_mma(const char* name, const Products& p, cudaStream_t stream);

inline void multiply(const char* name, Unit unit, const Products& p, cudaStream_t stream) {
    return unit == Unit::lanes ? multiply_tiled(name, p, stream) : multiply_mma(name, p, stream);
}

inline bool wants_big(int rows, int cols) { return rows > 64 && cols > 64; }

// How k is divided over the machine, for partial sums that somebody else adds up.
inline SplitK split_of_products(int rows, int cols, int k, int batch) {
    const int edge = wants_big(rows, cols) ? 128 : 64;
    SplitK s = split_k(ceil_div(rows, edge) * ceil_div(cols, edge) * batch, k, 16);
    s.force_workspace = true;
    return s;
}

// Calls f.operator()<L>() with the layout.
template <class F>
void by_layout(GemmLayout layout, F&& f) {
    switch (layout) {
        case GemmLayout::nt: return f.template operator()<GemmLayout::nt>();
        case GemmLayout::nn: return f.template operator()<GemmLayout::nn>();
        case GemmLayout::tn: return f.template operator()<GemmLayout::tn>();
    }
}

template <class Tile>
void launch_products(const char* name, const Products& p, cudaStream_t stream,
                     void (*kernel)(Products)) {
    dim3 grid = product_grid<Tile>(p.out);
    grid.y = p.splits;
    launch(name,
           {.grid = grid,
            .block = dim3(Tile::kThreads),
            .stream = stream,
            .shared = sizeof(typename Tile::SharedStorage)},
           kernel, p);
}

}  // namespace wt::conv_winograd
