#include "host/train/schedule.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <numbers>
#include <sstream>

#include "host/cuda/check.h"

namespace wt {

Schedule::Schedule(const std::string& policy, double lr, int64_t steps_per_epoch,
                   int64_t total_steps, double warmup_epochs)
    : lr_(lr),
      warmup_steps_(std::llround(warmup_epochs * static_cast<double>(steps_per_epoch))),
      steps_per_epoch_(steps_per_epoch),
      total_steps_(total_steps) {
    const auto bad = [&] {
        return UsageError(
            "--lr-policy " + policy +
            ": must be plateau, linear, cosine, constant, exponential:G with G between 0 and 1, or "
            "step:E1,E2,... with rising epochs");
    };
    if (policy == "plateau")
        policy_ = Policy::plateau;
    else if (policy == "linear")
        policy_ = Policy::linear;
    else if (policy == "cosine")
        policy_ = Policy::cosine;
    else if (policy == "constant")
        policy_ = Policy::constant;
    else if (policy.starts_with("exponential:")) {
        policy_ = Policy::exponential;
        const char* const end = policy.data() + policy.size();
        const auto r = std::from_chars(policy.data() + 12, end, factor_);
        if (r.ec != std::errc() || r.ptr != end || !(factor_ > 0 && factor_ < 1)) throw bad();
    } else if (policy.starts_with("step:")) {
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
    const double rate = rate_of_policy(step);
    if (step >= warmup_steps_) return rate;
    return rate * static_cast<double>(step + 1) / static_cast<double>(warmup_steps_);
}

double Schedule::rate_of_policy(int64_t step) const {
    const double done = std::min(1.0, double(step) / double(total_steps_));
    switch (policy_) {
        case Policy::plateau: return lr_ * std::pow(0.1, drops_);
        case Policy::linear: return lr_ * (1.0 - done);
        case Policy::cosine: return lr_ * (1 + std::cos(std::numbers::pi * done)) / 2;
        case Policy::exponential:
            return lr_ * std::pow(factor_, static_cast<double>(step / steps_per_epoch_));
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
