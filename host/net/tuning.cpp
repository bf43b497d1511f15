#include "host/net/tuning.h"

namespace wt {

Tuning::Tuning(std::string device) : device_(std::move(device)) {
    for (const TunedRow& r : tuned_table())
        if (device_ == r.device) set(r.operation, r.problem, {r.variant, 0});
}

const Tuning::Entry* Tuning::find(const std::string& operation, const std::string& problem) const {
    const auto at = entries_.find({operation, problem});
    return at == entries_.end() ? nullptr : &at->second;
}

void Tuning::set(const std::string& operation, const std::string& problem, Entry entry) {
    entries_[{operation, problem}] = std::move(entry);
}

}  // namespace wt
