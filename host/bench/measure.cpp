#include "host/bench/measure.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <mutex>

#include "kernels/probe/probe.h"
#include "kernels/variant.h"

namespace wt::bench {

namespace {
using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point t) {
    return std::chrono::duration<double>(Clock::now() - t).count();
}

// Samples queued at once: a few commands each, far below the thousand that a stream holds before
// launches wait.
constexpr int kQueued = 16;
}  // namespace

// Holds a stream back until it is opened, or for two seconds: a launch that waits for the device
// (an allocation in a library, a full queue) must not wait for ever.
class Stopwatch::Gate {
public:
    // Closed as long as this lives.
    struct Closed {
        Closed(Gate& gate, cudaStream_t stream) : gate(gate) { gate.close(stream); }
        ~Closed() { gate.open(); }
        Gate& gate;
    };
    void close(cudaStream_t stream) {
        {
            std::lock_guard lock(mutex_);
            open_ = false;
        }
        WT_CUDA(cudaLaunchHostFunc(
            stream, [](void* self) { static_cast<Gate*>(self)->wait(); }, this));
    }
    void open() {
        {
            std::lock_guard lock(mutex_);
            open_ = true;
        }
        changed_.notify_all();
    }

private:
    void wait() {
        std::unique_lock lock(mutex_);
        changed_.wait_for(lock, std::chrono::seconds(2), [&] { return open_; });
    }
    std::mutex mutex_;
    std::condition_variable changed_;
    bool open_ = true;
};

Patience default_patience() {
#ifdef VGPU
    return {.seconds = 0.3, .noise = 0.02, .least = 3, .most = 500};
#else
    return {};
#endif
}

Stopwatch::Stopwatch(int device)
    : device_(device), stream_(device), clocks_(device), gate_(std::make_unique<Gate>()) {
    const DeviceGuard guard(device);
    int cache = 0;
    WT_CUDA(cudaDeviceGetAttribute(&cache, cudaDevAttrL2CacheSize, device));
    // Twice the cache: which lines go first is not known. A CPU's caches are smaller, and flushing
    // them is slow.
    zeros_ = DeviceBuffer<std::byte>(
        device, (kAutomaticUsesBaselines ? 1 : 2) * static_cast<size_t>(std::max(cache, 32 << 20)),
        "cache flush");
    WT_CUDA(cudaMemsetAsync(zeros_.data(), 0, zeros_.bytes(), stream_.get()));
    for (int i = 0; i < kQueued; ++i)
        starts_.emplace_back(device, true), stops_.emplace_back(device, true);
    stream_.synchronize();
}

Stopwatch::~Stopwatch() {
    gate_->open();
    cudaStreamSynchronize(stream_.get());  // it may still be at the gate
}

double quantile(const std::vector<double>& sorted, double q) {
    if (sorted.empty()) return 0;
    const double at = q * static_cast<double>(sorted.size() - 1);
    const size_t low = static_cast<size_t>(at), high = std::min(low + 1, sorted.size() - 1);
    return sorted[low] + (at - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

Timing Stopwatch::measure(const std::function<void(cudaStream_t)>& work, const Patience& patience) {
    const DeviceGuard guard(device_);
    const cudaStream_t s = stream_.get();
    const auto sample = [&](int i) {
        probe::flush(zeros_.data(), zeros_.bytes(), s);
        starts_[i].record(s);
        work(s);
        stops_[i].record(s);
    };
    sample(0);
    stops_[0].synchronize();
    [[maybe_unused]] const double first_ms = stops_[0].since(starts_[0]);

    std::vector<double> ms, mhz;
    Timing t;
    const auto start = Clock::now();
    for (;;) {
#ifdef VGPU
        const int n = 1;
        sample(0);
        stops_[0].synchronize();
#else
        // So many that the queue takes about 20 ms, so that slow work does not run far over its
        // time.
        const int n = std::clamp(
            static_cast<int>(20 / std::max(ms.empty() ? first_ms : ms.back(), 1e-3)), 1, kQueued);
        {
            const Gate::Closed closed(*gate_, s);
            for (int i = 0; i < n; ++i) sample(i);
        }
        stops_[0].synchronize();
        // the others are running, or the last one just ended
        if (const auto now = clocks_.now()) mhz.push_back(now->sm);
        stops_[n - 1].synchronize();
#endif
        for (int i = 0; i < n; ++i) ms.push_back(stops_[i].since(starts_[i]));
        std::vector<double> sorted = ms;
        std::sort(sorted.begin(), sorted.end());
        t.median_ms = quantile(sorted, 0.5);
        t.fastest_ms = sorted.front();
        t.samples = static_cast<int>(ms.size());
        t.spread = (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / std::max(t.median_ms, 1e-9);
        // The times are taken to be normally distributed: then the quartiles are 1.35 standard
        // deviations apart, and the median's error is 1.25 of the mean's.
        t.steady =
            t.spread / 1.35 * 1.25 / std::sqrt(static_cast<double>(t.samples)) <= patience.noise;
        if (t.samples >= patience.most ||
            (t.samples >= patience.least && (t.steady || seconds_since(start) >= patience.seconds)))
            break;
        // Far over its time: what is slower than that is known well enough from three.
        if (t.samples >= 3 && seconds_since(start) >= 3 * patience.seconds) break;
    }
    std::sort(mhz.begin(), mhz.end());
    t.sm_mhz = static_cast<int>(quantile(mhz, 0.5));
    return t;
}

}  // namespace wt::bench
