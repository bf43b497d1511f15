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
//   cosine        lr (1 + cos(pi t)) / 2 with t from 0 to 1 over the whole run (Loshchilov and
//                 Hutter, arXiv 1608.03983, without restarts)
//   exponential:G times G at the beginning of every epoch but the first, 0 < G < 1
//   constant
// A warm-up multiplies the rate of its steps i = 0, 1, ... by (i + 1) / steps (Goyal et al., arXiv
// 1706.02677); the policy counts them as any others.
class Schedule {
public:
    Schedule() = default;
    // Throws UsageError for text that is no policy.
    Schedule(const std::string& policy, double lr, int64_t steps_per_epoch, int64_t total_steps,
             double warmup_epochs = 0);

    double rate(int64_t step) const;
    // Whether the rate of a step depends on how many there are in all.
    bool falls_to_the_end() const { return policy_ == Policy::linear || policy_ == Policy::cosine; }
    // Tells of an evaluation. True when the rate falls from here on.
    bool evaluated(double top1_error);

    // What a resumed run must know: evaluations so far.
    std::string state() const;
    void restore(const std::string& state);

private:
    double rate_of_policy(int64_t step) const;

    enum class Policy {
        plateau,
        step,
        linear,
        cosine,
        exponential,
        constant
    } policy_ = Policy::constant;
    double lr_ = 0, factor_ = 1;
    int64_t warmup_steps_ = 0;
    int64_t steps_per_epoch_ = 1, total_steps_ = 1;
    std::vector<int64_t> epochs_;
    double best_ = 1e30;
    int since_best_ = 0, drops_ = 0;
};

}  // namespace wt
