// A file of weights as a network to compute with: its layers, classes and normalisation, as the
// file says them.
#pragma once

#include <string>
#include <vector>

#include "host/net/spec.h"
#include "host/train/origin.h"

namespace wt {

struct StoredModel {
    Origin origin;
    NetSpec net;
    std::vector<std::string> classes;  // of the last layer's units
    std::vector<float> mean, std_dev;  // three each, 0..255 units
    int stored = 0;       // the side that images are brought to before they are cropped
    int channels = 3;     // 1: images are grey
    bool mirrors = true;  // false where a mirrored image means something else (digits)
};

// `net`: the network, where the file does not say it ("": it must). Files of torchvision's names
// that say nothing of images are normalised as torchvision does it, and their classes are numbers.
// Throws Error where the file does not say enough, in one line.
StoredModel open_model(const std::string& path, const std::string& net = "");

// The network's options that a record's settings have.
NetOptions options_of(const RunRecord& record);

}  // namespace wt
