#include <map>

#include "kernels/vendor/cudnn.h"

namespace wt::cudnn {

void throw_cudnn(cudnnStatus_t s, const char* call, const char* file, int line) {
    throw Error(std::string("cuDNN: ") + cudnnGetErrorString(s) + " from " + call + " at " + file +
                ":" + std::to_string(line));
}

int current_device() {
    int device = 0;
    WT_CUDA(cudaGetDevice(&device));
    return device;
}

// A handle is not to be used by two threads at a time, and belongs to the device that was current
// when it was made.
namespace {
struct Handles {
    std::map<int, cudnnHandle_t> of_device;
    ~Handles() {
        // at the thread's end; nothing left to report to
        for (auto [device, handle] : of_device) cudnnDestroy(handle);
    }
};
}  // namespace

cudnnHandle_t handle() {
    thread_local Handles handles;
    cudnnHandle_t& h = handles.of_device[current_device()];
    if (!h) WT_CUDNN_CALL(cudnnCreate(&h));
    return h;
}

cudnnHandle_t handle(cudaStream_t stream) {
    cudnnHandle_t h = handle();
    WT_CUDNN_CALL(cudnnSetStream(h, stream));
    return h;
}

Tensor nhwc(DType t, int n, int h, int w, int c) {
    Tensor tensor;
    WT_CUDNN_CALL(cudnnSetTensor4dDescriptor(tensor, CUDNN_TENSOR_NHWC, type_of(t), n, c, h, w));
    return tensor;
}

}  // namespace wt::cudnn
