// Whether a run is sound: where values are no longer finite, and how large weights and their
// updates are. Both read the workers' own elements (Layout::own), of which every parameter's are
// each one worker's: so they hold in every scheme. In a job all processes call them together.
// Between steps only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/parallel/group.h"
#include "host/train/metrics.h"

namespace wt {

// The first parameter, in the network's order, with a weight or momentum that is not finite, and
// the first worker that has it: "conv2.weight of worker 1", "conv2.weight's momentum of worker 1";
// "" where all are finite. Copies every parameter to the host.
std::string first_bad_weight(Group& group);

// Likewise the first layer whose output in the last step is not finite: "the output of conv4 on
// worker 0". Outputs that no kernel stores are passed over.
std::string first_bad_output(Group& group);

// Why a run ends on a value that is not finite.
struct NotFinite {
    std::string what;    // "the loss is not finite at step 7"
    std::string first;   // the layer, worker and step where it began; "": not known
    double rate = 0;     // of the last step
    std::string folder;  // of the run
    int64_t saved = -1;  // the step of its newest checkpoint; negative: there is none
    int64_t step = 0;
    bool paper = false;  // the weights began as the paper has it
};
std::string text_of(const NotFinite& n);  // one line, with what to do

// Compares the weights after a step with those before it, on the host: sums in fp64, element by
// element, then worker by worker, so they are the same however often they are taken.
class Watch {
public:
    // Before the step: copies every worker's own weights (250 MB in all for AlexNet).
    explicit Watch(Group& group);
    // After it; on rank 0 alone, elsewhere empty.
    std::vector<WatchedParam> after();

private:
    Group& group_;
    std::vector<std::vector<std::vector<float>>> before_;  // by worker here, and parameter
};

// A table, a line a parameter: "conv1.weight  1.23e-02  4.5e-06  3.66e-04".
std::string text_of(const std::vector<WatchedParam>& params);

}  // namespace wt
