// Fewer SMs than the machine has, for kernels that run beside others.
#pragma once

namespace wt {

// While it lives, planned_sms() (machine.h) is at most `sms` on this thread; 0 changes nothing. A
// kernel that plans by planned_sms() then has a grid for so many, and leaves the others free: a
// persistent grid must, or some of its blocks would wait until a neighbour that holds their SM
// ends. Its workspace must be asked for under the same limit. Where sums are split over SMs they
// are split otherwise, so results agree within rounding.
class SmLimit {
public:
    explicit SmLimit(int sms);
    ~SmLimit();
    SmLimit(const SmLimit&) = delete;
    SmLimit& operator=(const SmLimit&) = delete;

private:
    const int before_;
};

}  // namespace wt
