// DIR/metrics.jsonl: the course of a run, one JSON object a line, each line whole in the file when
// the call returns.
//
//   {"kind":"kernels","step":0,"choices":{"conv1.fprop":"tiled",...}}   the variants that the first
//                                                                       worker runs
//   {"kind":"start","step":0,"command":"bin/train ...","seed":1,"workers":2,
//    "devices":["NVIDIA H200",...],"versions":{"target":"cuda",...}}          one for each start
//   {"kind":"step","step":120,"epoch":0.26,"loss":0.81,"top1_error":25,"lr":0.01,
//    "images_per_s":512.3,"input_wait":0.02,"seconds":60.1}
//   {"kind":"eval","step":468,"epoch":1,"split":"val","loss":0.52,"top1_error":18.4,
//    "top5_error":1.1,"images":10000,"skipped":0,"seconds":240.5}
//   {"kind":"watch","step":100,"epoch":0.2,"params":{"conv1.weight":{"w":0.02,"dw":1e-05,
//    "ratio":0.0005},...},"seconds":50.1}      with --watch: mean |w| and mean |dw| of the step
//   {"kind":"done","step":1404,"epoch":3,"reason":"finished","seconds":180.2}
//
// `epoch` counts passes over the training data, with a fraction within one. Errors are in percent,
// `seconds` since training began (over all parts of a resumed run), `images_per_s` over all
// workers. A number that is not finite is null.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace wt {

struct KernelMetrics {
    int64_t step;  // done when the run began or went on
    std::vector<std::pair<std::string, std::string>> choices;
};

struct StartMetrics {
    int64_t step;  // done when the run began or went on
    std::string command;
    uint64_t seed;
    int workers;
    std::vector<std::string> devices;  // of this process
    std::vector<std::pair<std::string, std::string>> versions;
};

struct StepMetrics {
    int64_t step;
    double epoch, loss;
    double top1_error;  // of this step's training images, as they were when it began
    double lr, images_per_s;
    // share of the step's time, 0 to 1, in which the devices waited for images
    double input_wait;
    double seconds;
};

struct EvalMetrics {
    int64_t step;
    double epoch;
    std::string split;  // "val", "test", "train"
    double loss, top1_error, top5_error;
    int64_t images;
    int64_t skipped;  // of the split, and could not be read
    double seconds;
};

// Means over all of a parameter's elements.
struct WatchedParam {
    std::string name;
    double weight = 0;  // mean |w|, after the step
    double update = 0;  // mean |dw|: of what the step has changed; 0 for a frozen layer
    double ratio() const { return weight > 0 ? update / weight : 0; }
};

struct WatchMetrics {
    int64_t step;
    double epoch;
    std::vector<WatchedParam> params;
    double seconds;
};

struct DoneMetrics {
    int64_t step;
    double epoch;
    std::string reason;  // "finished", "not finite"
    double seconds;
};

class MetricsLog {
public:
    static constexpr int64_t kFresh = -1;

    // Makes DIR where it is missing. kFresh begins an empty file. Otherwise the run goes on after
    // `step`: its file keeps the lines of steps up to that one; later ones, a "done" and a torn
    // last line are dropped (the file is rewritten aside and renamed). Throws Error when the
    // directory or file cannot be written.
    MetricsLog(const std::string& dir, int64_t step);
    ~MetricsLog();
    MetricsLog(const MetricsLog&) = delete;
    MetricsLog& operator=(const MetricsLog&) = delete;

    void kernels(const KernelMetrics&);
    void start(const StartMetrics&);
    void step(const StepMetrics&);
    void eval(const EvalMetrics&);
    void watch(const WatchMetrics&);
    void done(const DoneMetrics&);

    // `seconds` of the last line kept when resuming (0 for a fresh file): where the run's clock
    // goes on.
    double seconds() const { return seconds_; }
    const std::string& path() const { return path_; }

private:
    void write_line(std::string line);
    std::string path_;
    double seconds_ = 0;
    int fd_ = -1;
};

}  // namespace wt
