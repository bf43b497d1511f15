// What the streams of each worker did in one step: spans between events, as a picture, and how much
// of the communication no computation hid.
//
//   Timeline t(worker, "GPU 0");          // one a worker
//   t.lane("compute", stream);            // the first lane is the worker's own work
//   Timeline::align({&t, ...});           // when the streams have nothing left to do
//   { const Timeline::Recording on(&t);   // on the thread that submits the step
//     const Range range("conv2.wgrad", stream);  ... }
//                                         // nvtx.h; SpanKind: or it does not compute
//   const StepPicture p = Timeline::read({&t, ...});   // waits for the events
//   to_chrome_trace(p), exposure(p, worker), and host/draw/step_chart.h
//
// Recording is off unless a thread has turned it on; then a range costs one look at a thread's
// variable. Work that is captured into a graph cannot be recorded: its step has to run without.
//
// All times count from one origin. Devices have no common clock, so before the step every worker's
// first stream waits for all the others', and then records its origin: these are as near as a wait
// for an event is long (a few microseconds on GPUs). On virtual GPUs they are equal, and all times
// are virtual (host/vgpu/runtime/clock.h): what devices side by side would take. A worker's other
// streams begin behind its origin.
#pragma once

#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "host/cuda/stream.h"

namespace wt {

// compute: kernels of this worker's layers. exchange: what moves or sums numbers of several
// workers. wait: the stream is held until somebody else's work is done. copy: between host and
// device.
enum class SpanKind { compute, exchange, wait, copy };
const char* name_of(SpanKind);

struct Lane {
    int worker;
    std::string name;  // of the stream; the first of a worker's lanes is where it computes
};

struct Span {
    int lane;  // index
    std::string name;
    SpanKind kind;
    double start, end;  // ms from the step's origin
};

struct StepPicture {
    std::vector<std::string> workers;  // what each is, for titles
    std::vector<Lane> lanes;
    std::vector<Span> spans;
    double ms = 0;  // until the last worker was done
    bool virtual_time = false;
};

// A worker communicates while an exchange is under way on any of its streams, and where its first
// stream waits for others. Communication is hidden while one of the worker's streams computes.
struct Exposure {
    double communication = 0, exposed = 0;  // ms
    double hidden_share() const { return communication > 0 ? 1 - exposed / communication : 1; }
};
Exposure exposure(const StepPicture&, int worker);
Exposure most_exposed(const StepPicture&);  // the worker that lost most time
// The times of communication that nothing hides, as (start, end).
std::vector<std::pair<double, double>> exposed_parts(const StepPicture&, int worker);

// "12.3 ms, communication 4.5 ms, of which 0.8 ms not hidden (virtual time)".
std::string summary(const StepPicture&);
std::string ms_text(double ms);  // three digits: "12.3 ms", "0.081 ms"
// For chrome://tracing and Perfetto: a process a worker, a thread a stream.
std::string to_chrome_trace(const StepPicture&, const std::string& title);

// The spans of one worker's step, while they are events.
class Timeline {
public:
    Timeline(int worker, std::string what) : worker_(worker), what_(std::move(what)) {}
    Timeline(const Timeline&) = delete;
    Timeline& operator=(const Timeline&) = delete;

    // In the order of the picture. Streams that are none of these are not recorded.
    void lane(const std::string& name, const Stream& stream);

    // Begins a step for all: forgets the spans before, and sets the origins. Nothing of the step
    // may be queued yet.
    static void align(const std::vector<Timeline*>& all);
    // Waits until the step is done.
    static StepPicture read(const std::vector<Timeline*>& all);

    // While it lives, ranges of this thread are recorded, on `timeline` (null: nowhere). Its end is
    // the end of the step.
    class Recording {
    public:
        explicit Recording(Timeline* timeline) : timeline_(timeline), before_(current_) {
            current_ = timeline;
        }
        ~Recording();
        Recording(const Recording&) = delete;
        Recording& operator=(const Recording&) = delete;

    private:
        Timeline *timeline_, *before_;
    };
    static Timeline* current() { return current_; }

    // What comes next on the stream, until end(). Negative: not recorded.
    int begin(const char* name, SpanKind kind, cudaStream_t stream);
    void end(int span) noexcept;

private:
    struct Recorded {
        int lane;
        std::string name;
        SpanKind kind;
        Event start, stop;  // kept for later steps: `used_` counts
    };
    struct Source {
        std::string name;
        cudaStream_t stream;
        int device;
    };
    int worker_;
    std::string what_;
    std::vector<Source> lanes_;
    std::deque<Recorded> spans_;
    size_t used_ = 0;
    Event ready_, origin_, finish_;
    cudaError_t failed_ = cudaSuccess;  // where nothing may be thrown; read() does

    static inline thread_local Timeline* current_ = nullptr;
};

}  // namespace wt
