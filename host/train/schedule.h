// The learning rate of a step.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace wt {

// --lr-policy
//   plateau       divided by 10 when the held-out top-1 error has not improved for 3 evaluations,
//                 at most 3 times (Krizhevsky et al. 2012, section 5)
//   step:E1,E2    divided by 10 at the beginning of these epochs (counted from 0)
//   linear        falls from lr to 0 over the whole run
//   constant
class Schedule {
public:
    Schedule() = default;
    // Throws UsageError for text that is no policy.
    Schedule(const std::string& policy, double lr, int64_t steps_per_epoch, int64_t total_steps);

    double rate(int64_t step) const;
    // Whether the rate of a step depends on how many there are in all.
    bool falls_to_the_end() const { return policy_ == Policy::linear; }
    // Tells of an evaluation. True when the rate falls from here on.
    bool evaluated(double top1_error);

    // What a resumed run must know: evaluations so far.
    std::string state() const;
    void restore(const std::string& state);

private:
    enum class Policy { plateau, step, linear, constant } policy_ = Policy::constant;
    double lr_ = 0;
    int64_t steps_per_epoch_ = 1, total_steps_ = 1;
    std::vector<int64_t> epochs_;
    double best_ = 1e30;
    int since_best_ = 0, drops_ = 0;
};

}  // namespace wt
