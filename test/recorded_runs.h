// Small runs on folders of made-up images, and what their checkpoints and their output say.
#pragma once

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "host/train/run_record.h"
#include "test/data_files.h"
#include "test/training.h"

namespace wt::test {

inline Metadata metadata(const std::string& path) { return SafetensorsFile::open(path).metadata(); }
inline std::map<std::string, std::string> settings(const std::string& path) {
    return nlohmann::json::parse(metadata(path).at("settings"));
}
inline std::vector<std::string> classes(const std::string& path) {
    return nlohmann::json::parse(metadata(path).at("classes"));
}

// Images of 32x32, a colour a class and a shade an image.
inline void write_images(const std::string& dir, const std::vector<std::string>& names, int train,
                         int held_out, int shade = 0) {
    for (const std::string& name : names) {
        const int r = 40 + name[0] * 37 % 150;
        for (int i = 0; i < train; ++i)
            write_file(dir + "/train/" + name + "/" + std::to_string(i) + ".png",
                       flat_png(32, 32, r, 255 - r, 20 + 5 * i + shade));
        for (int i = 0; i < held_out; ++i)
            write_file(dir + "/val/" + name + "/" + std::to_string(i) + ".png",
                       flat_png(32, 32, r + 3, 250 - r, 30 + 9 * i + shade));
    }
}

inline const std::string kNet = " --net cifar --gpus 0 ";

// The line of an evaluation: from "loss" to its end.
inline std::string result_of(const Result& r) {
    const size_t at = r.out.rfind(": loss ");
    return at == std::string::npos ? "no result" : r.out.substr(at, r.out.find('\n', at) - at);
}

// The file again, without these keys of its metadata: as older versions wrote it, or others do.
inline void copy_without(const std::string& from, const std::string& to,
                         const std::vector<std::string>& keys) {
    const auto file = SafetensorsFile::open(from);
    Metadata m = file.metadata();
    for (const std::string& k : keys) m.erase(k);
    std::vector<std::vector<float>> values;
    std::vector<NamedTensor> tensors;
    for (const auto& n : file.names()) values.push_back(file.read(n));
    for (size_t i = 0; i < values.size(); ++i)
        tensors.push_back({file.names()[i], file.shape(file.names()[i]), values[i].data()});
    std::filesystem::create_directories(std::filesystem::path(to).parent_path());
    write_safetensors(to, tensors, keys.empty() ? Metadata{} : m);
}

inline const std::vector<std::string> kNewKeys = {
    "settings", "classes", "normalisation", "input", "data", "total_steps", "command"};

inline std::string notices(const Result& r) {
    std::string all;
    std::istringstream lines(r.out);
    for (std::string line; std::getline(lines, line);)
        if (line.starts_with("notice ")) all += line + "\n";
    return all;
}

}  // namespace wt::test
