// Matrix products by cuBLASLt, bias and ReLU in its epilogue, the bias gradient too where it has
// that.
//
// cuBLAS is column-major: our row-major C[m,n] is its C^T[n,m] = op(B) op(A), so the operands
// change places. Its first matrix is our B, its second our A; "rows of D" are our columns n,
// "columns of D" our rows m. fp32 is computed in fp32 (CUBLAS_COMPUTE_32F: no TF32), bf16 by the
// tensor cores with fp32 sums.
#include <algorithm>
#include <cstdint>
#include <tuple>

#include "kernels/gemm/problem.h"
#include "kernels/vendor/convert.h"
#include "kernels/vendor/cublas.h"

namespace wt::gemm_cublas {

using namespace wt::cublas;

static constexpr size_t kLibraryWorkspace = size_t(32) << 20;  // what NVIDIA advises for Hopper

static constexpr cudaDataType_t type_of(DType t) {
    return t == DType::f32 ? CUDA_R_32F : CUDA_R_16BF;
}

template <class T>
static void set(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t attribute, T value) {
    WT_CUBLAS_CALL(cublasLtMatmulDescSetAttribute(d, attribute, &value, sizeof value));
}

static Matmul make_operation(const GemmProblem& p, cublasLtEpilogue_t epilogue) {
    cublasLtMatmulDesc_t raw = nullptr;
    WT_CUBLAS_CALL(cublasLtMatmulDescCreate(&raw, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    Matmul d(raw);
    set(d, CUBLASLT_MATMUL_DESC_TRANSA, p.layout == GemmLayout::nt ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(d, CUBLASLT_MATMUL_DESC_TRANSB, p.layout == GemmLayout::tn ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(d, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
    return d;
}

// A row-major matrix of `rows` x `columns` is cuBLAS's `columns` x `rows`.
static Matrix make_matrix(DType t, int rows, int columns, int ld) {
    cublasLtMatrixLayout_t raw = nullptr;
    WT_CUBLAS_CALL(cublasLtMatrixLayoutCreate(&raw, type_of(t), static_cast<uint64_t>(columns),
                                              static_cast<uint64_t>(rows), ld));
    return Matrix(raw);
}

struct GemmPlan {
    Matrix a, b, c;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    // the bias gradient by our own pass: the library has no such epilogue here
    bool sums_apart = false;
    cublasLtMatmulAlgo_t algorithm{};
};

// cuBLASLt's first choice for operands aligned to `alignment` bytes; false when it has none.
static bool choose_algorithm(GemmPlan& plan, const GemmProblem& p, uint32_t alignment) {
    cublasLtMatmulPreference_t raw = nullptr;
    WT_CUBLAS_CALL(cublasLtMatmulPreferenceCreate(&raw));
    const AlgoPreference preference(raw);
    auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
        WT_CUBLAS_CALL(
            cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value));
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kLibraryWorkspace);
    for (auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
        prefer(attribute, alignment);
    const Matmul operation = make_operation(p, plan.epilogue);
    // Nothing is read through it here, but its alignment counts: a stand-in that is aligned as the
    // operands are.
    set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
        reinterpret_cast<const void*>(uintptr_t{alignment}));
    cublasLtMatmulHeuristicResult_t result{};
    int found = 0;
    const cublasStatus_t s = cublasLtMatmulAlgoGetHeuristic(
        handle(), operation, plan.b, plan.a, plan.c, plan.c, preference, 1, &result, &found);
    if (s == CUBLAS_STATUS_NOT_SUPPORTED) return false;
    WT_CUBLAS_CALL(s);
    if (!found || result.state != CUBLAS_STATUS_SUCCESS) return false;
    plan.algorithm = result.algo;
    return true;
}

static GemmPlan make_plan(const GemmProblem& p, uint32_t alignment) {
    const bool a_is_k_by_m = p.layout == GemmLayout::tn, b_is_n_by_k = p.layout == GemmLayout::nt;
    GemmPlan plan{.a = a_is_k_by_m ? make_matrix(p.dtype, p.k, p.m, p.lda)
                                   : make_matrix(p.dtype, p.m, p.k, p.lda),
                  .b = b_is_n_by_k ? make_matrix(p.dtype, p.n, p.k, p.ldb)
                                   : make_matrix(p.dtype, p.k, p.n, p.ldb),
                  .c = make_matrix(p.out, p.m, p.n, p.ldc)};
    if (p.layout == GemmLayout::nt)
        plan.epilogue = p.bias && p.relu ? CUBLASLT_EPILOGUE_RELU_BIAS
                        : p.bias         ? CUBLASLT_EPILOGUE_BIAS
                        : p.relu         ? CUBLASLT_EPILOGUE_RELU
                                         : CUBLASLT_EPILOGUE_DEFAULT;
    // Sums over k of its second matrix, our A. The sums have C's type: fp32 only.
    if (p.layout == GemmLayout::tn && p.bias && p.out == DType::f32) {
        plan.epilogue = CUBLASLT_EPILOGUE_BGRADB;
        if (choose_algorithm(plan, p, alignment)) return plan;
        plan.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    }
    plan.sums_apart = p.layout == GemmLayout::tn && p.bias;
    if (!choose_algorithm(plan, p, alignment))
        throw Error("cuBLASLt has no algorithm for this product");
    return plan;
}

static std::shared_ptr<const GemmPlan> plan_of(const GemmProblem& p, uint32_t alignment) {
    int device = 0;
    WT_CUDA(cudaGetDevice(&device));
    static Plans<std::tuple<int, uint32_t, GemmProblem>, GemmPlan> plans;
    return plans.get({device, alignment, p}, [&] { return make_plan(p, alignment); });
}

// The largest power of two up to 256 that divides all addresses: shards begin anywhere in a
// gathered matrix.
static uint32_t alignment_of(std::initializer_list<const void*> addresses) {
    uintptr_t bits = 256;
    for (const void* a : addresses) bits |= reinterpret_cast<uintptr_t>(a);
    return static_cast<uint32_t>(bits & (~bits + 1));
}

static std::string refuses(const GemmProblem& p) {
    if (std::string why = refuses_fusions(p); !why.empty()) return why;
    if (p.dtype == DType::f32 && p.out == DType::bf16) return "no bf16 results of fp32 operands";
    try {
        plan_of(p, 256);
    } catch (const Error& e) {
        return e.what();
    }
    return {};
}

// A bias has the result's type: it is rounded behind the library's part of the workspace.
static bool rounds_bias(const GemmProblem& p) {
    return p.layout == GemmLayout::nt && p.bias && p.out == DType::bf16;
}

static size_t workspace(const GemmProblem& p) {
    return kLibraryWorkspace + (rounds_bias(p) ? p.n * sizeof(bf16) : 0);
}

static void launch(const GemmProblem& p, const GemmArgs& a) {
    const void* vector = !p.bias ? nullptr : p.layout == GemmLayout::tn ? a.bias_grad : a.bias;
    const auto plan = plan_of(p, alignment_of({a.a, a.b, a.c, vector}));
    // the bias's address is part of it
    const Matmul operation = make_operation(p, plan->epilogue);
    if (p.layout == GemmLayout::nt && p.bias) {
        const void* bias = a.bias;
        if (rounds_bias(p)) {
            bf16* rounded =
                reinterpret_cast<bf16*>(static_cast<char*>(a.workspace) + kLibraryWorkspace);
            vendor::round_to_bf16(a.bias, rounded, p.n, a.stream);
            bias = rounded;
        }
        set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    } else if (plan->epilogue == CUBLASLT_EPILOGUE_BGRADB) {
        set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, a.bias_grad);
    }
    const float one = 1, zero = 0;  // with zero, C is not read
    WT_CUBLAS_CALL(cublasLtMatmul(handle(), operation, &one, a.b, plan->b, a.a, plan->a, &zero, a.c,
                                  plan->c, a.c, plan->c, &plan->algorithm, a.workspace,
                                  kLibraryWorkspace, a.stream));
    if (plan->sums_apart) vendor::sum_columns(a.a, p.dtype, p.k, p.m, p.lda, a.bias_grad, a.stream);
}

extern const Gemm gemm = {.name = "cublas",
                          .refuses = refuses,
                          .workspace = workspace,
                          .launch = launch,
                          .baseline = true};

}  // namespace wt::gemm_cublas
