#include "host/train/metrics.h"

#include "host/cuda/check.h"
#include "host/cuda/regular_file.h"
#include "host/json.h"
#include "host/train/atomic_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sstream>
#include <unistd.h>

namespace wt {
namespace {

// Whether a resumed run keeps this line; takes its `seconds`.
bool keeps(const std::string& line, int64_t step, double& seconds) {
    const Json j = try_parse_json(line);
    if (!j.is_object() || !j.contains("step") || !j["step"].is_number_integer()) return false;
    if (j["step"].get<int64_t>() > step || j.value("kind", "") == "done") return false;
    if (j.contains("seconds") && j["seconds"].is_number()) seconds = j["seconds"].get<double>();
    return true;
}

}  // namespace

MetricsLog::MetricsLog(const std::string& dir, int64_t step) : path_(dir + "/metrics.jsonl") {
    std::error_code e;
    std::filesystem::create_directories(dir, e);
    if (e)
        throw Error("cannot make the directory " + dir + ": " + e.message() +
                    ": give another with --out");
    RegularFile before(path_);  // a fresh one's too: opening a FIFO to write waits for a reader
    if (!before.wrong().empty() && !before.missing())
        throw Error("cannot write " + path_ + ": " + before.wrong() +
                    ": move it away, or give another --out");
    if (step >= 0) {
        std::string kept;
        std::istringstream in(before.missing() ? "" : before.rest());
        for (std::string line; std::getline(in, line);)
            // at eof: no newline, a torn line
            if (!in.eof() && keeps(line, step, seconds_)) kept += line + '\n';
        atomic_write_file(path_, kept);
    }
    fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (step < 0 ? O_TRUNC : 0),
               0666);
    if (fd_ < 0) throw Error("cannot write " + path_ + ": " + std::strerror(errno));
}

MetricsLog::~MetricsLog() {
    if (fd_ >= 0) close(fd_);
}

void MetricsLog::write_line(std::string line) {
    line += '\n';
    for (size_t at = 0; at < line.size();) {
        const ssize_t w = ::write(fd_, line.data() + at, line.size() - at);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0)
            throw Error("cannot write " + path_ + ": " + std::strerror(w < 0 ? errno : ENOSPC));
        at += static_cast<size_t>(w);
    }
}

void MetricsLog::kernels(const KernelMetrics& m) {
    Json choices = Json::object();
    for (const auto& [pass, variant] : m.choices) choices[pass] = variant;
    write_line(json_text({{"kind", "kernels"}, {"step", m.step}, {"choices", choices}}));
}

void MetricsLog::start(const StartMetrics& m) {
    Json versions = Json::object();
    for (const auto& [what, version] : m.versions) versions[what] = version;
    write_line(json_text({{"kind", "start"},
                          {"step", m.step},
                          {"command", m.command},
                          {"seed", m.seed},
                          {"workers", m.workers},
                          {"devices", m.devices},
                          {"versions", versions}}));
}

void MetricsLog::watch(const WatchMetrics& m) {
    Json params = Json::object();
    for (const WatchedParam& p : m.params)
        params[p.name] = {{"w", p.weight}, {"dw", p.update}, {"ratio", p.ratio()}};
    write_line(json_text({{"kind", "watch"},
                          {"step", m.step},
                          {"epoch", m.epoch},
                          {"params", params},
                          {"seconds", m.seconds}}));
}

void MetricsLog::step(const StepMetrics& m) {
    const Json j = {{"kind", "step"},
                    {"step", m.step},
                    {"epoch", m.epoch},
                    {"loss", m.loss},
                    {"top1_error", m.top1_error},
                    {"lr", m.lr},
                    {"images_per_s", m.images_per_s},
                    {"input_wait", m.input_wait},
                    {"seconds", m.seconds}};
    write_line(json_text(j));
}

void MetricsLog::eval(const EvalMetrics& m) {
    const Json j = {{"kind", "eval"},
                    {"step", m.step},
                    {"epoch", m.epoch},
                    {"split", m.split},
                    {"loss", m.loss},
                    {"top1_error", m.top1_error},
                    {"top5_error", m.top5_error},
                    {"images", m.images},
                    {"skipped", m.skipped},
                    {"seconds", m.seconds}};
    write_line(json_text(j));
}

void MetricsLog::done(const DoneMetrics& m) {
    const Json j = {{"kind", "done"},
                    {"step", m.step},
                    {"epoch", m.epoch},
                    {"reason", m.reason},
                    {"seconds", m.seconds}};
    write_line(json_text(j));
}

}  // namespace wt
