// bin/report RUN...: the curves of one run or of several over each other, as one page.
#include <cstdio>

#include "host/cuda/check.h"
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
    std::string out = "report.html";
    app.add_option("RUN", folders, "folders of runs, as bin/train --out names them")->required();
    app.add_option("--out", out, "the page's file");
    app.parse(argc, argv);
    std::vector<RunHistory> runs;
    for (const std::string& folder : folders) runs.push_back(read_run(folder));
    atomic_write_file(out, report_page(runs), "report");
    std::printf("wrote %s\n", out.c_str());
    return 0;
}

}  // namespace

int main(int argc, char** argv) { return run_program(argc, argv, "report", run); }
