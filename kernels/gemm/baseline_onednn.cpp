// Matrix products by oneDNN, each by whichever of its two entry points is faster.
//
// Measured at batch 128 on two AVX-512 cores, fc6 (4096 x 9216), GFLOP/s as sgemm / as matmul: nt
// 103 / 194 (sgemm gathers columns of B one by one), nn 191 / 160, tn 221 / 162. On AVX2 both are
// the same code. Copying the weights to a blocked layout first (18 ms of 50) never pays: they
// change every step. bf16 is always a matmul.
#include <algorithm>

#include "kernels/gemm/problem.h"
#include "kernels/vendor/onednn.h"

namespace wt::gemm_onednn {

using namespace wt::onednn;

static std::string refuses(const GemmProblem& p) {
    if (std::string why = refuses_fusions(p); !why.empty()) return why;
    if (std::string why = refuses_dtype(p.dtype); !why.empty()) return why;
    if (p.dtype == DType::f32 && p.out == DType::bf16) return "no bf16 results of fp32 operands";
    return {};
}

static bool by_sgemm(const GemmProblem& p) {
    return p.dtype == DType::f32 && p.layout != GemmLayout::nt;
}

static Plan make_matmul(const GemmProblem& p) {
    const bool a_transposed = p.layout == GemmLayout::tn, b_transposed = p.layout == GemmLayout::nt;
    const Desc a({p.m, p.k}, type_of(p.dtype), a_transposed ? Dims{1, p.lda} : Dims{p.lda, 1});
    const Desc b({p.k, p.n}, type_of(p.dtype), b_transposed ? Dims{1, p.ldb} : Dims{p.ldb, 1});
    const Desc c({p.m, p.n}, type_of(p.out), Dims{p.ldc, 1});
    const bool adds_bias = p.bias && p.layout == GemmLayout::nt;
    const Desc bias({1, p.n}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::ab);

    dnnl::primitive_attr attr = user_scratchpad();
    if (p.relu) {
        dnnl::post_ops post;
        post.append_eltwise(1.f, dnnl::algorithm::eltwise_relu, 0.f, 0.f);
        attr.set_post_ops(post);
    }
    const dnnl::matmul::desc d =
        adds_bias ? dnnl::matmul::desc(a, b, bias, c) : dnnl::matmul::desc(a, b, c);
    const dnnl::matmul::primitive_desc pd(d, attr, engine());
    Plan plan;
    plan.input(DNNL_ARG_SRC, a, a);
    plan.input(DNNL_ARG_WEIGHTS, b, b);
    plan.output(DNNL_ARG_DST, c, c);
    if (adds_bias) plan.input(DNNL_ARG_BIAS, bias, bias);
    plan.primitive(dnnl::matmul(pd), pd.scratchpad_desc());
    return plan;
}

static std::shared_ptr<const Plan> matmul_plan(const GemmProblem& p) {
    static Cache<GemmProblem> plans;
    return plans.get(p, "gemm.onednn", [&] { return make_matmul(p); });
}

static size_t workspace(const GemmProblem& p) {
    return by_sgemm(p) ? 0 : matmul_plan(p)->workspace();
}

// bias_grad[m] = sum_k A[k,m]: a thread has columns to itself and adds the rows in order.
template <class T>
static void sum_columns(const GemmProblem& p, const T* a, float* bias_grad) {
    constexpr int kStrip = 256;
#pragma omp parallel for schedule(static)
    for (int first = 0; first < p.m; first += kStrip) {
        const int columns = std::min(kStrip, p.m - first);
        float sum[kStrip] = {};
        for (int k = 0; k < p.k; ++k) {
            const T* row = a + int64_t(k) * p.lda + first;
            for (int i = 0; i < columns; ++i) sum[i] += to_float(row[i]);
        }
        std::copy(sum, sum + columns, bias_grad + first);
    }
}

static void run_sgemm(const GemmProblem& p, const GemmArgs& a) {
    Threads threads;
    const char ta = p.layout == GemmLayout::tn ? 'T' : 'N';
    const auto status =
        dnnl_sgemm(ta, 'N', p.m, p.n, p.k, 1.f, static_cast<const float*>(a.a), p.lda,
                   static_cast<const float*>(a.b), p.ldb, 0.f, static_cast<float*>(a.c), p.ldc);
    if (status != dnnl_success) throw dnnl::error(status, "sgemm failed");
}

static void launch(const GemmProblem& p, const GemmArgs& a) {
    enqueue(a.stream, "gemm.onednn", [plan = by_sgemm(p) ? nullptr : matmul_plan(p), p, a] {
        if (plan) {
            void* operands[] = {const_cast<void*>(a.a), const_cast<void*>(a.b), a.c,
                                const_cast<float*>(a.bias)};
            plan->run(operands, a.workspace);
        } else {
            run_sgemm(p, a);
        }
        if (p.layout == GemmLayout::tn && p.bias) {
            Threads threads;
            by_dtype(p.dtype,
                     [&]<class T>() { sum_columns(p, static_cast<const T*>(a.a), a.bias_grad); });
        }
    });
}

extern const Gemm gemm = {.name = "onednn",
                          .refuses = refuses,
                          .workspace = workspace,
                          .launch = launch,
                          .baseline = true};

}  // namespace wt::gemm_onednn
