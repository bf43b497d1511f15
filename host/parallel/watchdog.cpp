#include "host/parallel/watchdog.h"

#include <algorithm>

namespace wt {

using namespace std::chrono_literals;

Watchdog::Watchdog(double seconds, std::function<void(const std::string&)> late)
    : limit_(seconds), late_(std::move(late)), thread_([this] { watch(); }) {}

Watchdog::~Watchdog() {
    {
        std::lock_guard lock(mutex_);
        stop_ = true;
        stopped_.notify_all();
    }
    thread_.join();
}

void Watchdog::expect(std::string what) {
    std::lock_guard lock(mutex_);
    what_ = std::move(what);
    taken_ = 0s;
}

void Watchdog::watch() {
    using Clock = std::chrono::steady_clock;
    std::unique_lock lock(mutex_);
    auto last = Clock::now();
    while (!stopped_.wait_for(lock, 50ms, [this] { return stop_; })) {
        const auto now = Clock::now();
        taken_ += std::min<std::chrono::duration<double>>(now - last, 500ms);
        last = now;
        if (what_.empty() || taken_ < limit_) continue;
        late_(what_);
        return;
    }
}

}  // namespace wt
