#include "host/train/options.h"

#include <array>
#include <charconv>
#include <filesystem>
#include <type_traits>

namespace wt {

namespace {

// The shortest text that is read back as the same number.
template <class T>
std::string number_text(T v) {
    std::array<char, 32> s;
    if constexpr (std::is_floating_point_v<T>)
        return {s.data(),
                std::to_chars(s.data(), s.data() + s.size(), v, std::chars_format::general).ptr};
    else
        return {s.data(), std::to_chars(s.data(), s.data() + s.size(), v).ptr};
}

std::string absolute(const std::string& path) {
    std::error_code failed;
    const auto full = std::filesystem::absolute(path, failed);
    return failed ? path : full.lexically_normal().string();
}

// "folder:DIR" names the same folder from anywhere; what is no path stays.
std::string absolute_data(const std::string& data) {
    const size_t colon = data.find(':');
    const std::string kind = data.substr(0, colon);
    if (colon == std::string::npos || kind == "synthetic") return data;
    return kind + ":" + absolute(data.substr(colon + 1));
}

}  // namespace

TrainOptions recipe_options(const std::string& net) {
    const Recipe& r = recipe_of(net);
    TrainOptions o;
    o.net = net;
    o.data = r.data;
    o.batch = r.batch;
    o.epochs = r.epochs;
    o.lr = r.lr;
    o.momentum = r.momentum;
    o.weight_decay = r.weight_decay;
    o.lr_policy = r.lr_policy;
    o.init = value_in(kInits, "initialisation", r.init);
    o.augment = value_in(kAugments, "augmentation", r.augment);
    o.divide_std = r.divide_std;
    o.out = "runs/" + net;
    return o;
}

std::map<std::string, std::string> settings_of(const TrainOptions& o, int workers) {
    std::map<std::string, std::string> s = {
        {"--net", o.net},
        {"--activation", name_in(kActivations, o.net_options.tanh)},
        {"--pool", name_in(kPools, o.net_options.plain_pool)},
        {"--lrn", name_in(kOnOff, o.net_options.lrn)},
        {"--data", absolute_data(o.data)},
        {"--augment", name_in(kAugments, o.augment)},
        {"--seed", number_text(o.seed)},
        {"--batch", number_text(o.batch)},
        {"--accumulate", number_text(o.accumulate)},
        {"workers", number_text(workers)},
        {"--fc-scheme", name_in(kFcSchemes, o.fc_scheme)},
        {"--fc-split", name_in(kFcSplits, o.fc_split)},
        {"--fc-update", name_in(kFcUpdates, o.fc_per_pass)},
        {"--lr-scale", name_in(kLrScales, o.lr_scale)},
        {"--precision", name_in(kPrecisions, o.precision)},
        {"--kernels", o.kernels},
        {"--fuse", name_in(kFuses, o.fuse)},
        {"--overlap", o.overlap},
        {"--lr", number_text(o.lr)},
        {"--lr-policy", o.lr_policy},
        {"--warmup", number_text(o.warmup)},
        {"--label-smoothing", number_text(o.label_smoothing)},
        {"--check-replicas", number_text(o.check_replicas)},
        {"--momentum", number_text(o.momentum)},
        {"--weight-decay", number_text(o.weight_decay)},
        {"--init", o.init_file.empty() ? name_in(kInits, o.init) : absolute(o.init_file)},
        {"--freeze", layers_text(o.freeze)},
        {"--epochs", number_text(o.epochs)},
    };
    if (o.steps >= 0) s["--steps"] = number_text(o.steps);
    if (o.net_options.dropout >= 0) s["--dropout"] = number_text(o.net_options.dropout);
    return s;
}

std::string layers_text(const std::vector<std::string>& layers) {
    std::string s;
    for (const std::string& l : layers) s += (s.empty() ? "" : ",") + l;
    return s.empty() ? "none" : s;
}

std::string rgb_text(const std::vector<float>& values) {
    std::string s;
    for (const float v : values) s += (s.empty() ? "" : ",") + number_text(v);
    return s;
}

}  // namespace wt
