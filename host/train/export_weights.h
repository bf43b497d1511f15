// Weights for other programs.
#pragma once

#include <string>
#include <vector>

#include "host/train/safetensors.h"

namespace wt {

// What whoever uses the weights has to know of them.
struct WeightsMeaning {
    std::vector<float> mean, std_dev;  // three each, 0..255 units; empty: not known
    std::vector<std::string> classes;  // of the last layer's units; empty: not known
};

// Writes the weights of net owt in `file` as torchvision's AlexNet has them: its names, fp32, so
// that load_state_dict(safetensors.torch.load_file(OUT)) takes them, with as many classes as `file`
// has. The metadata have "format" ("pt"), "normalisation" ({"mean", "std"}, 0..255 units) and
// "classes", where these are known. Returns one line on what was written and what its input is.
// Throws Error where the file is of another network, and where OUT cannot be written.
std::string export_torchvision(const SafetensorsFile& file, const WeightsMeaning& meaning,
                               const std::string& out);

}  // namespace wt
