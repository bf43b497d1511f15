#include "host/train/step_timeline.h"

#include "host/cuda/check.h"
#include "host/draw/step_chart.h"
#include "host/report/run_report.h"
#include "host/train/atomic_file.h"

namespace wt {

StepTimeline::StepTimeline(Group& group) : group_(group) {
    for (int r = 0; r < group.workers(); ++r) {
        timelines_.push_back(std::make_unique<Timeline>(
            r, "GPU " + std::to_string(group.worker(r).layout().config.device)));
        all_.push_back(timelines_.back().get());
    }
    group.run([&](Worker& w) {
        w.synchronize();
        w.set_timeline(all_[w.layout().config.rank]);
    });
    Timeline::align(all_);
    sent_before_ = bytes_sent();
}

int64_t StepTimeline::bytes_sent() const {
    int64_t all = -sent_before_;
    for (int r = 0; r < group_.workers(); ++r) all += group_.worker(r).bytes_sent();
    return all;
}

void StepTimeline::stop() {
    for (int r = 0; r < group_.workers(); ++r) group_.worker(r).set_timeline(nullptr);
}

StepPicture StepTimeline::read() {
    stop();
    return Timeline::read(all_);
}

namespace {

std::string trace_path(const std::string& svg) { return svg.substr(0, svg.size() - 4) + ".json"; }

}  // namespace

void check_timeline_paths(const std::string& svg) {
    for (const std::string& path : {svg, trace_path(svg)}) check_output(path);
}

std::string write_timeline(const StepPicture& picture, const std::string& svg,
                           const std::string& title) {
    const std::string json = trace_path(svg);
    atomic_write_file(svg, draw::step_chart_file(picture, title));
    atomic_write_file(json, to_chrome_trace(picture, title));
    return json;
}

void write_timeline_of_run(const StepPicture& picture, const std::string& folder,
                           const std::string& title) {
    atomic_write_file(timeline_path(folder), draw::step_chart_file(picture, title));
}

}  // namespace wt
