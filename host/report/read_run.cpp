// A run's log and checkpoint, read back.
#include <cmath>
#include <filesystem>
#include <sstream>

#include "host/cuda/check.h"
#include "host/cuda/regular_file.h"
#include "host/draw/png.h"
#include "host/json.h"
#include "host/report/run_report.h"
#include "host/train/checkpoint.h"
#include "host/train/safetensors.h"

namespace wt {
namespace {

double number_in(const Json& j, const char* key) {
    const auto at = j.find(key);
    return at != j.end() && at->is_number() ? at->get<double>() : std::nan("");
}

void read_line(const Json& j, RunHistory& run) {
    const std::string kind = j.value("kind", "");
    const int64_t step = j.value("step", int64_t(0));
    if (kind == "step") {
        run.steps.push_back({.step = step,
                             .loss = number_in(j, "loss"),
                             .top1_error = number_in(j, "top1_error"),
                             .lr = number_in(j, "lr"),
                             .images_per_s = number_in(j, "images_per_s"),
                             .input_wait = number_in(j, "input_wait"),
                             .seconds = number_in(j, "seconds")});
    } else if (kind == "eval") {
        run.evals.push_back({.step = step,
                             .split = j.value("split", ""),
                             .loss = number_in(j, "loss"),
                             .top1_error = number_in(j, "top1_error"),
                             .top5_error = number_in(j, "top5_error"),
                             .seconds = number_in(j, "seconds")});
    } else if (kind == "start") {
        RunHistory::Start start{.step = step,
                                .command = j.value("command", ""),
                                .workers = j.value("workers", 0),
                                .devices = j.at("devices").get<std::vector<std::string>>(),
                                .versions = {}};
        for (const auto& [what, version] : j.at("versions").items())
            start.versions.push_back({what, version.get<std::string>()});
        run.seed = j.value("seed", uint64_t(0));
        run.starts.push_back(std::move(start));
    } else if (kind == "watch") {
        RunHistory::Watched w{.step = step, .seconds = number_in(j, "seconds"), .ratios = {}};
        for (const auto& [name, of] : j.at("params").items())
            w.ratios[name] = number_in(of, "ratio");
        run.watched.push_back(std::move(w));
    } else if (kind == "kernels") {
        for (const auto& [operation, variant] : j.at("choices").items())
            run.choices[operation] = variant.get<std::string>();
    } else if (kind == "done") {
        run.reason = j.value("reason", "");
    }
    if (const double s = number_in(j, "seconds"); s > run.seconds) run.seconds = s;
}

void read_checkpoint(const std::string& path, RunHistory& run) {
    const SafetensorsFile file = SafetensorsFile::open(path);
    const Position p = position_of(file.metadata(), path);
    run.net = p.net;
    run.seed = p.seed;
    run.global_batch = p.global_batch;
    run.checkpoint_step = p.step;
    run.command = p.record.command;
    run.settings = p.record.settings;
    run.classes = p.record.classes;
    if (p.best) {
        run.best_error = p.best.error;
        run.best_step = p.best.step;
    }
    run.filters_layer = "conv1";
    const std::string name = run.filters_layer + ".weight";
    if (!file.has(name)) return;
    const std::vector<int64_t> shape = file.shape(name);
    if (shape.size() != 4 || (shape[1] != 1 && shape[1] != 3)) return;
    run.filters =
        draw::filters_png(file.read(name), static_cast<int>(shape[0]), static_cast<int>(shape[1]),
                          static_cast<int>(shape[2]), static_cast<int>(shape[3]));
}

// "" where there is none, or a file of somebody else's that would bring more than a picture.
std::string read_timeline(const std::string& folder) {
    const std::string path = timeline_path(folder);
    if (!std::filesystem::exists(path)) return "";
    const std::string svg = read_whole(path);
    if (!svg.starts_with("<svg xmlns='http://www.w3.org/2000/svg'")) return "";
    for (const char* part : {"<script", "href", "url(", "@import", "<foreign", "<image"})
        if (svg.find(part) != svg.npos) return "";
    return svg;
}

}  // namespace

std::string timeline_path(const std::string& folder) {
    return (std::filesystem::path(folder) / "timeline.svg").string();
}

RunHistory read_run(const std::string& folder) {
    RunHistory run;
    run.folder = folder;
    const std::string log = (std::filesystem::path(folder) / "metrics.jsonl").string();
    if (!std::filesystem::exists(log))
        throw Error(folder + " has no metrics.jsonl: a run's folder is what bin/train --out names");
    std::istringstream in(read_whole(log));
    for (std::string line; std::getline(in, line);) {
        const Json j = try_parse_json(line);  // a last line that is being written is none yet
        if (!j.is_object()) continue;
        try {
            read_line(j, run);
        } catch (const Json::exception&) {
            throw Error(log + ": a line that bin/train did not write: " + line.substr(0, 60));
        }
    }
    const std::string checkpoint = checkpoint_path(folder);
    if (std::filesystem::exists(checkpoint)) read_checkpoint(checkpoint, run);
    run.pictures = read_pictures(folder);
    run.timeline = read_timeline(folder);
    return run;
}

}  // namespace wt
