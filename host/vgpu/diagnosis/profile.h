// The runtime's side of vgpu/profile.h.
#pragma once

#include <chrono>
#include <string>

#include "vgpu/profile.h"

namespace vgpu {

bool profiling();
int current_range();  // of the calling thread; 0: none

// Adds the time from construction to destruction to (range, name of the operation). On the
// dispatcher only.
class Timed {
public:
    Timed(int range, const void* kernel, const char* other);
    ~Timed();
    Timed(const Timed&) = delete;
    Timed& operator=(const Timed&) = delete;

private:
    int range_;
    const void* kernel_;
    const char* other_;
    std::chrono::steady_clock::time_point start_;
};

}  // namespace vgpu
