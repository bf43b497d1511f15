// bin/report RUN...: the curves of one run or of several over each other, as one page.
// bin/report --chart FILE.json: a chart that a script describes, as an SVG.
#include <cstdio>

#include "host/cuda/check.h"
#include "host/cuda/regular_file.h"
#include "host/report/chart_file.h"
#include "host/report/run_report.h"
#include "host/train/atomic_file.h"
#include "tools/common_cli.h"

namespace {

using namespace wt;

int run(int argc, char** argv) {
    CommandLine app(
        "Draws runs of bin/train: loss and error against images and time, speed, the first layer's "
        "filters, settings; one page without anything from elsewhere.");
    std::vector<std::string> folders;
    std::string out = "report.html", chart;
    app.add_option("RUN", folders, "folders of runs, as bin/train --out names them");
    app.add_option("--out", out, "the page's file");
    app.add_option(
        "--chart", chart,
        "instead of runs: a FILE.json that describes a chart (host/report/chart_file.h), "
        "drawn to --out FILE.svg");
    app.parse(argc, argv);
    if (folders.empty() == chart.empty())
        throw UsageError(folders.empty() ? "RUN is required: the folder of a run"
                                         : "--chart " + chart + " is drawn alone: leave " +
                                               folders.front() + " away");
    if (!chart.empty()) {
        if (!out.ends_with(".svg"))
            throw UsageError("--chart draws an SVG: give --out FILE.svg, not " + out);
        atomic_write_file(out, keyed_chart_file(parse_chart(read_whole(chart), chart)), "picture");
        std::printf("wrote %s\n", out.c_str());
        return 0;
    }
    std::vector<RunHistory> runs;
    for (const std::string& folder : folders) runs.push_back(read_run(folder));
    atomic_write_file(out, report_page(runs), "report");
    std::printf("wrote %s\n", out.c_str());
    return 0;
}

}  // namespace

int main(int argc, char** argv) { return run_program(argc, argv, "report", run); }
