#include "host/model/measured_results.h"

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "host/cuda/check.h"
#include "host/cuda/regular_file.h"
#include "host/json.h"
#include "host/net/problem_text.h"
#include "kernels/operations.h"

namespace wt::model {

namespace {

namespace fs = std::filesystem;

// The problem without its precision, as bin/compare writes it.
std::string short_problem(const std::string& operation, const std::string& text) {
    std::string all = text;
    for_each_operation([&]<class P, class A>(Table<P, A> (*)()) {
        if (operation == A::operation)
            all = text_of(problem_of<P>(text), FieldSet::without_precision);
    });
    return all;
}

std::string key_of(const std::string& operation, const std::string& problem,
                   const std::string& precision, const std::string& variant) {
    return operation + "\n" + problem + "\n" + precision + "\n" + variant;
}

std::string step_key(const std::string& net, int batch, const std::string& precision) {
    return net + " " + std::to_string(batch) + " " + precision;
}

// Whether the words of a device's name have `gpu` among them: "h200" is in "NVIDIA H200".
bool names(const std::string& device, const std::string& gpu) {
    std::string lower = device;
    std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
    return lower.find(gpu) != std::string::npos;
}

}  // namespace

MeasuredResults MeasuredResults::read(const std::string& folder, const std::string& gpu) {
    MeasuredResults all;
    if (!fs::is_directory(folder)) return all;
    std::vector<fs::path> runs;
    for (const auto& entry : fs::directory_iterator(folder))
        if (entry.is_directory()) runs.push_back(entry.path());
    std::ranges::sort(runs);
    const auto of_gpu = [&](const Json& machine) {
        return names(machine.value("gpu", ""), gpu) && !machine.value("virtual", false);
    };
    for (const fs::path& run : runs)
        for (const char* name : {"compare.json", "steps.json"}) {
            const std::string path = (run / name).string();
            if (!fs::exists(path)) continue;
            const std::string text = read_whole(path, "write the folder again by make gpu-report");
            try {
                const Json j = parse_json(text);
                if (!of_gpu(j.at("machine"))) continue;
                bool found = false;
                const auto keep = [&](double& us, const Json& from) {
                    us = 1e3 * from.at("ms").get<double>();
                    found = true;
                };
                if (j.contains("runs"))
                    for (const Json& r : j.at("runs")) {
                        if (r.value("virtual", false)) continue;
                        const std::string precision = r.at("precision");
                        for (const Json& p : r.at("problems"))
                            for (const Json& v : p.at("variants"))
                                if (v.contains("ms"))
                                    keep(all.kernels_[key_of(p.at("op"), p.value("problem", ""),
                                                             precision, v.at("variant"))],
                                         v);
                    }
                if (j.contains("steps"))
                    for (const Json& s : j.at("steps"))
                        if (s.contains("ms") && s.value("workers", 1) == 1 &&
                            s.at("who").get<std::string>() == "ours")
                            keep(
                                all.steps_[step_key(s.at("net"), s.at("batch"), s.at("precision"))],
                                s);
                if (found) all.files_.push_back(path);
            } catch (const Json::exception& e) {
                throw Error(path + " is not as profiling/report.py writes it: " + e.what());
            }
        }
    return all;
}

double MeasuredResults::kernel_us(const std::string& operation, const std::string& problem,
                                  const std::string& precision, const std::string& variant) const {
    if (kernels_.empty()) return 0;
    for (const std::string& text : {problem, short_problem(operation, problem)}) {
        const auto at = kernels_.find(key_of(operation, text, precision, variant));
        if (at != kernels_.end()) return at->second;
    }
    return 0;
}

double MeasuredResults::step_us(const std::string& net, int batch,
                                const std::string& precision) const {
    const auto at = steps_.find(step_key(net, batch, precision));
    return at == steps_.end() ? 0 : at->second;
}

}  // namespace wt::model
