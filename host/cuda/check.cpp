#include "host/cuda/check.h"

namespace wt {

void throw_cuda(cudaError_t e, const char* call, const char* file, int line) {
    cudaGetLastError();  // clear it, so that the next check reports its own failure
    throw Error(std::string(cudaGetErrorName(e)) + " (" + cudaGetErrorString(e) + ") from " + call +
                " at " + file + ":" + std::to_string(line));
}

}  // namespace wt
