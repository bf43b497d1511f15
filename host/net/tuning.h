// Measured choices: which variant was the fastest right one at a problem.
//
// Two sources. The table in tuned_table.cpp is part of the program: choosing by it (`--kernels
// auto` and `own`) depends on nothing but the device and the problem. `--kernels tune` measures
// what is not known yet before training, and keeps it in a file of the user's for the next time
// (host/train/tune.h); without `tune` that file is not read, so that a run's result does not depend
// on what was run before it on this machine. Whatever was chosen is in the run's metrics.jsonl.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "kernels/variant.h"

namespace wt {

struct TunedRow {
    // as device_name, Args::operation, text_of and Variant have them
    const char *device, *operation, *problem, *variant;
};
std::span<const TunedRow> tuned_table();

// What is known of one kind of device.
class Tuning {
public:
    struct Entry {
        std::string variant;
        double ms = 0;  // 0: not known
    };

    // Starts with what the program's own table has for the device.
    explicit Tuning(std::string device);

    // Null when nothing is known.
    const Entry* find(const std::string& operation, const std::string& problem) const;
    void set(const std::string& operation, const std::string& problem, Entry entry);

    // by operation and problem
    const std::map<std::pair<std::string, std::string>, Entry>& entries() const { return entries_; }
    const std::string& device() const { return device_; }

    // While it is set, what is asked for and not known is measured by it: LAYER.OP (for what it
    // prints), the operation, the problem as text_of has it, and which variants may be taken.
    std::function<Entry(const std::string& layer_op, const std::string& operation,
                        const std::string& problem, KernelChoice choice)>
        measure;
    int measured = 0;  // problems, so far

private:
    std::string device_;
    std::map<std::pair<std::string, std::string>, Entry> entries_;
};

}  // namespace wt
