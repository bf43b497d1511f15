// Matrix products, as plain as it gets: one thread per element of C, the sum in the order of k,
// then whatever the epilogue does to one element.
#include "kernels/common/dropout_draw.h"
#include "kernels/gemm/problem.h"
#include "kernels/launch.h"

namespace wt::gemm_naive {

// C[m,n] before the epilogue, from `sum` on.
template <class T>
__device__ inline float product(const GemmProblem& p, const T* a, const T* b, int64_t m, int64_t n,
                                float sum) {
    // Elements from one k to the next, and where k = 0 is.
    const int64_t a_step = p.layout == GemmLayout::tn ? p.lda : 1;
    const int64_t b_step = p.layout == GemmLayout::nt ? 1 : p.ldb;
    a += p.layout == GemmLayout::tn ? m : m * p.lda;
    b += p.layout == GemmLayout::nt ? n * p.ldb : n;
    for (int k = 0; k < p.k; ++k) sum += to_float(a[k * a_step]) * to_float(b[k * b_step]);
    return sum;
}

template <class T, class Out>
__global__ void gemm_kernel(GemmProblem p, GemmArgs g, uint32_t threshold) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= static_cast<int64_t>(p.m) * p.n) return;
    const int64_t m = i / p.n, n = i % p.n;
    const bool adds = p.bias && p.layout == GemmLayout::nt;
    float sum = product(p, static_cast<const T*>(g.a), static_cast<const T*>(g.b), m, n,
                        adds ? g.bias[n] : 0.0f);
    if (p.relu && sum < 0) sum = 0;
    if (p.dropout > 0) {
        const int64_t col = g.col0 + n;
        const PhiloxCounter words = philox4x32_10(
            dropout_counter(col / kDropoutGroup, g.state->row0 + g.row0 + m, g.state->step),
            dropout_key(g.state->seed, g.layer));
        const bool keep =
            dropout_half_word(words, static_cast<int>(col % kDropoutGroup)) >= threshold;
        sum = keep ? sum / (1 - p.dropout) : 0.0f;
    }
    if (p.drelu)
        sum = to_float(static_cast<const Out*>(g.mask)[m * g.ld_mask + n]) > 0 ? g.mask_scale * sum
                                                                               : 0.0f;
    static_cast<Out*>(g.c)[m * p.ldc + n] = from_float<Out>(sum);
}

// The gradient of one weight, and what SGD does with it.
template <class T>
__global__ void sgd_kernel(GemmProblem p, GemmArgs g) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= static_cast<int64_t>(p.m) * p.n) return;
    const int64_t m = i / p.n, n = i % p.n, at = m * p.ldc + n;
    const float grad =
        product(p, static_cast<const T*>(g.a), static_cast<const T*>(g.b), m, n, 0.0f);
    float* weights = static_cast<float*>(g.c);
    const float lr = g.state->lr * g.lr_scale;
    const float v =
        g.state->momentum * g.momentum[at] - g.weight_decay * lr * weights[at] - lr * grad;
    const float w = weights[at] + v;
    g.momentum[at] = v;
    weights[at] = w;
    if (g.w_bf16) g.w_bf16[at] = from_float<bf16>(w);
}

// bias_grad[m] = sum_k A[k,m]
template <class T>
__global__ void bias_grad_kernel(GemmProblem p, const T* a, float* bias_grad) {
    const int m = blockIdx.x * blockDim.x + threadIdx.x;
    if (m >= p.m) return;
    float sum = 0;
    for (int64_t k = 0; k < p.k; ++k) sum += to_float(a[k * p.lda + m]);
    bias_grad[m] = sum;
}

static void launch_gemm(const GemmProblem& p, const GemmArgs& g) {
    const LaunchShape shape{dim3(ceil_div(int64_t(p.m) * p.n, 256)), dim3(256), g.stream};
    by_dtype(p.dtype, [&]<class T>() {
        if (p.sgd)
            launch("gemm.naive sgd", shape, sgd_kernel<T>, p, g);
        else
            by_dtype(p.out, [&]<class Out>() {
                launch("gemm.naive", shape, gemm_kernel<T, Out>, p, g,
                       dropout_threshold(p.dropout));
            });
        if (p.bias && p.layout == GemmLayout::tn)
            launch("gemm.naive bias", {dim3(ceil_div(p.m, 64)), dim3(64), g.stream},
                   bias_grad_kernel<T>, p, static_cast<const T*>(g.a), g.bias_grad);
    });
}

extern const Gemm gemm = {
    .name = "naive", .refuses = fits_all, .workspace = nullptr, .launch = launch_gemm};

}  // namespace wt::gemm_naive
