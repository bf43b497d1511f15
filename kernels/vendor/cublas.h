// cuBLASLt on real GPUs: what the baseline of gemm needs around it.
#pragma once

#include <cublasLt.h>

#include <string>
#include <utility>

#include "host/cuda/check.h"
#include "kernels/vendor/plans.h"

namespace wt::cublas {

[[noreturn]] void throw_cublas(cublasStatus_t, const char* call, const char* file, int line);

// This thread's handle for the current device, made at the first call.
cublasLtHandle_t handle();

// Owner of a descriptor, which `create` has made.
template <class T, cublasStatus_t (*Destroy)(T)>
class Descriptor {
public:
    explicit Descriptor(T value) : value_(value) {}
    ~Descriptor() {
        if (value_) Destroy(value_);
    }
    Descriptor(Descriptor&& other) noexcept : value_(std::exchange(other.value_, nullptr)) {}
    Descriptor& operator=(Descriptor&&) = delete;
    operator T() const { return value_; }

private:
    T value_;
};
using Matmul = Descriptor<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Matrix = Descriptor<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using AlgoPreference = Descriptor<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

}  // namespace wt::cublas

// Calls a cuBLAS function and throws wt::Error with the call's text when it fails.
#define WT_CUBLAS_CALL(call)                                           \
    do {                                                               \
        if (cublasStatus_t s_ = (call); s_ != CUBLAS_STATUS_SUCCESS)   \
            ::wt::cublas::throw_cublas(s_, #call, __FILE__, __LINE__); \
    } while (0)
