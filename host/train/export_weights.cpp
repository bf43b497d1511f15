#include "host/train/export_weights.h"

#include <cstdio>
#include <map>

#include "host/cuda/check.h"
#include "host/json.h"
#include "host/train/torchvision_names.h"
#include "host/train/weights_file.h"

namespace wt {

namespace {

// As torchvision's transforms take them: of images in 0..1.
std::string of_unit_range(const std::vector<float>& values) {
    std::string s;
    for (const float v : values) {
        char number[32];
        std::snprintf(number, sizeof number, "%s%.4g", s.empty() ? "" : ", ", v / 255.0);
        s += number;
    }
    return "[" + s + "]";
}

}  // namespace

std::string export_torchvision(const SafetensorsFile& file, const WeightsMeaning& meaning,
                               const std::string& out) {
    NetOptions options;
    const int classes = classes_in(file, make_net(kTorchvisionNet, options));
    if (classes > 0) options.classes = classes;
    const NetSpec net = make_net(kTorchvisionNet, options);
    const WeightsFile weights(file, net);
    if (!meaning.classes.empty() && static_cast<int>(meaning.classes.size()) != net.classes())
        throw Error(file.path() + " names " + std::to_string(meaning.classes.size()) +
                    " classes and has " + std::to_string(net.classes()) + ": the file is damaged");

    std::vector<std::vector<float>> values;
    std::vector<NamedTensor> tensors;
    for (const Param& p : params_of(net)) {
        values.push_back(weights.read(p));
        tensors.push_back({torchvision_name(p.name), p.shape, values.back().data()});
    }
    std::map<std::string, std::string> metadata = {{"format", "pt"}};
    const bool known = meaning.mean.size() == 3 && meaning.std_dev.size() == 3;
    if (known)
        metadata["normalisation"] = json_text({{"mean", meaning.mean}, {"std", meaning.std_dev}});
    if (!meaning.classes.empty()) metadata["classes"] = json_text(meaning.classes);
    write_safetensors(out, tensors, metadata, "file");
    return out + ": " + std::to_string(net.classes()) + " classes, torchvision's names; " +
           (known ? "its images are normalised with mean=" + of_unit_range(meaning.mean) +
                        ", std=" + of_unit_range(meaning.std_dev)
                  : std::string("how its images are normalised is not known"));
}

}  // namespace wt
