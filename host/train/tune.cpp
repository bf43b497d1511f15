#include "host/train/tune.h"

#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>

#include "host/bench/tune.h"
#include "host/cuda/device.h"
#include "host/cuda/regular_file.h"
#include "host/json.h"
#include "host/parallel/group.h"
#include "host/train/atomic_file.h"

namespace wt {

namespace {

// Changes when the kernels' sources or their compiler do: what was measured before says nothing
// then.
const char* kernels_id() { return WT_KERNELS_ID; }

// "virtual GPU 0" and "virtual GPU 1" are one kind.
std::string kind_of(int device) {
    const std::string name = device_name(device);
#ifdef VGPU
    return name.substr(0, name.find_last_not_of("0123456789 ") + 1);
#else
    return name;
#endif
}

// Takes what the text has; `path` is where it comes from.
std::string parse_tuning(const std::string& text, const std::string& path, Tuning& tuning) {
    const Json all = try_parse_json(text);
    const std::string broken = path + " is no file of tuned kernels: ignored";
    if (!all.is_object() || !all.contains("entries") || !all["entries"].is_array()) return broken;
    if (all.value("device", Json()) != tuning.device())
        return path + " is of another device: ignored";
    if (all.value("kernels", Json()) != kernels_id())
        return path + " is of other kernels than these: ignored";
    Tuning read = tuning;
    for (const Json& e : all["entries"]) {
        if (!e.is_object()) return broken;
        for (const char* key : {"operation", "problem", "variant"})
            if (!e.contains(key) || !e[key].is_string()) return broken;
        if (!e.contains("ms") || !e["ms"].is_number()) return broken;
        read.set(e["operation"].get<std::string>(), e["problem"].get<std::string>(),
                 {e["variant"].get<std::string>(), e["ms"].get<double>()});
    }
    tuning = std::move(read);
    return {};
}

std::string tuning_text(const Tuning& tuning) {
    Json entries = Json::array();
    for (const auto& [key, e] : tuning.entries())
        entries.push_back({{"operation", key.first},
                           {"problem", key.second},
                           {"variant", e.variant},
                           {"ms", e.ms}});
    return json_text({{"device", tuning.device()}, {"kernels", kernels_id()}, {"entries", entries}},
                     1) +
           "\n";
}

}  // namespace

std::string load_tuning(const std::string& path, Tuning& tuning) {
    RegularFile file(path);
    if (file.missing()) return {};  // the first time
    if (!file.wrong().empty()) return path + " cannot be read (" + file.wrong() + "): ignored";
    return parse_tuning(file.rest(), path, tuning);
}

void save_tuning(const std::string& path, const Tuning& tuning) {
    std::error_code ec;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ec);
    if (ec) throw Error("cannot make the folder of " + path + ": " + ec.message());
    const std::string text = tuning_text(tuning);
    AtomicFile file(path, text.size(), "file");
    file.write(text.data(), text.size());
    file.commit();
}

std::string tuning_path(const std::string& device) {
    const auto folder = [](const char* variable) -> std::string {
        const char* v = std::getenv(variable);
        // a relative one is to be ignored, says the XDG base directory specification
        return v && *v == '/' ? v : "";
    };
    std::string cache = folder("XDG_CACHE_HOME");
    if (cache.empty() && !folder("HOME").empty()) cache = folder("HOME") + "/.cache";
    if (cache.empty()) return {};
    std::string name;
    for (const char c : device)
        name +=
            std::isalnum(static_cast<unsigned char>(c)) ? static_cast<char>(std::tolower(c)) : '-';
    return cache + "/weirdtrick/tuned-" + name + ".json";
}

void choose_kernels(std::vector<WorkerConfig>& configs, double seconds, Team* team) {
    std::map<std::string, std::shared_ptr<Tuning>> of_kind;
    for (WorkerConfig& c : configs) {
        auto& tuning = of_kind[kind_of(c.device)];
        if (!tuning) tuning = std::make_shared<Tuning>(kind_of(c.device));
        c.kernels.tuning = tuning;
    }
    if (team) team->same("kind of GPU", kind_of(configs[0].device));
    if (!configs[0].kernels.tune) return;
    check_memory(configs);  // before minutes of measuring
    if (team && team->rank() != 0) {
        parse_tuning(team->broadcast(std::string()), "what rank 0 has sent",
                     *configs[0].kernels.tuning);
        return;
    }
    for (auto& [kind, tuning] : of_kind) {
        const std::string path = tuning_path(kind);
        if (path.empty())
            std::fprintf(
                stderr,
                "warning: neither XDG_CACHE_HOME nor HOME is set: tuned kernels are not remembered\n");
        if (const std::string why = path.empty() ? "" : load_tuning(path, *tuning); !why.empty())
            std::fprintf(stderr, "warning: %s\n", why.c_str());
        for (const WorkerConfig& c : configs) {  // planning asks for every choice
            if (c.kernels.tuning != tuning) continue;
            tuning->measure = [device = c.device, seconds](
                                  const std::string& layer_op, const std::string& operation,
                                  const std::string& problem, KernelChoice choice) {
                return bench::fastest_variant(layer_op, operation, problem, choice,
                                              {.device = device, .seconds = seconds});
            };
            WorkerConfig other = c;
            for (int r = team ? 0 : c.rank; r < (team ? c.workers : c.rank + 1);
                 ++r) {  // of those elsewhere too: shards may differ
                other.rank = r;
                const Layout plan(other);
            }
        }
        tuning->measure = nullptr;
        if (tuning->measured == 0 || path.empty()) continue;
        try {
            save_tuning(path, *tuning);
            std::printf("tuned   %d problems on %s, kept in %s\n", tuning->measured, kind.c_str(),
                        path.c_str());
        } catch (const Error& e) {
            std::fprintf(stderr, "warning: tuned kernels are not remembered: %s\n", e.what());
        }
    }
    std::fflush(stdout);
    if (team) team->broadcast(tuning_text(*configs[0].kernels.tuning));
}

}  // namespace wt
