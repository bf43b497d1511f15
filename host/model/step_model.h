// What a training step costs on K workers: per-layer times, the fc schemes of "One weird trick"
// (arXiv 1404.5997, section 4) and plain data parallelism, links with a rate and a latency, run
// through a discrete-event simulation.
//
// All workers do the same work at the same time, so one of them stands for all, with the outgoing
// link of its box and the one between boxes. In scheme b a microbatch has the samples of one
// worker: there the links are those of this worker, which sends to all others and receives from all
// others.
//
// The kernels are those of the plan of one worker's step (host/parallel/step.h). Each takes
// max(FLOP / rate, bytes / rate) with the rates that a machine reaches, or what was measured
// (bin/compare --json), carried to other extents by the ratio of those floors. Measured times are
// of what training runs, with what it fuses fused; floors are of a step in which all is fused that
// can be.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "host/model/simulation.h"
#include "host/net/spec.h"
#include "host/parallel/layout.h"

namespace wt::model {

struct Machine {
    std::string name, about;
    double flops = 0;       // FLOP/s of the matrix products, as reached
    double memory = 0;      // bytes/s, as reached
    double link = 0;        // bytes/s out of a GPU to the others of its box
    double network = 0;     // bytes/s out of a GPU to other boxes
    int box = 8;            // GPUs of a box
    double latency = 6e-6;  // seconds of a transfer, and of waiting for it
    double gap = 2e-6;      // seconds between two kernels
    int bytes = 2;          // of a number in an activation or a weight that products read
    bool sums_on_cores =
        // sums of workers' numbers keep the GPU from computing, as they do on virtual GPUs
        false;
};

const std::vector<Machine>& machines();
Machine machine_of(const std::string& name);  // throws UsageError naming the nearest

// Seconds of "conv2.fprop" and the like on one worker at `batch`; empty: floors.
struct MeasuredTimes {
    int batch = 0;
    std::map<std::string, double> seconds;  // 0: done by another operation
    std::map<std::string, double> apart;    // as if nothing were fused
    std::string source, device, precision, net;
    double flops = 0, memory = 0;  // FLOP/s and bytes/s that the device reached; 0: not measured
};
// Reads bin/compare's JSON: of each operation the variant that training takes, or else the fastest.
// Throws Error naming the file.
MeasuredTimes read_times(const std::string& path);
// Virtual GPUs, from what was measured of them: a kernel at a time, and copies by an engine of
// their own at half the copy rate, which counts reading and writing. Throws Error where that is
// missing.
Machine virtual_machine(const MeasuredTimes& times);

struct Case {
    int workers = 1;
    int batch = 128;  // images per worker
    FcScheme scheme = FcScheme::a;
    bool per_microbatch = false;  // b, c: fc weights are updated after every microbatch
    bool alternate = false;       // a, b, c: fc layers above the first are row-parallel (FcSplit,
                                  // host/parallel/config.h)
};

struct Outcome {
    double seconds = 0;
    double compute = 0;  // seconds of it in kernels
    double exposed() const { return seconds - compute; }
    // bytes out of a worker: fc exchanges; weight gradients
    double activations = 0, gradients = 0;
    std::vector<std::string>
        unmeasured;  // with measured times: the operations that floors stand for
    std::vector<Simulation::Task> tasks;
    std::vector<std::string> resources;
};

// Throws UsageError when a layer has fewer units than there are workers.
Outcome simulate(const NetSpec& net, const Machine& machine, const MeasuredTimes& times,
                 const Case& c);

}  // namespace wt::model
