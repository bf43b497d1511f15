#include "host/train/weights_file.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "host/cuda/check.h"
#include "host/cuda/nearest.h"
#include "host/train/torchvision_names.h"

namespace wt {

namespace {

std::string shape_text(const std::vector<int64_t>& shape) {
    std::string s;
    for (const int64_t e : shape) s += (s.empty() ? "" : "x") + std::to_string(e);
    return s.empty() ? "a single number" : s;
}

bool contains(const std::vector<std::string>& all, const std::string& name) {
    return std::find(all.begin(), all.end(), name) != all.end();
}

bool starts_layer(const std::string& name, std::initializer_list<const char*> prefixes) {
    return std::any_of(prefixes.begin(), prefixes.end(),
                       [&](const char* prefix) { return name.starts_with(prefix); });
}

constexpr const char* kMomentum = ".momentum";  // of a checkpoint, beside its weights

}  // namespace

Naming naming_of(const SafetensorsFile& file) {
    std::string other;
    for (const std::string& name : file.names()) {
        if (starts_layer(name, {"features.", "classifier."})) return Naming::torchvision;
        if (starts_layer(name, {"conv", "fc"})) return Naming::own;
        if (other.empty()) other = name;
    }
    throw Error(
        file.path() + (other.empty() ? " has no tensors" : " has a tensor '" + other + "'") +
        ": names must be this project's (conv1.weight ...) or torchvision's AlexNet's (features.0.weight ...)");
}

int classes_in(const SafetensorsFile& file, const NetSpec& net) {
    const std::string own = net.layers.back().name + ".bias";
    const std::string name = naming_of(file) == Naming::own ? own : torchvision_name(own);
    if (name.empty() || !file.has(name) || file.shape(name).size() != 1) return 0;
    const int64_t units = file.shape(name)[0];
    return units > 0 && units < (1 << 24) ? static_cast<int>(units) : 0;
}

WeightsFile::WeightsFile(const SafetensorsFile& file, const NetSpec& net,
                         const std::vector<std::string>& except)
    : file_(file), net_(net), except_(except), naming_(naming_of(file)) {
    if (naming_ == Naming::torchvision && net.name != kTorchvisionNet)
        throw Error(file.path() + " has the names of torchvision's AlexNet, which is net " +
                    kTorchvisionNet + ", not " + net.name + ": give --net " + kTorchvisionNet);
    classes_ = classes_in(file, net);
    other_classes_ =
        classes_ > 0 && classes_ != net.classes() && !contains(except_, net.layers.back().name);
    std::vector<std::string> known;
    for (const Param& p : params_of(net)) {
        known.push_back(name_of(p));
        check(p);
    }
    for (std::string name : file.names()) {
        if (naming_ == Naming::own && name.ends_with(kMomentum))
            name.resize(name.size() - std::string(kMomentum).size());
        if (!contains(known, name))
            throw Error(file.path() + " has a tensor " + name + ", which net " + net.name +
                        " has not: weights of another network");
    }
}

std::string WeightsFile::name_of(const Param& param) const {
    return naming_ == Naming::own ? param.name : torchvision_name(param.name);
}

bool WeightsFile::has(const Layer& layer) const {
    if (contains(except_, layer.name)) return false;
    return !(other_classes_ && layer.name == net_.layers.back().name);
}

void WeightsFile::check(const Param& param) {
    const Layer& layer = net_.layers[param.layer];
    if (contains(except_, layer.name)) return;
    const std::string name = name_of(param);
    if (!file_.has(name))
        throw Error(file_.path() + " has no tensor " + name + ": not a file of net " + net_.name);
    std::vector<int64_t> want = param.shape;
    const std::vector<int64_t>& got = file_.shape(name);
    if (!has(layer)) want[0] = classes_;
    if (got != want)
        throw Error(file_.path() + ": tensor " + name + " is " + shape_text(got) + ", net " +
                    net_.name + " has " + shape_text(want) + ": weights of another network");
    const std::string& type = file_.dtype(name);
    if (type != "F32" && type != "F16" && type != "BF16")
        throw Error(file_.path() + ": tensor " + name + " has dtype " + type +
                    ": must be F32, F16 or BF16");
}

std::vector<float> WeightsFile::read(const Param& param) const {
    const std::string name = name_of(param);
    std::vector<float> values = file_.read(name, param.shape);
    if (const auto at =
            std::find_if(values.begin(), values.end(), [](float v) { return !std::isfinite(v); });
        at != values.end())
        throw Error(file_.path() + ": tensor " + name +
                    " has a value that is not finite, element " +
                    std::to_string(at - values.begin()));
    return values;
}

std::vector<std::string> layer_list(const std::string& flag, const std::string& text,
                                    const NetSpec& net) {
    std::vector<std::string> all, list;
    for (const Layer& l : net.layers)
        if (l.weights() > 0) all.push_back(l.name);
    std::stringstream parts(text);
    for (std::string part; std::getline(parts, part, ',');) {
        if (!contains(all, part))
            throw UsageError(flag + " " + text + ": " + unknown_name("layer", part, all));
        if (contains(list, part))
            throw UsageError(flag + " " + text + ": " + part + " is there twice");
        list.push_back(part);
    }
    if (list.empty() || text.ends_with(','))
        throw UsageError(flag + " '" + text + "': " + unknown_name("layer", "", all));
    return list;
}

}  // namespace wt
