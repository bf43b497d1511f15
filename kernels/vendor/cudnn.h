// cuDNN on real GPUs: what the baselines of conv and LRN share. cuDNN 9's legacy interface
// (cudnn.h), which takes NHWC tensors and chooses an algorithm by its own heuristics.
#pragma once

#include <cudnn.h>

#include <string>
#include <utility>

#include "host/cuda/check.h"
#include "kernels/common/dtype.h"
#include "kernels/vendor/plans.h"

namespace wt::cudnn {

[[noreturn]] void throw_cudnn(cudnnStatus_t, const char* call, const char* file, int line);

// This thread's handle for the current device, made at the first call.
cudnnHandle_t handle();
// The same, set to work on `stream`.
cudnnHandle_t handle(cudaStream_t stream);

constexpr cudnnDataType_t type_of(DType t) {
    return t == DType::f32 ? CUDNN_DATA_FLOAT : CUDNN_DATA_BFLOAT16;
}

// What "alpha" and "beta" of every call are: results overwrite.
inline constexpr float kOne = 1, kZero = 0;

// Owner of a descriptor.
template <class T, cudnnStatus_t (*Create)(T*), cudnnStatus_t (*Destroy)(T)>
class Descriptor {
public:
    Descriptor();
    ~Descriptor() {
        if (value_) Destroy(value_);
    }
    Descriptor(Descriptor&& other) noexcept : value_(std::exchange(other.value_, nullptr)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(value_, other.value_);
        return *this;
    }
    operator T() const { return value_; }

private:
    T value_ = nullptr;
};

using Tensor =
    Descriptor<cudnnTensorDescriptor_t, cudnnCreateTensorDescriptor, cudnnDestroyTensorDescriptor>;
using Filter =
    Descriptor<cudnnFilterDescriptor_t, cudnnCreateFilterDescriptor, cudnnDestroyFilterDescriptor>;
using Convolution = Descriptor<cudnnConvolutionDescriptor_t, cudnnCreateConvolutionDescriptor,
                               cudnnDestroyConvolutionDescriptor>;
using Activation = Descriptor<cudnnActivationDescriptor_t, cudnnCreateActivationDescriptor,
                              cudnnDestroyActivationDescriptor>;
using Lrn = Descriptor<cudnnLRNDescriptor_t, cudnnCreateLRNDescriptor, cudnnDestroyLRNDescriptor>;

// n x h x w x c, NHWC in memory.
Tensor nhwc(DType, int n, int h, int w, int c);

// The current device: plans are made for one.
int current_device();

}  // namespace wt::cudnn

// Calls a cuDNN function and throws wt::Error with the call's text when it fails.
#define WT_CUDNN_CALL(call)                                          \
    do {                                                             \
        if (cudnnStatus_t s_ = (call); s_ != CUDNN_STATUS_SUCCESS)   \
            ::wt::cudnn::throw_cudnn(s_, #call, __FILE__, __LINE__); \
    } while (0)

template <class T, cudnnStatus_t (*Create)(T*), cudnnStatus_t (*Destroy)(T)>
wt::cudnn::Descriptor<T, Create, Destroy>::Descriptor() {
    WT_CUDNN_CALL(Create(&value_));
}
