// What the streams of each worker did in a step (host/cuda/timeline.h), as a picture.
#pragma once

#include <string>

#include "host/cuda/timeline.h"

namespace wt::draw {

// An SVG file: a lane a worker and stream, names and times as tooltips, and under each worker's
// lanes the times of communication that nothing hides.
std::string step_chart_file(const StepPicture& picture, const std::string& title);

}  // namespace wt::draw
