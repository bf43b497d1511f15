// What a program runs on, for logs: names and versions.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace wt {

// target (cuda, vgpu), compiler, CUDA's runtime and driver, the processor; what kind of build it is
// where it is no ordinary one. A version that nobody tells is left out.
std::vector<std::pair<std::string, std::string>> versions();

}  // namespace wt
