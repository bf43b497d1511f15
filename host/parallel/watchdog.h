// Notices what takes too long and cannot be interrupted, such as a CUDA call on a GPU that hangs.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace wt {

class Watchdog {
public:
    // Once, when what was last announced has taken `seconds`: late(what), on the watchdog's own
    // thread. expect() and the destructor wait until it returns; it may end the process. Time in
    // which this process was stopped does not count.
    Watchdog(double seconds, std::function<void(const std::string& what)> late);
    ~Watchdog();
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;

    // What the thread is about to do; the time begins anew.
    void expect(std::string what);

private:
    void watch();

    const std::chrono::duration<double> limit_;
    const std::function<void(const std::string&)> late_;
    std::mutex mutex_;  // of all below
    std::condition_variable stopped_;
    std::string what_;  // empty: nothing is expected
    std::chrono::duration<double> taken_{0};
    bool stop_ = false;
    std::thread thread_;
};

}  // namespace wt
