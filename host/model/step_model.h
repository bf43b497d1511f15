// What a training step costs on K workers: per-layer times, the fc schemes of "One weird trick" (arXiv 1404.5997,
// section 4) and plain data parallelism, links with a rate and a latency, run through a discrete-event simulation.
//
// All workers do the same work at the same time, so one of them stands for all, with the outgoing link of its box and
// the one between boxes. In scheme b the turn passes from worker to worker: there the links are those of the worker
// whose turn it is, which sends to all others and receives from all others.
//
// Per-layer times are max(FLOP / rate, bytes / rate) with the rates that a machine reaches, or measured ones
// (bin/compare --json), carried to other extents by the ratio of those floors.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "host/model/simulation.h"
#include "host/net/spec.h"

namespace wt::model {

struct Machine {
    std::string name, about;
    double flops = 0;        // FLOP/s of the matrix products, as reached
    double memory = 0;       // bytes/s, as reached
    double link = 0;         // bytes/s out of a GPU to the others of its box
    double network = 0;      // bytes/s out of a GPU to other boxes
    int box = 8;             // GPUs of a box
    double latency = 6e-6;   // seconds of a transfer, and of waiting for it
    double gap = 2e-6;       // seconds between two kernels
    int bytes = 2;           // of a number in an activation or a weight that products read
};

const std::vector<Machine>& machines();
Machine machine_of(const std::string& name);  // throws UsageError naming the nearest

enum class Scheme { a, b, c, dp };
const char* name_of(Scheme);

// Seconds of "conv2.fprop" and the like on one worker at `batch`; empty: floors.
struct MeasuredTimes {
    int batch = 0;
    std::map<std::string, double> seconds;
    std::string source;
};
// From bin/compare's JSON: the fastest right variant of each pass. Throws Error naming the file.
MeasuredTimes read_times(const std::string& path);

struct Case {
    int workers = 1;
    int batch = 128;        // images per worker
    Scheme scheme = Scheme::a;
    bool per_pass = false;  // b, c: fc weights are updated after every pass
};

struct Outcome {
    double seconds = 0;
    double compute = 0;                          // seconds of it in kernels
    double exposed() const { return seconds - compute; }
    double activations = 0, gradients = 0;       // bytes out of a worker: fc exchanges; weight gradients
    std::vector<Simulation::Task> tasks;
    std::vector<std::string> resources;
};

// Throws UsageError when a layer has fewer units than there are workers.
Outcome simulate(const NetSpec& net, const Machine& machine, const MeasuredTimes& times, const Case& c);

}  // namespace wt::model
