// What a later command takes over from the run that made its weights, and what it may say
// otherwise. One table (carry.cpp) has a rule for every setting of a run, so that none is passed
// over in silence.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "host/train/run_record.h"

namespace wt {

// What the weights are for.
enum class WeightsUse {
    resume,     // --resume DIR: the run goes on
    fine_tune,  // --init FILE: a new run begins with them
    evaluate,   // --eval-only with either
};

enum class Rule {
    same,    // taken over; another value is refused
    notice,  // taken over; another value is used, and a notice says so
    free,    // taken over; another value is used
    own,     // the new command's, or its recipe's
};

struct SettingRule {
    const char* setting;  // as in settings_of, and --mean, --std
    Rule resume, fine_tune, evaluate;
    Rule of(WeightsUse use) const {
        return use == WeightsUse::resume      ? resume
               : use == WeightsUse::fine_tune ? fine_tune
                                              : evaluate;
    }
};
const std::vector<SettingRule>& setting_rules();

// The flags that are taken over, to be put before those that are given. `given`: names without
// dashes
// ("epochs") of the flags on the command line.
std::vector<std::string> carried_flags(const RunRecord& record, WeightsUse use,
                                       const std::vector<std::string>& given);

// Compares what was with what is. Returns notices; throws Error where a rule refuses. `path`: the
// file.
std::vector<std::string> compare_settings(const std::string& path, const RunRecord& record,
                                          const std::map<std::string, std::string>& now,
                                          WeightsUse use);

}  // namespace wt
