#include "host/train/schedule.h"

#include <cmath>
#include <cstdio>
#include <sstream>

#include "host/cuda/check.h"

namespace wt {

Schedule::Schedule(const std::string& policy, double lr, int64_t steps_per_epoch,
                   int64_t total_steps)
    : lr_(lr), steps_per_epoch_(steps_per_epoch), total_steps_(total_steps) {
    const auto bad = [&] {
        return UsageError(
            "--lr-policy " + policy +
            ": must be plateau, linear, constant or step:E1,E2,... with rising epochs");
    };
    if (policy == "plateau")
        policy_ = Policy::plateau;
    else if (policy == "linear")
        policy_ = Policy::linear;
    else if (policy == "constant")
        policy_ = Policy::constant;
    else if (policy.starts_with("step:")) {
        policy_ = Policy::step;
        std::stringstream parts(policy.substr(5));
        for (std::string part; std::getline(parts, part, ',');) {
            if (part.empty() || part.size() > 6 ||
                part.find_first_not_of("0123456789") != std::string::npos)
                throw bad();
            epochs_.push_back(std::stoll(part));
            if (epochs_.size() > 1 && epochs_.back() <= epochs_[epochs_.size() - 2]) throw bad();
        }
        if (epochs_.empty()) throw bad();
    } else {
        throw bad();
    }
}

double Schedule::rate(int64_t step) const {
    switch (policy_) {
        case Policy::plateau: return lr_ * std::pow(0.1, drops_);
        case Policy::linear: return lr_ * std::max(0.0, 1.0 - double(step) / double(total_steps_));
        case Policy::constant: return lr_;
        case Policy::step: {
            int drops = 0;
            for (int64_t e : epochs_) drops += step / steps_per_epoch_ >= e;
            return lr_ * std::pow(0.1, drops);
        }
    }
    return lr_;
}

bool Schedule::evaluated(double top1_error) {
    if (policy_ != Policy::plateau) return false;
    if (top1_error < best_) {
        best_ = top1_error;
        since_best_ = 0;
    } else if (++since_best_ >= 3 && drops_ < 3) {
        ++drops_;
        since_best_ = 0;
        return true;
    }
    return false;
}

std::string Schedule::state() const {
    char s[80];
    std::snprintf(s, sizeof s, "%.17g %d %d", best_, since_best_, drops_);
    return s;
}

void Schedule::restore(const std::string& state) {
    if (std::sscanf(state.c_str(), "%lf %d %d", &best_, &since_best_, &drops_) != 3)
        throw Error("checkpoint: the schedule's state '" + state + "' is not understood");
}

}  // namespace wt
