// bin/compare --predict: every case with its own variants' predicted times
// (host/model/prediction.h), measured ones beside them where a GPU has left some, and the sum of a
// network's step. Nothing runs and no device is asked.
#pragma once

#include <string>
#include <vector>

#include "host/bench/registry.h"
#include "host/json.h"

namespace wt::bench {

inline constexpr Architecture kPredictedArchitecture{90};

struct PredictWish {
    std::string gpu;  // "h200"
    std::string net;  // "": of one problem
    int batch = 0;
    Precision precision = Precision::fp32;
    std::vector<std::string> variants;  // only these; empty: all
    bool automatic = false;             // only what training would run
    bool step = false;                  // the sum of the network's step, too
    std::string measured;               // folder of make gpu-report's folders; need not be there
    std::string counted;                // file of bin/compare --counters; empty: none
};

struct Predicted {
    std::string text;
    Json json;
};

// `cases` are for kPredictedArchitecture.
Predicted predicted(const PredictWish& wish, const std::vector<BenchCase>& cases);

}  // namespace wt::bench
