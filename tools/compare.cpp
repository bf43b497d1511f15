// bin/compare: runs every variant of an operation at the layer shapes of a network, checks each
// against fp64, and times those that are right. Adding a variant to its operation's table is enough
// to have it here. How: host/bench/. With --predict nothing runs: it prints what the times should
// be.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#ifdef VGPU
#include "host/vgpu/exec/grid.h"
#else
#include <cuda_profiler_api.h>
#endif

#include "host/bench/counters.h"
#include "host/bench/predicted.h"
#include "host/bench/report.h"
#include "host/cuda/architecture.h"
#include "host/cuda/nearest.h"
#include "host/cuda/nvtx.h"
#include "host/json.h"
#include "host/model/gpu_constants.h"
#include "host/net/spec.h"
#include "host/train/atomic_file.h"
#include "kernels/build_kind.h"
#include "kernels/common/machine.h"
#include "kernels/common/sm_limit.h"
#include "tools/common_cli.h"

namespace {

using namespace wt;
using namespace wt::bench;

struct Flags {
    std::string op, net = "alexnet", layer, problem, precision = "fp32", variants, sort = "table",
                    json, html, predict, counted, measured = "profiling/results";
    int batch = 0, device = 0, sms = 0;
    double seconds = default_patience().seconds;
    bool check_only = false, profile = false, list = false, counters = false;
};

// "a,b" into its names. Throws UsageError where one of them is empty.
std::vector<std::string> split(const std::string& text) {
    std::vector<std::string> parts;
    for (size_t at = 0; at <= text.size();) {
        const size_t end = std::min(text.find(',', at), text.size());
        parts.push_back(text.substr(at, end - at));
        if (parts.back().empty())
            throw UsageError("--variants " + text +
                             ": a name is missing: must be names with commas between");
        at = end + 1;
    }
    return parts;
}

// The path of a report: it is written at the end, so it is tried at the start.
void try_output(const char* flag, const std::string& path) {
    if (path == "-")
        throw UsageError(std::string(flag) + " -: must be a file; standard output is /dev/stdout");
    if (!path.empty()) check_output(path);
}

// What is of a run has no place beside --predict, and the other way round.
void check_predict(const Flags& f, const std::vector<std::string>& given) {
    static const std::vector<std::string> of_runs = {"device",     "seconds", "sort",   "html",
                                                     "check-only", "list",    "profile"};
    for (const std::string& flag : given) {
        if (flag == "measured" && f.predict.empty())
            throw UsageError("--measured is of a prediction: give --predict too");
        if (!f.predict.empty() && std::find(of_runs.begin(), of_runs.end(), flag) != of_runs.end())
            throw UsageError("--" + flag +
                             " is of a run, and --predict runs nothing: leave it away");
        if (flag == "counted" && f.predict.empty())
            throw UsageError("--counted is of a prediction: give --predict too");
        if (flag == "measured" && !std::filesystem::is_directory(f.measured))
            throw Error(f.measured + " is no folder: give one that has make gpu-report's folders");
    }
}

// Counting is a run of another kind, and only some programs can.
void check_counters(const Flags& f, const std::vector<std::string>& given) {
    static const std::vector<std::string> others = {"seconds", "sort",    "check-only",
                                                    "list",    "profile", "predict"};
    if (!f.counters) return;
    for (const std::string& flag : given)
        if (std::find(others.begin(), others.end(), flag) != others.end())
            throw UsageError("--" + flag +
                             " is of another kind of run than --counters: leave one of them away");
    if (const std::string why = why_no_counters(); !why.empty()) throw UsageError(why);
}

Flags parse(int argc, char** argv) {
    Flags f;
    CommandLine app(
        "Checks every variant of every operation, or of OP, against fp64 at a network's layer shapes, and times the right ones.");
    app.add_option("OP", f.op, "one operation: conv_fprop, gemm, lrn_forward, ...")
        ->check(one_of("operation", operation_names()));
    app.add_option("--net", f.net, "whose shapes")->check(one_of("net", net_names()));
    app.add_option("--layer", f.layer, "one layer or one pass of it: conv2, conv2.wgrad")
        ->check(not_empty());
    app.add_option("--problem", f.problem,
                   "of OP instead of a network's: n=4,h=27,c=96,k=256,r=5 (--problem help lists "
                   "the fields)")
        ->check(not_empty());
    app.add_option("--batch", f.batch, "images; default 128 on a GPU, 8 on virtual ones")
        ->check(between(1, 1 << 16));
    app.add_option("--precision", f.precision, "fp32, tf32, bf16")
        ->check(one_of("precision", precision_names()));
    app.add_option("--variants", f.variants,
                   "only these, with commas between; auto: only what training would run; all: also "
                   "the rows with a fixed tile")
        ->check(not_empty());
    app.add_option("--device,--gpu", f.device, "which GPU")->check(between(0, 63));
    app.add_option(
           "--sms", f.sms,
           "kernels that are planned for the GPU's SMs (those of Hopper, split sums) plan for "
           "so many at most, as beside others in training (--overlap)")
        ->check(between(1, 1000))
        ->by_default("all");
    app.add_option("--seconds", f.seconds, "of timing each variant")->check(between(0, 600));
    app.add_option("--sort", f.sort, "rows by: table, time, error, name")
        ->check(one_of("order", {"table", "time", "error", "name"}));
    app.add_option("--json", f.json, "writes everything to this file, anew after each problem")
        ->check(not_empty());
    app.add_option("--html", f.html, "writes a page with bars to this file")->check(not_empty());
    app.add_flag("--check-only", f.check_only, "checks, does not time");
    app.add_flag("--list", f.list, "prints the problems' names and their variants, runs nothing");
    app.add_flag(
        "--profile", f.profile,
        "runs one variant of each problem, marked for a profiler, and nothing else (profiling/ncu.sh)");
    app.add_flag("--counters", f.counters,
                 "counts what each variant does instead of timing it: instructions, sectors, "
                 "wavefronts, TMA, with the worst lines (programs of make PTX=1; --batch 1 unless "
                 "given)");
    app.add_option("--predict", f.predict,
                   "runs nothing: prints how long the own variants should take on this GPU, and by "
                   "what they are bound")
        ->check(one_of("GPU", model::gpu_names()));
    app.add_option(
           "--measured", f.measured,
           "with --predict: a folder of folders that make gpu-report wrote, to print beside")
        ->check(not_empty());
    app.add_option("--counted", f.counted,
                   "with --predict: a file that --counters --json wrote, whose L2 and shared "
                   "memory take the place of estimates")
        ->check(not_empty());
    app.parse(argc, argv);
    check_predict(f, app.given());
    check_counters(f, app.given());
    if (f.batch == 0 && f.counters) f.batch = 1;
    if (f.batch == 0) f.batch = kAutomaticUsesBaselines && f.predict.empty() ? 8 : 128;
    if (f.predict.empty() && f.device >= device_count())
        throw UsageError("--device " + std::to_string(f.device) + ": there are " +
                         std::to_string(device_count()));
    if (!f.problem.empty() && f.op.empty())
        throw UsageError("--problem needs OP, the operation: must be one of " + [] {
            std::string all;
            for (const auto& n : operation_names()) all += (all.empty() ? "" : ", ") + n;
            return all;
        }());
    if (!f.problem.empty() && !f.layer.empty())
        throw UsageError("--layer is of a network, --problem instead of one: give one of them");
    if (f.problem == "help") {
        std::printf("%s", problem_help(f.op).c_str());
        throw Exit{0};
    }
    return f;
}

// What variants are chosen for where nothing is timed: the GPU that is predicted, or the one that a
// virtual GPU stands for.
Architecture asked_for(const Flags& f) {
    if (!f.predict.empty()) return kPredictedArchitecture;
    int major = 0, minor = 0;
    WT_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, f.device));
    WT_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, f.device));
    return Architecture{10 * major + minor};
}

std::vector<BenchCase> cases_of(const Flags& f) {
    const Precision precision = precision_of(f.precision);
    if (!f.predict.empty() || f.counters) {
        const Architecture architecture = asked_for(f);
        if (!f.problem.empty()) return {problem_case(f.op, f.problem, precision, architecture)};
        return select(network_cases(f.net, f.batch, precision, architecture), f.op, f.layer);
    }
    if (!f.problem.empty()) return {problem_case(f.op, f.problem, precision, f.device)};
    return select(network_cases(f.net, f.batch, precision, f.device), f.op, f.layer);
}

int cores() {
#ifdef VGPU
    return vgpu::core_count();
#else
    return 1;
#endif
}

// Every name must be a variant of one of the cases.
void check_variants(const std::vector<std::string>& wanted, const std::vector<BenchCase>& cases) {
    std::vector<std::string> names;
    for (const BenchCase& c : cases)
        for (const auto& v : c.variants)
            if (std::find(names.begin(), names.end(), v.name) == names.end())
                names.push_back(v.name);
    for (const std::string& w : wanted)
        if (std::find(names.begin(), names.end(), w) == names.end())
            throw UsageError("--variants: " + unknown_name("variant", w, names));
}

void list(const std::vector<BenchCase>& cases) {
    for (const BenchCase& c : cases) {
        std::printf("%s %s:", c.name.c_str(), c.op.c_str());
        for (size_t i = 0; i < c.variants.size(); ++i)
            std::printf(" %s%s%s", c.variants[i].name.c_str(),
                        c.variants[i].refuses.empty() ? "" : "(refuses)",
                        i == c.automatic ? "(auto)" : "");
        std::printf("\n");
    }
}

// The chosen variant, or the one that training would take, once between the profiler's start and
// stop, after it has run.
void profile(const BenchCase& bench_case, const std::vector<std::string>& wanted, int device) {
    for (size_t i = 0; i < bench_case.variants.size(); ++i) {
        const BenchCase::Entry& v = bench_case.variants[i];
        if (wanted.empty() || wanted == std::vector<std::string>{"auto"}
                ? i != bench_case.automatic
                : std::find(wanted.begin(), wanted.end(), v.name) == wanted.end())
            continue;
        if (!v.refuses.empty()) throw Error(bench_case.name + "=" + v.name + ": " + v.refuses);
        const std::unique_ptr<Prepared> ready = bench_case.prepare(device);
        const cudaStream_t s = ready->operands.stream().get();
        for (int warm_up = 0; warm_up < 2; ++warm_up) ready->launch(i, s);
        ready->operands.stream().synchronize();
#ifndef VGPU
        WT_CUDA(cudaProfilerStart());
#endif
        {
            const std::string name = bench_case.name + "=" + v.name;
            const Range range(name.c_str());
            ready->launch(i, s);
        }
        ready->operands.stream().synchronize();
#ifndef VGPU
        WT_CUDA(cudaProfilerStop());
#endif
        std::printf("%s=%s\n", bench_case.name.c_str(), v.name.c_str());
    }
}

// Says on standard error what is about to run: what a variant brings down with it is then known. On
// a terminal the next line takes the place of the last.
class NowRunning {
public:
    explicit NowRunning(const BenchCase& bench_case) : case_(bench_case) {}
    ~NowRunning() { clear(); }
    void begins(const std::string& doing, const std::string& variant) {
        const char* const form = terminal_ ? "\r\033[K%s %s=%s ..." : "compare: %s %s=%s\n";
        std::fprintf(stderr, form, doing.c_str(),
                     (case_.name == case_.problem ? case_.op : case_.name).c_str(),
                     variant.c_str());
        said_ = true;
    }
    void clear() {
        if (said_ && terminal_) std::fputs("\r\033[K", stderr);
        said_ = false;
    }

private:
    const BenchCase& case_;
    const bool terminal_ = isatty(STDERR_FILENO);
    bool said_ = false;
};

// Prints to standard output, at once, whatever reads it.
void show(const std::string& text) {
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
}

// Compares one case, and prints its rows: as they come where they stay in the table's order.
Compared compare_and_show(const Comparison& c, const BenchCase& bench_case, Stopwatch& watch,
                          const Settings& settings, Sort sort) {
    show(table_head(c, bench_case) + patience_line(bench_case, cores()));
    NowRunning now(bench_case);
    Progress progress;
    progress.begins = [&](const std::string& doing, const std::string& variant) {
        now.begins(doing, variant);
    };
    if (sort == Sort::table)
        progress.row = [&](const Compared& compared, const Row& row) {
            now.clear();
            show(table_row(c, compared, row));
        };
    Compared compared = compare(bench_case, watch, settings, progress);
    now.clear();
    if (sort != Sort::table)
        for (const Row& r : sorted(compared.rows, sort)) show(table_row(c, compared, r));
    return compared;
}

void predict(const Flags& f) {
    const std::vector<BenchCase> cases = cases_of(f);
    const bool of_net = f.problem.empty();
    PredictWish wish{.gpu = f.predict,
                     .net = of_net ? f.net : "",
                     .batch = of_net ? f.batch : 0,
                     .precision = precision_of(f.precision),
                     .variants = {},
                     .automatic = f.variants == "auto",
                     .step = of_net && f.op.empty() && f.layer.empty(),
                     .measured = f.measured,
                     .counted = f.counted};
    if (!f.variants.empty() && !wish.automatic) {
        wish.variants = split(f.variants);
        check_variants(wish.variants, cases);
    }
    try_output("--json", f.json);
    const Predicted all = predicted(wish, cases);
    show(all.text);
    if (!f.json.empty()) atomic_write_file(f.json, json_text(all.json, 1) + "\n");
}

// Counts every case, and prints it at once; the file is written anew each time, so that whoever
// stops it keeps what there is.
void count_and_show(const Flags& f, const std::vector<BenchCase>& cases, Settings settings) {
    const bool automatic = f.variants == "auto", of_net = f.problem.empty();
    std::vector<CountedCase> all;
    Json report{{"counters", true},
                {"device", device_name(f.device)},
                {"net", of_net ? Json(f.net) : Json(nullptr)},
                {"batch", of_net ? Json(f.batch) : Json(nullptr)},
                {"precision", f.precision},
                {"sms", planned_sms()},
                {"complete", false},
                {"problems", Json::array()}};
    const auto write_json = [&] { atomic_write_file(f.json, json_text(report, 1) + "\n"); };
    std::string failed;
    show(counters_heading());
    for (const BenchCase& bench_case : cases) {
        if (automatic) settings.variants = {bench_case.variants[bench_case.automatic].name};
        NowRunning now(bench_case);
        all.push_back(
            count_case(bench_case, settings, f.precision,
                       [&](const std::string& variant) { now.begins("counting", variant); }));
        now.clear();
        show(to_text(all.back()));
        report["problems"].push_back(to_json(all.back()));
        if (!f.json.empty() && replaces_file(f.json)) write_json();
        for (const CountedVariant& v : all.back().variants)
            if (v.failed)
                failed += (failed.empty() ? "" : ", ") + bench_case.name + "=" + v.variant;
    }
    report["complete"] = true;
    if (!f.json.empty()) write_json();
    if (!f.html.empty())
        atomic_write_file(f.html, counters_page(all, "Counters of kernels, " + f.precision));
    if (!failed.empty()) throw Error("these could not be counted: " + failed);
}

int run(int argc, char** argv) {
    const Flags f = parse(argc, argv);
    if (!f.predict.empty()) return predict(f), 0;
    WT_CUDA(cudaSetDevice(f.device));
    const std::vector<BenchCase> cases = cases_of(f);
    const bool automatic = f.variants == "auto", all = f.variants == "all";
    Settings settings;
    settings.device = f.device;
    settings.check_only = f.check_only;
    settings.patience.seconds = f.seconds;
    settings.fixed_plans = all;
    if (!f.variants.empty() && !all) settings.variants = split(f.variants);
    if (!automatic) check_variants(settings.variants, cases);
    if (f.list) return list(cases), 0;
    check_architecture({f.device});
    if (f.profile) {
        const SmLimit limit(f.sms);
        for (const BenchCase& bench_case : cases) profile(bench_case, settings.variants, f.device);
        return 0;
    }
    if (f.counters) {
        try_output("--json", f.json);
        try_output("--html", f.html);
        const SmLimit limit(f.sms);
        count_and_show(f, cases, settings);
        return 0;
    }
    if (kernels_look_for_races() && !f.check_only)
        throw UsageError(
            "this build looks for races: what it times says nothing, and takes minutes: add "
            "--check-only, or run `make` for the ordinary build");
    try_output("--json", f.json);
    try_output("--html", f.html);
    const Sort sort = f.sort == "time"    ? Sort::time
                      : f.sort == "error" ? Sort::error
                      : f.sort == "name"  ? Sort::name
                                          : Sort::table;

    Stopwatch watch(f.device);
    Comparison c;
    c.device = device_name(f.device);
    c.precision = f.precision;
    c.checked_only = f.check_only;
    c.sms = f.sms;
    if (f.problem.empty()) {
        c.net = f.net;
        c.batch = f.batch;
    }
    c.driver = watch.clocks().driver();
    c.most = watch.clocks().most();
    if (!f.check_only) c.ceilings = measure_ceilings(watch, f.device, precision_of(f.precision));
    show(heading(c));
    const auto write_json = [&] { atomic_write_file(f.json, json_text(to_json(c), 1) + "\n"); };
    std::string lost;
    const SmLimit limit(f.sms);  // the ceilings are of all SMs
    for (const BenchCase& bench_case : cases) {
        // its parts were there before it
        if (automatic && !bench_case.parts.empty() && !c.automatic_fuses(bench_case)) continue;
        if (automatic) settings.variants = {bench_case.variants[bench_case.automatic].name};
        c.cases.push_back(compare_and_show(c, bench_case, watch, settings, sort));
        lost = c.cases.back().lost;
        if (!lost.empty()) break;
        // As it goes: whoever stops it keeps what there is. What is no file is written once.
        if (!f.json.empty() && replaces_file(f.json)) write_json();
    }
    c.complete = lost.empty();
    if (!f.check_only) show(fusions(c));
    if (!f.json.empty()) write_json();
    if (!f.html.empty()) atomic_write_file(f.html, to_html(c, sort));
    if (!lost.empty())
        throw Error("the device was lost (" + lost + "): the problems that were left were not run");
    if (const int wrong = c.wrong())
        throw Error(std::to_string(wrong) +
                    (wrong == 1 ? " variant is wrong" : " variants are wrong"));
    if (automatic) return 0;
    if (const std::string skipped = c.skipped(settings.variants); !skipped.empty())
        throw Error("--variants: nothing was checked: " + skipped);
    return 0;
}

}  // namespace

int main(int argc, char** argv) { return run_program(argc, argv, "compare", run); }
