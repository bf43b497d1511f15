// What a kernel should take on a GPU, by arithmetic: its own plan (tiles, waves, splits), the
// instructions that were compiled (issue_slots_table.h) and the GPU's constants
// (gpu_constants.h). Nothing runs, and nothing here was measured by this project.
//
// A product on tensor cores takes, for each of its waves, its stages at the slowest of tensor
// cores, issue, shared memory and L2, and an epilogue; any kernel at the least its bytes at the
// memory's rate; and the gap before it. Kernels that move memory take the longer of that and of
// their issue.
//
// A model belongs to a variant as it is compiled: it says "issue: not known" of a kernel whose
// instructions nobody has counted, and leaves them out. Variants without a model, among them all
// of vendors' libraries, have none.
#pragma once

#include <string>

#include "host/model/gpu_constants.h"

namespace wt::model {

struct Prediction {
    bool known = false;  // there is a model of this variant
    double us = 0;
    double floor_us = 0;  // at the GPU's rates of large products and copies; also without a model
    // What each would need if the others took no time.
    double tensor = 0, issue = 0, shared = 0, l2 = 0, memory = 0;
    bool issue_known = true;
    bool counted = false;  // shared and l2 are of counters (counted_results.h)
    // Parts of `us` beside those: epilogues of tiles, fences in the loop, gap and fill.
    double epilogue = 0, fence = 0, launch = 0;
    double idle = 0;  // of `us`, what the last wave's idle SMs would have been worth to all of them
    // "tensor", "issue", "shared", "L2", "HBM", "launch": the largest of them; or "fence"
    std::string bound;
    int blocks = 0;    // of a product's grid that leaves SMs free; 0: it takes all, or who knows
    std::string plan;  // "128x256 in pairs, 11.05 of 12 waves"; "" : nothing to say
};

// `operation`, `variant` and `problem` as in a step's list (host/parallel/step.h). Throws
// UsageError where there is no such operation or problem. `sms`: it is planned for so many of the
// GPU's; 0: for all.
Prediction predict(const Gpu& gpu, const std::string& operation, const std::string& variant,
                   const std::string& problem, int sms = 0);

}  // namespace wt::model
