// What a vendor's library wants prepared once for each problem: descriptors, the choice of
// algorithm, sizes of scratch.
#pragma once

#include <map>
#include <memory>
#include <mutex>

namespace wt {

// Plans by key, each made once, by whoever asks first. Any thread.
template <class Key, class Plan>
class Plans {
public:
    // `make()` returns a Plan; what it throws comes through, and the next call tries again.
    template <class Make>
    std::shared_ptr<const Plan> get(const Key& key, Make&& make) {
        std::lock_guard lock(mutex_);
        auto& slot = plans_[key];
        if (!slot) slot = std::make_shared<const Plan>(make());
        return slot;
    }

private:
    std::mutex mutex_;
    std::map<Key, std::shared_ptr<const Plan>> plans_;
};

}  // namespace wt
