// Errors: one line that says what, where and what to do. Programs print it and exit 1.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace wt {

// Anything the user can act on: a file, a GPU, a library call. what() is one line.
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Bad use of the command line: programs exit 2.
struct UsageError : Error {
    using Error::Error;
};

[[noreturn]] void throw_cuda(cudaError_t e, const char* call, const char* file, int line);

}  // namespace wt

// Calls a CUDA runtime function and throws wt::Error with the call's text when it fails.
#define WT_CUDA(call)                                        \
    do {                                                     \
        if (cudaError_t e_ = (call); e_ != cudaSuccess)      \
            ::wt::throw_cuda(e_, #call, __FILE__, __LINE__); \
    } while (0)
