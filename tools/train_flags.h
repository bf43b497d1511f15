// bin/train's command line: its flags, what they are worth, and its words as text.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "host/parallel/team.h"
#include "host/train/trainer.h"
#include "tools/common_cli.h"

namespace wt {

// Values that need more than a conversion are as they were typed, beside `o`.
struct Flags {
    TrainOptions o;
    TeamOptions team;
    std::string gpus, mean, std_dev, init, resume, init_except, freeze = "none", recipe;
    std::pair<std::string, std::string> export_to;  // format, file
    std::vector<std::string> given;                 // names without dashes
    bool has(const char* name) const {
        return std::find(given.begin(), given.end(), name) != given.end();
    }
};

// The network's recipe with the arguments over it; later ones win over earlier ones. Throws
// UsageError.
Flags parse(const std::vector<std::string>& arguments);

// "0,1" into one worker per entry; empty: two workers, on two GPUs where there are two.
std::vector<int> parse_gpus(const std::string& text);

// "R,G,B", in 0..255 units; none where it is empty.
std::optional<std::vector<float>> parse_rgb(const std::string& flag, const std::string& text,
                                            bool positive);

// "--watch" with its number, where that was left away.
std::vector<std::string> spelled_out(std::vector<std::string> arguments);

// The flags of the recipe that --recipe names, and behind them the others, which win: what goes
// into a checkpoint does not need the recipe's file again.
std::vector<std::string> with_recipe(const std::vector<std::string>& typed);

// The arguments without these flags and their values; names without dashes.
std::vector<std::string> without(const std::vector<std::string>& arguments,
                                 const std::vector<std::string>& names);

std::string joined(const std::vector<std::string>& arguments);
// As a shell takes it, a blank before each: a command that can be given again.
std::string shell_text(const std::vector<std::string>& arguments);

}  // namespace wt
