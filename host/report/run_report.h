// What a run did, as one page: curves of loss and error, speed, the first layer's filters, what it
// makes of single images, and what the run was. From its folder alone (metrics.jsonl, the newest
// checkpoint, pictures.json, timeline.svg), while it runs or after it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "host/report/run_pictures.h"

namespace wt {

struct RunHistory {
    struct Step {
        int64_t step;
        double loss, top1_error, lr, images_per_s, input_wait, seconds;
    };
    struct Eval {
        int64_t step;
        std::string split;
        double loss, top1_error, top5_error, seconds;
    };
    std::string folder, reason;  // why it ended; "" while it runs
    std::vector<Step> steps;
    std::vector<Eval> evals;
    struct Start {  // of the run, or of a part that went on
        int64_t step;
        std::string command;
        int workers;
        std::vector<std::string> devices;
        std::vector<std::pair<std::string, std::string>> versions;
    };
    struct Watched {
        int64_t step;
        double seconds;
        std::map<std::string, double> ratios;  // mean |dw| over mean |w|, by parameter
    };
    std::vector<Start> starts;
    std::vector<Watched> watched;
    std::map<std::string, std::string> choices;  // variant by operation
    RunPictures pictures;
    std::string timeline;  // an SVG of one step; "": there is none
    double seconds = 0;
    // Of the checkpoint; 0 and empty where there is none yet.
    int64_t global_batch = 0, checkpoint_step = 0;
    std::string net, command;
    uint64_t seed = 0;  // of the log too
    std::map<std::string, std::string> settings;
    std::vector<std::string> classes;
    double best_error = -1;  // percent; negative: none
    int64_t best_step = 0;
    std::string
        filters;  // a PNG of the first convolution's; "" where they have other channels than 1, 3
    std::string filters_layer;

    double images(int64_t step) const {
        return static_cast<double>(step) * static_cast<double>(global_batch ? global_batch : 1);
    }
};

// Throws Error, in one line, where the folder has no log or it is not understood. Lines that are
// torn or of a kind that is not known are passed over.
RunHistory read_run(const std::string& folder);

std::string timeline_path(const std::string& folder);

// The page of one run or of several over each other.
std::string report_page(const std::vector<RunHistory>& runs);

// FOLDER/report.html, curves.svg (the errors) and filters.png.
void write_run_report(const std::string& folder);

}  // namespace wt
