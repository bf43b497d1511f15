// Which unit of the last layer a data set's class is: by name, not by place.
#pragma once

#include <string>
#include <vector>

#include "host/train/carry.h"

namespace wt {

struct ClassMatch {
    std::vector<std::string> classes;  // of the last layer's units
    std::vector<int> unit_of;          // by the data set's number of a class; empty: the same
    std::string notice;                // where they are not the same, or ""
};

// `known`: the classes that the weights in `path` were trained for; `found`: those of the data set
// `data`. Evaluating, all that are found must be known; fewer are used with a notice. A run that
// goes on has the same ones; another order is followed. A new run from weights has its own, and
// says so. Throws Error where that does not hold.
ClassMatch match_classes(const std::vector<std::string>& known,
                         const std::vector<std::string>& found, WeightsUse use,
                         const std::string& path, const std::string& data);

// "3 classes (cat, dog, owl)", the first few of many.
std::string classes_text(const std::vector<std::string>& classes);

}  // namespace wt
