// Cuts a step's list into what is put on a stream at a time: a graph (graph_segments.h), or an
// action between workers or streams.
#pragma once

#include <vector>

#include "host/parallel/step.h"

namespace wt {

struct StepSegment {
    size_t begin, end;  // of the list
    bool graph;         // false: a single action that is no launch
};

// Launches in a row on one stream are a graph. From `compute` it may also go over to other streams
// and come back, as far as all that is closed: every event that is waited for in the graph was
// recorded in it, none of it is waited for behind it, and at its end `compute` has waited for all
// that the other streams did. Posts, collects and the stream of the input stay outside.
std::vector<StepSegment> segments_of(const StepList& steps);

}  // namespace wt
