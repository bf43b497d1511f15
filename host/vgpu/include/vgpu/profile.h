// Where the time of a run goes. With VGPU_PROFILE=1 every operation's time is added up under the
// named range (NVTX style) it was submitted in and under its own name; a table is printed on
// standard error when the program ends. Without it, ranges cost a test of a flag.
#pragma once

namespace vgpu {

// Of the calling thread; `name` must outlive the process's last operation (interned here).
void push_range(const char* name);
void pop_range();

}  // namespace vgpu
