// bin/scaling: how long a training step takes on K GPUs, by a model: which fc scheme, how
// efficient, how many bytes.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "host/cuda/check.h"
#include "host/draw/chart.h"
#include "host/json.h"
#include "host/model/step_model.h"
#include "host/train/atomic_file.h"
#include "tools/common_cli.h"

namespace {

using namespace wt;
using namespace wt::model;

struct Flags {
    std::string net, machine, times, svg, json, workers, scheme;  // empty: not given
    int batch = 0;
    double measured = 0;
    double link = 0, network = 0, latency = -1;  // GB/s, us; else the machine's
    int box = 0;
    bool paper = false;
};

struct Way {
    FcScheme scheme;
    bool per_microbatch;
    const char* name;
    bool alternate = false;
};
constexpr Way kWays[] = {{FcScheme::a, false, "a"},
                         {FcScheme::b, false, "b"},
                         {FcScheme::b, true, "b per-pass"},
                         {FcScheme::c, false, "c"},
                         {FcScheme::c, true, "c per-pass"},
                         {FcScheme::dp, false, "dp"},
                         {FcScheme::a, false, "a alternate", true}};

struct Point {
    int workers = 1;
    Outcome by_way[std::size(kWays)] = {};
    bool fits[std::size(kWays)] = {};
    int best = -1;
};

std::vector<int> parse_workers(const std::string& text) {
    std::vector<int> list;
    for (size_t at = 0; at <= text.size();) {
        const size_t end = std::min(text.find(',', at), text.size());
        const std::string part = text.substr(at, end - at);
        at = end + 1;
        if (part.empty() || part.size() > 5 ||
            part.find_first_not_of("0123456789") != std::string::npos || std::stoi(part) < 1 ||
            std::stoi(part) > 4096)
            throw UsageError("--workers " + text +
                             ": must be numbers from 1 to 4096 with commas between");
        list.push_back(std::stoi(part));
    }
    return list;
}

Point at(const NetSpec& net, const Machine& m, const MeasuredTimes& times, int workers, int batch) {
    Point p;
    p.workers = workers;
    for (size_t i = 0; i < std::size(kWays); ++i) {
        bool fits = true;
        if (kWays[i].scheme != FcScheme::dp)
            for (const Layer& l : net.layers)
                fits = fits && (l.kind != LayerKind::fc || l.out >= workers);
        // A microbatch of scheme c has batch / K images of each worker.
        if (kWays[i].scheme == FcScheme::c) fits = fits && batch >= workers;
        if (!fits) continue;
        p.fits[i] = true;
        p.by_way[i] = simulate(net, m, times,
                               {.workers = workers,
                                .batch = batch,
                                .scheme = kWays[i].scheme,
                                .per_microbatch = kWays[i].per_microbatch,
                                .alternate = kWays[i].alternate});
        if (p.best < 0 || p.by_way[i].seconds < p.by_way[p.best].seconds)
            p.best = static_cast<int>(i);
    }
    return p;
}

// Efficiency over the number of workers, a line for each scheme: one SVG that stands alone.
std::string plot(const std::string& title, const std::vector<Point>& points, double one) {
    draw::Chart c{.title = title,
                  .x_name = "workers",
                  .series = {},
                  .marks = {},
                  .width = 760,
                  .height = 420,
                  .log2_x = true,
                  .top = 1.2,
                  .shares = true,
                  .key = draw::Key::right};
    for (size_t i = 0; i < std::size(kWays); ++i) {
        draw::Series line{.name = kWays[i].name,
                          .points = {},
                          .colour = static_cast<int>(i),
                          .dots = true,
                          .dashed = kWays[i].per_microbatch};
        for (const Point& p : points)
            if (p.fits[i]) line.points.push_back({p.workers, one / p.by_way[i].seconds});
        c.series.push_back(line);
    }
    return draw::line_chart_file(c);
}

// Table 1 of arXiv 1404.5997: the network of the paper on 1 to 8 K20s, 128 images a worker.
int compare_with_paper() {
    struct Line {
        int workers;
        const char* fc_batch;
        bool per_microbatch;
        double hours;
    };
    const Line table[] = {{1, "128", false, 98.05}, {2, "256", false, 50.24},
                          {2, "128", true, 50.90},  {4, "512", false, 26.20},
                          {4, "128", true, 26.78},  {8, "1024", false, 15.68},
                          {8, "128", true, 15.91}};
    const NetSpec net = make_net("owt", {});
    const Machine m = machine_of("k20");
    const double images = 1281167.0 * 90;
    const double one =
        simulate(net, m, {}, {.workers = 1, .batch = 128, .scheme = FcScheme::b}).seconds;
    std::printf(
        "Table 1 of arXiv 1404.5997 (%s; scheme b; the K20's matrix rate is fitted to the first line)\n",
        m.about.c_str());
    std::printf("%5s %8s %9s %9s %9s %9s %7s\n", "GPUs", "fc batch", "hours", "model", "speedup",
                "model", "off");
    for (const Line& l : table) {
        const double t = simulate(net, m, {},
                                  {.workers = l.workers,
                                   .batch = 128,
                                   .scheme = FcScheme::b,
                                   .per_microbatch = l.per_microbatch})
                             .seconds;
        const double hours = images / (128.0 * l.workers) * t / 3600, speedup = one * l.workers / t,
                     wanted = 98.05 / l.hours;
        std::printf("%5d %8s %9.2f %9.2f %8.2fx %8.2fx %+6.1f%%\n", l.workers, l.fc_batch, l.hours,
                    hours, wanted, speedup, 100 * (speedup / wanted - 1));
    }
    return 0;
}

// Prints to standard error, so that a script's lines stay what they are.
void warn_of_floors(const Outcome& o, const std::string& source) {
    if (o.unmeasured.empty()) return;
    std::string names;
    for (const std::string& n : o.unmeasured) names += (names.empty() ? "" : ", ") + n;
    std::fprintf(stderr, "warning: %s has no times of %s: their floors stand in\n", source.c_str(),
                 names.c_str());
}

// The step that was measured against the model's: one line, and how far off.
int compare_with_measured(const NetSpec& net, const Machine& m, const MeasuredTimes& times,
                          const Flags& f, int workers) {
    for (const Way& way : kWays) {
        if (f.scheme != way.name) continue;
        const Outcome o = simulate(net, m, times,
                                   {.workers = workers,
                                    .batch = f.batch,
                                    .scheme = way.scheme,
                                    .per_microbatch = way.per_microbatch,
                                    .alternate = way.alternate});
        warn_of_floors(o, times.source);
        std::printf(
            "%s, %d images a worker, %d workers, scheme %s: predicted %.3f ms (%.3f not hidden), measured %.3f ms, off by %+.1f%%\n",
            f.net.c_str(), f.batch, workers, way.name, o.seconds * 1e3,
            workers > 1 ? o.exposed() * 1e3 : 0, f.measured * 1e3,
            100 * (o.seconds / f.measured - 1));
    }
    return 0;
}

// The flags of a command line, those that exclude others sorted out and the rest given their
// defaults.
Flags parse(int argc, char** argv) {
    CommandLine app(
        "Predicts a training step's time on K GPUs from per-layer times, links and the fc scheme (a discrete-event model).");
    Flags f;
    app.add_option("--net", f.net, "whose layers")->check(one_of("net", net_names()));
    std::vector<std::string> names;
    for (const Machine& m : machines()) names.push_back(m.name);
    names.push_back("virtual");
    app.add_option(
           "--machine", f.machine,
           "h200 (rates it reaches, NVLink boxes, InfiniBand between), k20 (the paper's), virtual (as --times measured)")
        ->check(one_of("machine", names));
    app.add_option("--batch", f.batch, "images per worker")->check(between(1, 1 << 20));
    app.add_option("--workers", f.workers, "numbers of workers, with commas between")
        ->check(not_empty());
    app.add_option("--times", f.times,
                   "per-layer times: a file from bin/compare --json; default: floors")
        ->check(not_empty());
    app.add_option("--link", f.link, "GB/s out of a GPU within a box")->check(between(0.001, 1e6));
    app.add_option("--network", f.network, "GB/s out of a GPU to other boxes")
        ->check(between(0.001, 1e6));
    app.add_option("--latency", f.latency, "microseconds of a transfer")->check(between(0, 1e6));
    app.add_option("--box", f.box, "GPUs of a box")->check(between(1, 4096));
    app.add_option("--svg", f.svg, "writes a plot of the efficiency")->check(not_empty());
    app.add_option("--json", f.json, "writes every figure")->check(not_empty());
    app.add_option(
           "--measured", f.measured,
           "seconds of a step that was measured: how far off the model is; with one number of --workers, and --scheme")
        ->check(between(1e-9, 1e6));
    std::vector<std::string> ways;
    for (const Way& w : kWays) ways.push_back(w.name);
    app.add_option("--scheme", f.scheme,
                   "with --measured: a, b, 'b per-pass', c, 'c per-pass', dp, 'a alternate'")
        ->check(one_of("scheme", ways));
    app.add_flag("--paper", f.paper, "Table 1 of the paper beside the model");
    app.parse(argc, argv);
    const std::pair<const char*, bool> given[] = {
        {"--net", !f.net.empty()},      {"--machine", !f.machine.empty()},
        {"--batch", f.batch > 0},       {"--workers", !f.workers.empty()},
        {"--times", !f.times.empty()},  {"--link", f.link > 0},
        {"--network", f.network > 0},   {"--latency", f.latency >= 0},
        {"--box", f.box > 0},           {"--svg", !f.svg.empty()},
        {"--json", !f.json.empty()},    {"--measured", f.measured > 0},
        {"--scheme", !f.scheme.empty()}};
    for (const auto& [flag, there] : given)
        if (f.paper && there)
            throw UsageError(
                std::string("--paper is of the paper's own network, GPUs and schemes: leave ") +
                flag + " out");
    if (!f.scheme.empty() && f.measured == 0)
        throw UsageError(
            "--scheme says which step was measured: it needs --measured; without either all "
            "schemes are shown");
    if (f.measured > 0 && (!f.svg.empty() || !f.json.empty()))
        throw UsageError("--measured prints one line: leave --svg and --json out");
    for (const auto& [flag, path] : {std::pair{"--svg", f.svg}, {"--json", f.json}}) {
        if (path == "-")
            throw UsageError(std::string(flag) +
                             " -: must be a file; standard output is /dev/stdout");
        if (!path.empty()) check_output(path);
    }
    if (f.net.empty()) f.net = "alexnet";
    if (f.machine.empty()) f.machine = "h200";
    if (f.batch == 0) f.batch = 128;
    if (f.workers.empty()) f.workers = "1,2,4,8,16,32,64,128,256,512,1024";
    return f;
}

int run(int argc, char** argv) {
    const Flags f = parse(argc, argv);
    if (f.paper) return compare_with_paper();

    const std::vector<int> workers = parse_workers(f.workers);
    const NetSpec net = make_net(f.net, {});
    const MeasuredTimes times = f.times.empty() ? MeasuredTimes{} : read_times(f.times);
    if (f.machine == "virtual" && f.times.empty())
        throw UsageError(
            "--machine virtual is what --times measured: give a file that bin/compare --json wrote");
    if (!times.net.empty() && times.net != f.net)
        throw UsageError("--times " + f.times + " is of net " + times.net + ", not of " + f.net);
    Machine m = f.machine == "virtual" ? virtual_machine(times) : machine_of(f.machine);
    if (f.link > 0) m.link = f.link * 1e9;
    if (f.network > 0) m.network = f.network * 1e9;
    if (f.latency >= 0) m.latency = f.latency * 1e-6;
    if (f.box > 0) m.box = f.box;
    if (f.measured > 0) {
        if (workers.size() != 1 || f.scheme.empty())
            throw UsageError(
                "--measured is of one step: give one number of --workers, and a --scheme");
        return compare_with_measured(net, m, times, f, workers[0]);
    }

    const Outcome alone =
        simulate(net, m, times, {.workers = 1, .batch = f.batch, .scheme = FcScheme::a});
    const double one = alone.seconds;
    warn_of_floors(alone, times.source);
    std::printf(
        "%s, %d images a worker, %s\nlink %.0f GB/s, network %.0f GB/s, latency %.1f us; per-layer times: %s\none worker: %.3f ms, %.0f images/s\n\n",
        f.net.c_str(), f.batch, m.about.c_str(), m.link / 1e9, m.network / 1e9, m.latency * 1e6,
        times.source.empty() ? "floors" : times.source.c_str(), one * 1e3, f.batch / one);
    std::printf("%7s %11s %8s %10s %12s %10s %10s %10s\n", "workers", "scheme", "ms", "efficiency",
                "images/s", "exposed ms", "fc MB", "gradient MB");
    Json rows = Json::array();
    std::vector<Point> points;
    for (const int k : workers) {
        points.push_back(at(net, m, times, k, f.batch));
        const Point& p = points.back();
        for (size_t i = 0; i < std::size(kWays); ++i) {
            if (!p.fits[i] || (k == 1 && i)) continue;
            const Outcome& o = p.by_way[i];
            const bool best = static_cast<int>(i) == p.best;
            std::printf("%7d %11s %8.3f %9.2f%s %12.0f %10.3f %10.1f %10.1f\n", k, kWays[i].name,
                        o.seconds * 1e3, one / o.seconds, best ? "*" : " ",
                        double(k) * f.batch / o.seconds, o.exposed() * 1e3, o.activations / 1e6,
                        o.gradients / 1e6);
            rows.push_back({{"workers", k},
                            {"scheme", kWays[i].name},
                            {"seconds", o.seconds},
                            {"efficiency", one / o.seconds},
                            {"exposed_seconds", o.exposed()},
                            {"fc_bytes", o.activations},
                            {"gradient_bytes", o.gradients},
                            {"best", best}});
        }
    }
    std::printf("\n* the fastest at that number of workers; MB leave each worker in a step\n");
    if (!f.svg.empty())
        atomic_write_file(f.svg, plot(f.net + ", " + std::to_string(f.batch) +
                                          " images a worker, " + m.name + ": efficiency (model)",
                                      points, one));
    if (!f.json.empty())
        atomic_write_file(f.json, json_text({{"net", f.net},
                                             {"batch", f.batch},
                                             {"machine", m.name},
                                             {"one_worker_seconds", one},
                                             {"rows", rows}},
                                            1) +
                                      "\n");
    return 0;
}

}  // namespace

int main(int argc, char** argv) { return run_program(argc, argv, "scaling", run); }
