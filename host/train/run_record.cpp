#include "host/train/run_record.h"

#include "host/cuda/check.h"
#include "host/json.h"

namespace wt {

void write_record(const RunRecord& r, Metadata& metadata) {
    if (!r.whole()) return;
    Json settings = Json::object();
    for (const auto& [flag, value] : r.settings) settings[flag] = value;
    metadata["settings"] = json_text(settings);
    metadata["classes"] = json_text(r.classes);
    metadata["normalisation"] = json_text({{"mean", r.mean}, {"std", r.std_dev}});
    metadata["input"] = json_text({{"stored", r.stored}, {"channels", r.channels}, {"pca", r.pca}});
    metadata["data"] = json_text(
        {{"train", r.train_images}, {"held_out", r.held_out_images}, {"mean", r.data_mean}});
    metadata["total_steps"] = std::to_string(r.total_steps);
    metadata["command"] = r.command;
}

RunRecord read_record(const Metadata& metadata, const std::string& path) {
    RunRecord r;
    const char* key = "";
    const auto has = [&](const char* name) { return metadata.contains(key = name); };
    const auto json = [&] { return parse_json(metadata.at(key)); };
    try {
        if (has("settings")) json().get_to(r.settings);
        if (has("classes")) json().get_to(r.classes);
        if (has("normalisation")) {
            const Json j = json();
            j.at("mean").get_to(r.mean);
            j.at("std").get_to(r.std_dev);
            if (r.mean.size() != 3 || r.std_dev.size() != 3) throw std::out_of_range("three");
        }
        if (has("input")) {
            const Json j = json();
            j.at("stored").get_to(r.stored);
            j.at("channels").get_to(r.channels);
            j.at("pca").get_to(r.pca);
            if (!r.pca.empty() && r.pca.size() != 9) throw std::out_of_range("nine");
            if (r.stored < 1 || r.stored > 1 << 14) throw std::out_of_range("a side");
        }
        if (has("data")) {
            const Json j = json();
            j.at("train").get_to(r.train_images);
            j.at("held_out").get_to(r.held_out_images);
            j.at("mean").get_to(r.data_mean);
            if (!r.data_mean.empty() && r.data_mean.size() != 3) throw std::out_of_range("three");
        }
        if (has("total_steps")) r.total_steps = std::stoll(metadata.at(key));
        if (has("command")) r.command = metadata.at(key);
        return r;
    } catch (const std::logic_error&) {
    } catch (const Json::exception&) {
    }
    throw Error(path + ": its '" + key + "' is not understood; the file is damaged");
}

}  // namespace wt
