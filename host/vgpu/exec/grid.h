// The seam between the two halves of the virtual GPU: the runtime (streams, events, memory) hands a
// grid to the grid runner (fibers, barriers, warps), which runs it to its end.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vgpu/dim3.h"

namespace vgpu {

// A kernel launch, ready to run. `loop` is instantiated by cudaLaunchKernelEx for the kernel's
// parameter types: it calls the kernel once for each thread that next_thread() hands out.
struct Grid {
    const void* kernel = nullptr;  // address of the kernel function: names it in messages
    dim3 grid, block, cluster;     // cluster {1,1,1} unless a launch attribute asked for one
    size_t shared = 0;             // bytes of dynamic shared memory
    int device = 0;
    bool dependent =
        // launched so that it may start early: every thread must wait (griddepcontrol.wait)
        false;
    const void* args = nullptr;  // the tuple of arguments, alive until run_grid returns
    void (*loop)(const void* kernel, const void* args) = nullptr;
};

// Why a grid failed; code 0 when it did not. `message` is one line that names the kernel, its grid,
// block and thread; `detail` may have more lines (which threads wait where).
struct GridFailure {
    int code = 0;  // a cudaError_t
    std::string message, detail;
    explicit operator bool() const { return code != 0; }
};

// Runs every thread of every block, blocks spread over the cores. Called by the dispatcher only.
// `seed` chooses among legal orders of blocks and threads (0: ascending).
GridFailure run_grid(const Grid&, uint64_t seed);

// Name of a function from the program's symbol table, demangled; "kernel 0x..." when unknown.
std::string symbol_name(const void* function);
// Its mangled names, of which a function with aliases has several; none when unknown.
std::vector<std::string> mangled_names(const void* function);

// Threads that a grid may use: VGPU_THREADS, or the number of cores.
int core_count();

}  // namespace vgpu
