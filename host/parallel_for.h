// A loop over every core.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace wt {

// body(i) for 0 <= i < n, in any order, on `threads` threads (0: one a core). Rethrows one of the
// exceptions.
template <class Body>
void parallel_for(int64_t n, const Body& body, int64_t grain = 1, unsigned threads = 0) {
    if (!threads) threads = std::max(1u, std::thread::hardware_concurrency());
    threads = unsigned(std::min<int64_t>(threads, (n + grain - 1) / grain));
    std::atomic<int64_t> next{0};
    std::mutex mutex;
    std::exception_ptr failure;
    const auto run = [&] {
        try {
            for (int64_t from; (from = next.fetch_add(grain)) < n;)
                for (int64_t i = from; i < std::min(n, from + grain); ++i) body(i);
        } catch (...) {
            std::lock_guard lock(mutex);
            failure = std::current_exception();
            next = n;
        }
    };
    {
        std::vector<std::jthread> pool;
        for (unsigned t = 1; t < threads; ++t) pool.emplace_back(run);
        run();
    }
    if (failure) std::rethrow_exception(failure);
}

}  // namespace wt
