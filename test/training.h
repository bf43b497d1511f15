// Short trainings by bin/train, and what they leave.
#pragma once

#include "host/train/safetensors.h"
#include "test/program.h"

namespace wt::test {

// A run of `mini` on made-up images, small enough to take a second.
inline std::string train(const std::string& flags) {
    return program("train") +
           " --net mini --data synthetic:10 --batch 4 --epochs 1 --lr-policy constant " + flags;
}

inline bool same_tensors(const std::string& a, const std::string& b) {
    const auto x = SafetensorsFile::open(a), y = SafetensorsFile::open(b);
    if (x.names() != y.names()) return false;
    for (const auto& n : x.names())
        if (x.read(n) != y.read(n)) return false;
    return true;
}

}  // namespace wt::test
