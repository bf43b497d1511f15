// How the devices of one process reach each other: looked at, tried and timed before workers rely
// on it. Peer access that is reported but does not deliver is known to exist (virtual machines,
// IOMMUs): it is found here, not in the weights. Some of it never returns, and a CUDA call that
// hangs cannot be taken back: then the process ends with a line that says what helps.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace wt {

struct Link {
    enum class State {
        peer,
        none,
        broken,    // peer access that is reported but delivers something else
        not_asked  // LinkProbe::peer was false
    };
    int from = 0, to = 0;  // data flows from one to the other
    State state = State::none;
    std::string fault;  // of a broken one: what went wrong
    // a copy's; where there is no peer access that works, through page-locked host memory
    double gb_per_s = 0;
    std::string text() const;  // "link 0 -> 1: peer access, 370 GB/s"
};

struct Links {
    bool direct = true;          // every device reaches all others' memory
    std::vector<Link> links;     // of every ordered pair of distinct devices
    std::string text() const;    // the devices and the links, one a line; empty for one device
    std::string notice() const;  // what it means that not all is direct, in one line; else empty
};

struct LinkProbe {
    bool peer = true;     // false: no peer access is asked for, nor looked at
    double limit_s = 12;  // seconds that the trial of one link may take before it counts as hung
    // A link hangs: called with a line for the user, on a thread of its own, while the trial's
    // thread is held. When it returns, the line is printed with the program's name before it, and
    // the process ends with status 1, without destructors.
    std::function<void(const std::string& line)> hung;
    size_t bytes = 0;  // of a copy that is timed; 0: 32 MiB, on virtual GPUs 1 MiB
    // For tests: called with what has arrived, before it is looked at. `way`: "kernel's read" (the
    // pattern where it lies), "copy", "kernel's write".
    std::function<void(const Link& link, const std::string& way, void* data, size_t bytes)> tamper;
};

// Probes every pair of distinct ones among `devices`, and enables the peer access that works.
Links probe_links(const std::vector<int>& devices, const LinkProbe& probe = {});

}  // namespace wt
