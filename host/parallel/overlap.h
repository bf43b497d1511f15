// Which parts of a step run beside others, on streams of their own:
//
//   fc-update  the fully connected layers' weight gradients, with their updates, beside the trunk's
//              backward pass: they move memory, it multiplies. On real GPUs they get few SMs and
//              the convolutions that run meanwhile the others (SmLimit)
//   wgrad      a convolution's weight gradient beside the gradient of its input and what follows
//              from that below: blocks of the one fill the SMs that the other's last wave leaves.
//              On the same stream, the sum of the rows' losses beside the head's backward pass
//   input      the augmentation of a batch beside the step before it
//
// --overlap auto|on|off|PART,...; fc-update:N gives the update N SMs. Weights are the same bit for
// bit with any of them. With a limit of SMs (N > 0) those convolutions whose sums are split over
// SMs add up in another order, so then they are the same within rounding.
#pragma once

#include <string>

namespace wt {

struct Overlap {
    bool fc_update = false, wgrad = false, input = false;
    bool operator==(const Overlap&) const = default;
};

// What --overlap asks for. Layout decides what becomes of it (layout_overlap.cpp).
struct OverlapChoice {
    bool automatic = true;
    Overlap parts = {};  // where not automatic
    int fc_sms = -1;     // SMs of fc-update; 0: no limit; -1: as predicted, none on virtual GPUs

    static OverlapChoice all() { return {.automatic = false, .parts = {true, true, true}}; }
    static OverlapChoice none() { return {.automatic = false}; }
    // Throws UsageError for text that is no such choice.
    static OverlapChoice parse(const std::string& text);
};

// "wgrad,input", or "off".
std::string text_of(const Overlap& parts);

// Bytes a second that one SM reads and writes where the memory has more to give: an estimate, by
// what an SM has under way. The model of a kernel's time (host/model/gpu_constants.cpp) takes it,
// too.
inline constexpr double kMemoryOfSm = 75e9;

}  // namespace wt
