// Matrix products, as plain as it gets: one thread per element of C, the sum in the order of k.
#include "kernels/gemm/problem.h"
#include "kernels/launch.h"

namespace wt::gemm_naive {

template <class T, class Out>
__global__ void gemm_kernel(GemmProblem p, const T* a, const T* b, const float* bias, Out* c) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= static_cast<int64_t>(p.m) * p.n) return;
    const int64_t m = i / p.n, n = i % p.n;
    // Elements from one k to the next, and where k = 0 is.
    const int64_t a_step = p.layout == GemmLayout::tn ? p.lda : 1;
    const int64_t b_step = p.layout == GemmLayout::nt ? 1 : p.ldb;
    a += p.layout == GemmLayout::tn ? m : m * p.lda;
    b += p.layout == GemmLayout::nt ? n * p.ldb : n;

    float sum = bias ? bias[n] : 0.0f;
    for (int k = 0; k < p.k; ++k) sum += to_float(a[k * a_step]) * to_float(b[k * b_step]);
    c[m * p.ldc + n] = from_float<Out>(p.relu && sum < 0 ? 0.0f : sum);
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
    by_dtype(p.dtype, [&]<class T>() {
        const T* a = static_cast<const T*>(g.a);
        by_dtype(p.out, [&]<class Out>() {
            launch("gemm.naive", {dim3(ceil_div(int64_t(p.m) * p.n, 256)), dim3(256), g.stream}, gemm_kernel<T, Out>, p, a,
                   static_cast<const T*>(g.b), p.bias && p.layout == GemmLayout::nt ? g.bias : nullptr,
                   static_cast<Out*>(g.c));
        });
        if (p.bias && p.layout == GemmLayout::tn)
            launch("gemm.naive bias", {dim3(ceil_div(p.m, 64)), dim3(64), g.stream}, bias_grad_kernel<T>, p, a,
                   g.bias_grad);
    });
}

extern const Gemm gemm = {.name = "naive", .refuses = fits_all, .workspace = nullptr, .launch = launch_gemm};

}  // namespace wt::gemm_naive
