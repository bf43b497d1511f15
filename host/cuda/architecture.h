// Whether the kernels of this build run on a GPU at all: asked at a program's start, so that its
// user reads what was built, what the GPU is and what to build, and not "no kernel image is
// available" from the first kernel.
#pragma once

#include <string>
#include <vector>

namespace wt {

// Throws Error where one of the devices has no code here, and none that its driver could translate.
void check_architecture(const std::vector<int>& devices);

// What check_architecture says. `capabilities`: of all devices that are wanted, as 90 for 9.0;
// `missing`: that of `gpu`.
std::string missing_architecture(const std::string& gpu, int missing, const std::string& built,
                                 std::vector<int> capabilities);

}  // namespace wt
