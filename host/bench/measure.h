// How long work on a device takes: alone, with cold caches, and without the host in the picture.
//
//   Stopwatch watch(device);
//   const Timing t = watch.measure([&](cudaStream_t s) {
//       args.stream = s;
//       variant.launch(problem, args);
//   });
//
// A sample is: caches flushed by reading something else, an event, the work, an event. Samples are
// queued behind a gate that is opened when all are there, so no launch is late. Sampling goes on
// until the median is known well enough. On virtual GPUs the times are a CPU's, and there is no
// gate: nothing runs before the host waits anyway.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "host/bench/clocks.h"
#include "host/cuda/buffer.h"
#include "host/cuda/stream.h"

namespace wt::bench {

struct Timing {
    double median_ms = 0;
    double spread = 0;  // distance between the quartiles, over the median
    double fastest_ms = 0;
    int samples = 0;
    int sm_mhz = 0;      // median while it ran; 0: not known
    bool steady = true;  // the median was known well enough when sampling stopped
};

struct Patience {
    double seconds = 0.3;  // of sampling, waits and flushes included; the least number of samples
                           // is taken anyway
    double noise = 0.005;  // enough: standard error of the median, over the median
    int least = 10, most = 1000;
};
// What a device deserves: a CPU's times take longer and differ more.
Patience default_patience();

class Stopwatch {
public:
    explicit Stopwatch(int device);
    ~Stopwatch();

    // `work` puts the same work on the stream each time it is called; it is called once before, to
    // warm up.
    Timing measure(const std::function<void(cudaStream_t)>& work,
                   const Patience& = default_patience());
    const Stream& stream() const { return stream_; }
    const Clocks& clocks() const { return clocks_; }

private:
    class Gate;
    int device_;
    Stream stream_;
    Clocks clocks_;
    DeviceBuffer<std::byte> zeros_;  // more than the last cache holds
    std::vector<Event> starts_, stops_;
    std::unique_ptr<Gate> gate_;
};

// `sorted` is in ascending order.
double quantile(const std::vector<double>& sorted, double q);

}  // namespace wt::bench
