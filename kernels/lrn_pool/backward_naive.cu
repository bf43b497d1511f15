// LRN + max pooling backward, one thread per element of dx, which gathers from the pooling's
// windows for every channel of the normalization's window and recomputes every s. Then the bias: a
// sum per row of pixels, and the sum of those.
#include "kernels/launch.h"
#include "kernels/lrn_pool/problem.h"

namespace wt::lrn_pool_backward_naive {
namespace {

// What the windows that chose channel c of a pixel send it, in row order. Without LRN, y tells
// whether the ReLU was open there.
template <class T>
__device__ float gathered(const LrnPoolProblem& s, const T* dy, const uint8_t* argmax, const T* y,
                          int n, int h, int w, int c) {
    float sum = 0;
    for (int i = min(s.window, h + s.pad + 1) - 1; i >= 0; --i) {
        // the window that has the pixel in its row i
        const int top = h + s.pad - i, p = top / s.stride;
        if (top % s.stride || p >= s.p()) continue;
        for (int j = min(s.window, w + s.pad + 1) - 1; j >= 0; --j) {
            const int left = w + s.pad - j, q = left / s.stride;
            if (left % s.stride || q >= s.q()) continue;
            const int64_t o = ((int64_t(n) * s.p() + p) * s.q() + q) * s.c + c;
            if (argmax[o] != i * s.window + j) continue;
            if (s.lrn || !s.relu || to_float(y[o]) > 0) sum += to_float(dy[o]);
        }
    }
    return sum;
}

template <class T>
__device__ float norm_at(const LrnPoolProblem& s, const T* pixel, int c) {
    float sum = 0;
    for (int j = max(0, c - s.size / 2); j <= min(s.c - 1, c + s.size / 2); ++j)
        sum += to_float(pixel[j]) * to_float(pixel[j]);
    return s.k + s.alpha * sum;
}

template <class T>
__global__ void lrn_pool_backward_naive_kernel(LrnPoolProblem s, const T* x, const T* y,
                                               const T* dy, const uint8_t* argmax, T* dx) {
    const int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (e >= s.x_count()) return;
    const int c = static_cast<int>(e % s.c);
    const int w = static_cast<int>(e / s.c % s.w);
    const int h = static_cast<int>(e / s.c / s.w % s.h);
    const int n = static_cast<int>(e / s.c / s.w / s.h);
    float d = gathered(s, dy, argmax, y, n, h, w, c);
    if (s.lrn) {
        const T* pixel = x + (e - c);
        float sum = 0;
        for (int j = max(0, c - s.size / 2); j <= min(s.c - 1, c + s.size / 2); ++j)
            sum += gathered(s, dy, argmax, y, n, h, w, j) * to_float(pixel[j]) *
                   powf(norm_at(s, pixel, j), -s.beta - 1);
        d = d * powf(norm_at(s, pixel, c), -s.beta) -
            2 * s.alpha * s.beta * to_float(pixel[c]) * sum;
        if (s.relu && !(to_float(pixel[c]) > 0)) d = 0;
    }
    dx[e] = from_float<T>(d);
}

// One thread per channel of a row of pixels.
template <class T>
__global__ void lrn_pool_bias_rows_kernel(LrnPoolProblem s, const T* dx, float* row_sums) {
    const int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (e >= int64_t(s.n) * s.h * s.c) return;
    const int64_t row = e / s.c, c = e % s.c;
    float sum = 0;
    for (int w = 0; w < s.w; ++w) sum += to_float(dx[(row * s.w + w) * s.c + c]);
    row_sums[e] = sum;
}

__global__ void lrn_pool_bias_kernel(int64_t rows, int c, const float* row_sums, float* db) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= c) return;
    float sum = 0;
    for (int64_t row = 0; row < rows; ++row) sum += row_sums[row * c + i];
    db[i] = sum;
}

size_t workspace(const LrnPoolProblem& s) { return s.bias ? sizeof(float) * s.n * s.h * s.c : 0; }

void run(const LrnPoolProblem& s, const LrnPoolBackwardArgs& a) {
    const int64_t rows = int64_t(s.n) * s.h;
    auto* row_sums = static_cast<float*>(a.workspace);
    if (s.x_count())
        by_dtype(s.dtype, [&]<class T>() {
            launch("lrn_pool_backward_naive",
                   {dim3(ceil_div(s.x_count(), 256)), dim3(256), a.stream},
                   lrn_pool_backward_naive_kernel<T>, s, static_cast<const T*>(a.x),
                   static_cast<const T*>(a.y), static_cast<const T*>(a.dy), a.argmax,
                   static_cast<T*>(a.dx));
            if (s.bias)
                launch("lrn_pool_bias_rows", {dim3(ceil_div(rows * s.c, 256)), dim3(256), a.stream},
                       lrn_pool_bias_rows_kernel<T>, s, static_cast<const T*>(a.dx), row_sums);
        });
    if (s.bias && s.c)
        launch("lrn_pool_bias", {dim3(ceil_div(s.c, 32)), dim3(32), a.stream}, lrn_pool_bias_kernel,
               s.x_count() ? rows : 0, s.c, row_sums, a.db);
}

}  // namespace

extern const LrnPoolBackward variant;
const LrnPoolBackward variant{
    .name = "naive", .refuses = lrn_pool_refuses, .workspace = workspace, .launch = run};

}  // namespace wt::lrn_pool_backward_naive
