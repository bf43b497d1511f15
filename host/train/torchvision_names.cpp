#include "host/train/torchvision_names.h"

#include <utility>

namespace wt {

std::string torchvision_name(const std::string& param) {
    static constexpr std::pair<const char*, const char*> kLayers[] = {
        {"conv1", "features.0"}, {"conv2", "features.3"},  {"conv3", "features.6"},
        {"conv4", "features.8"}, {"conv5", "features.10"}, {"fc6", "classifier.1"},
        {"fc7", "classifier.4"}, {"fc8", "classifier.6"}};
    const size_t dot = param.find('.');
    if (dot == std::string::npos) return {};
    for (const auto& [layer, theirs] : kLayers)
        if (param.compare(0, dot, layer) == 0) return theirs + param.substr(dot);
    return {};
}

}  // namespace wt
