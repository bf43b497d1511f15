#include <map>

#include "kernels/vendor/cublas.h"

namespace wt::cublas {

void throw_cublas(cublasStatus_t s, const char* call, const char* file, int line) {
    throw Error(std::string("cuBLAS: ") + cublasLtGetStatusString(s) + " from " + call + " at " +
                file + ":" + std::to_string(line));
}

// The library's context belongs to the device that was current when the handle was made.
namespace {
struct Handles {
    std::map<int, cublasLtHandle_t> of_device;
    ~Handles() {
        // at the thread's end; nothing left to report to
        for (auto [device, handle] : of_device) cublasLtDestroy(handle);
    }
};
}  // namespace

cublasLtHandle_t handle() {
    thread_local Handles handles;
    int device = 0;
    WT_CUDA(cudaGetDevice(&device));
    cublasLtHandle_t& h = handles.of_device[device];
    if (!h) WT_CUBLAS_CALL(cublasLtCreate(&h));
    return h;
}

}  // namespace wt::cublas
