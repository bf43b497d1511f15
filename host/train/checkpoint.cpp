#include "host/train/checkpoint.h"

#include <algorithm>

#include "host/json.h"
#include "host/train/safetensors.h"

namespace wt {

namespace {

// Of a number that is read back the same.
std::string exact_text(double v) {
    char s[32];
    std::snprintf(s, sizeof s, "%.17g", v);
    return s;
}

// Whether the run had frozen the layer when it wrote the file.
bool was_frozen(const SafetensorsFile& file, const std::string& layer, const std::string& path) {
    const RunRecord record = read_record(file.metadata(), path);
    const auto at = record.settings.find("--freeze");
    return at != record.settings.end() &&
           ("," + at->second + ",").find("," + layer + ",") != std::string::npos;
}

}  // namespace

std::string checkpoint_path(const std::string& run_directory) {
    return RunFolder(run_directory).newest();
}

void save_checkpoint(const std::string& path, Group& group, const NetSpec& net,
                     const Position& position) {
    const std::vector<Param>& params = group.worker(0).layout().params;
    std::vector<std::vector<float>> values;
    std::vector<NamedTensor> tensors;
    for (int momentum = 0; momentum < 2; ++momentum)
        for (size_t i = 0; i < params.size(); ++i) {
            if (momentum && group.worker(0).layout().frozen(static_cast<int>(i))) continue;
            const auto whole = group.get_param(static_cast<int>(i), momentum);
            if (!group.first()) continue;
            values.push_back(to_file_order(net, params[i], whole));
            tensors.push_back({params[i].name + (momentum ? ".momentum" : ""), params[i].shape,
                               values.back().data()});
        }
    if (!group.first()) return group.team()->barrier();
    std::map<std::string, std::string> meta = {
        {"format", "weirdtrick-2"},
        {"net", position.net},
        {"step", std::to_string(position.step)},
        {"seed", std::to_string(position.seed)},
        {"global_batch", std::to_string(position.global_batch)},
        {"schedule", position.schedule},
        {"seconds", exact_text(position.seconds)},
        {"arguments", json_text(position.arguments)}};
    if (position.best) {
        meta["best_error"] = exact_text(position.best.error);
        meta["best_step"] = std::to_string(position.best.step);
    }
    if (position.evaluation_due) meta["evaluation_due"] = "1";
    write_record(position.record, meta);
    write_safetensors(path, tensors, meta);
    if (group.team()) group.team()->barrier();
}

Position read_position(const std::string& path) {
    return position_of(SafetensorsFile::open(path).metadata(), path);
}

Position position_of(const Metadata& meta, const std::string& path) {
    const auto get = [&](const char* key) {
        const auto it = meta.find(key);
        if (it == meta.end())
            throw Error(path + " has no '" + key +
                        "': not a training checkpoint (weights alone are for --init)");
        return it->second;
    };
    try {
        Position p;
        p.net = get("net");
        p.step = std::stoll(get("step"));
        p.seed = std::stoull(get("seed"));
        p.global_batch = std::stoll(get("global_batch"));
        p.schedule = get("schedule");
        p.seconds = std::stod(get("seconds"));
        p.arguments = parse_json(get("arguments")).get<std::vector<std::string>>();
        p.evaluation_due = meta.contains("evaluation_due");
        if (meta.contains("best_step"))
            p.best = {std::stod(get("best_error")), std::stoll(get("best_step"))};
        p.record = read_record(meta, path);
        return p;
    } catch (const std::logic_error&) {
        throw Error(path + ": its position is not understood; the file is damaged");
    } catch (const Json::exception&) {
        throw Error(path + ": its position is not understood; the file is damaged");
    }
}

void load_weights(const SafetensorsFile* opened, Group& group, const NetSpec& net,
                  bool with_momentum) {
    const Layout& layout = group.worker(0).layout();
    const std::vector<Param>& params = layout.params;
    const auto taken = [&](size_t i, int momentum) {
        return !momentum || !layout.frozen(static_cast<int>(i));
    };
    if (!group.first()) {
        for (int momentum = 0; momentum < (with_momentum ? 2 : 1); ++momentum)
            for (size_t i = 0; i < params.size(); ++i)
                if (taken(i, momentum)) group.set_param(static_cast<int>(i), {}, momentum);
        return;
    }
    const SafetensorsFile& file = *opened;
    const std::string& path = file.path();
    const auto names = file.names();
    const auto shape_text = [](const std::vector<int64_t>& s) {
        std::string t;
        for (int64_t e : s) t += (t.empty() ? "" : "x") + std::to_string(e);
        return t;
    };
    for (int momentum = 0; momentum < (with_momentum ? 2 : 1); ++momentum)
        for (size_t i = 0; i < params.size(); ++i) {
            if (!taken(i, momentum)) continue;
            const Param& p = params[i];
            const std::string name = p.name + (momentum ? ".momentum" : "");
            const bool there = std::find(names.begin(), names.end(), name) != names.end();
            if (!there && momentum && was_frozen(file, net.layers[p.layer].name, path)) {
                group.set_param(static_cast<int>(i), std::vector<float>(p.count()), true);
                continue;
            }
            if (!there)
                throw Error(path + " has no tensor " + name + ": not a file of net " + net.name);
            if (file.shape(name) != p.shape)
                throw Error(path + ": tensor " + name + " is " + shape_text(file.shape(name)) +
                            ", net " + net.name + " has " + shape_text(p.shape) +
                            ": a file of another network or number of classes");
            group.set_param(static_cast<int>(i), from_file_order(net, p, file.read(name)),
                            momentum);
        }
}

}  // namespace wt
