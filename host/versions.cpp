#include "host/versions.h"

#include <cuda_runtime_api.h>

#include <fstream>

#include "host/build_kind.h"

namespace wt {
namespace {

#ifndef VGPU
// 13000 is "13.0".
std::string cuda_text(int version) {
    return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}
#endif

std::string processor() {
    std::ifstream in("/proc/cpuinfo");
    for (std::string line; std::getline(in, line);) {
        const size_t colon = line.find(": ");
        if (line.starts_with("model name") && colon != line.npos) return line.substr(colon + 2);
    }
    return "";
}

}  // namespace

std::vector<std::pair<std::string, std::string>> versions() {
    std::vector<std::pair<std::string, std::string>> all;
#ifdef VGPU
    all.push_back({"target", "vgpu"});
#else
    all.push_back({"target", "cuda"});
    int version = 0;
    if (cudaRuntimeGetVersion(&version) == cudaSuccess)
        all.push_back({"CUDA runtime", cuda_text(version)});
    if (cudaDriverGetVersion(&version) == cudaSuccess)
        all.push_back({"CUDA of the driver", cuda_text(version)});
#endif
#ifdef __clang__
    all.push_back({"compiler", std::string("clang++ ") + __clang_version__});
#else
    all.push_back({"compiler", std::string("g++ ") + __VERSION__});
#endif
    if (const std::string cpu = processor(); !cpu.empty()) all.push_back({"processor", cpu});
    if (const std::string kind = build_kind(); !kind.empty()) all.push_back({"build", kind});
    return all;
}

}  // namespace wt
