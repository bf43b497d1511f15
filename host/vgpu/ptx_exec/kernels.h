// The kernels of a program that runs compiled PTX (make PTX=1): generated files add them by name,
// and a launch finds the one that its host function stands for. In other programs there are none.
#pragma once

#include <cstddef>
#include <string>

#include "vgpu/launch.h"

namespace vgpu::ptx_exec {

struct Kernel {
    const char* name;  // mangled as g++ does
    const char* file;  // of PTX
    unsigned line;     // in it
    unsigned bound;    // most threads of a block (__launch_bounds__); 0: any
    Signature signature;
};

// `kernels` live as long as the program.
void add(const Kernel* kernels, size_t count);

// Whether this program's launches run PTX.
bool present();

struct Found {
    const Signature* signature = nullptr;
    const Signature* counting = nullptr;  // the same of the kernel that counts; null: there is none
    unsigned bound = 0;
    std::string why;  // in one line, when there is no signature
};
// The kernel in PTX for a host function that takes `host`'s parameters. Callers hold the runtime's
// lock.
Found find(const void* kernel, const Signature& host);

}  // namespace vgpu::ptx_exec
