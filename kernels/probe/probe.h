// Kernels that measuring needs around the ones it measures: operands made, results looked at and
// caches emptied on the device, so that neither the host nor the bus to it sets the pace.
#pragma once

#include <cuda_runtime.h>

#include "kernels/common/dtype.h"

namespace wt::probe {

// What is stored: results have more types than activations.
enum class Kind : uint8_t { f32, bf16, f64, i32, u8 };
constexpr size_t size_of(Kind k) {
    return k == Kind::f64 ? 8 : k == Kind::bf16 ? 2 : k == Kind::u8 ? 1 : 4;
}
constexpr Kind kind_of(DType t) { return t == DType::f32 ? Kind::f32 : Kind::bf16; }

// rows x cols elements, `ld` apart from one row to the next.
struct Matrix {
    void* data = nullptr;
    int64_t rows = 1, cols = 1, ld = 1;
    Kind kind = Kind::f32;

    constexpr int64_t count() const { return rows * cols; }
    // where element i of the rows x cols lies
    constexpr int64_t at(int64_t i) const { return i / cols * ld + i % cols; }
};

// x[i] uniform in [low, high) and never 0, rounded to the type: a function of (series, i) alone.
// With tf32, the low 13 bits of each fp32 number are cleared: what the matrix units read of it.
void fill_uniform(void* x, int64_t count, DType type, float low, float high, uint32_t series,
                  bool tf32, cudaStream_t);

// Zeros what of folded input (kernels/conv/problem.h) lies outside the image.
struct Fold {
    int n, fold_h, fold_w, fold, c;  // stored: n x fold_h x fold_w x (fold fold c)
    int h, w, pad_h, pad_w;          // the image
    bool planes;                     // stored as planes; what lies behind the last position too
};
void clear_fold_padding(void* x, DType type, const Fold&, cudaStream_t);

// out[j] = element index[j] of m, j < count. All device memory.
void gather(const Matrix& m, const int64_t* index, int64_t count, double* out, cudaStream_t);

// The element of `got` that is furthest from `want`'s, in units of rms(want) + |want|; infinite
// when one is not finite. Waits for the stream. Same shapes.
double worst_difference(const Matrix& got, const Matrix& want, cudaStream_t);

// Reads a buffer of zeros, which leaves the caches full of it, and clean: nothing has to be written
// back while the next kernel is timed, as after a memset.
void flush(const void* zeros, size_t bytes, cudaStream_t);

}  // namespace wt::probe
