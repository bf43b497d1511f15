// A step's list for people: bin/summary --steps.
#pragma once

#include <string>

#include "host/parallel/layout.h"

namespace wt {

// A line for each action: what runs, with which variant, at which problem; what it reads and
// writes, by the names of the buffers; transfers and events where several workers run.
std::string step_text(const Layout& layout, const StepList& steps);

}  // namespace wt
