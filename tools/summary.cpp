// bin/summary NET: a network's layers, with output shapes, parameters and multiply-adds.
// bin/summary FILE: what a file of weights says of itself, and the layers of its network.
// bin/summary NET --steps: what one worker of a training step puts on its streams, in order.
// bin/summary NET --steps --predict h200: what each of that should take there, and their sum.
#include <cstdio>
#include <filesystem>

#include "host/cuda/check.h"
#include "host/cuda/nearest.h"
#include "host/json.h"
#include "host/model/step_prediction.h"
#include "host/net/spec.h"
#include "host/parallel/step_text.h"
#include "host/printable.h"
#include "host/train/atomic_file.h"
#include "host/train/classes.h"
#include "host/train/options.h"
#include "host/train/origin.h"
#include "host/train/stored_model.h"
#include "tools/common_cli.h"

namespace {

using namespace wt;

bool is_net(const std::string& name) {
    for (const std::string& n : net_names())
        if (n == name) return true;
    return false;
}

void print_layers(const NetSpec& net) {
    const double parameters = net.parameters(), macs = net.macs();
    std::printf("%-8s %-14s %15s %7s %17s %7s\n", "layer", "output", "parameters", "",
                "multiply-adds", "");
    std::printf("%-8s %dx%dx%d\n", "input", net.input.h, net.input.w, net.input.c);
    for (const Layer& l : net.layers) {
        const std::string shape =
            std::to_string(l.y.h) + "x" + std::to_string(l.y.w) + "x" + std::to_string(l.y.c);
        if (l.parameters())
            std::printf("%-8s %-14s %15s %6.2f%% %17s %6.2f%%\n", l.name.c_str(), shape.c_str(),
                        grouped(l.parameters()).c_str(), 100 * l.parameters() / parameters,
                        grouped(l.macs()).c_str(), 100 * l.macs() / macs);
        else
            std::printf("%-8s %-14s\n", l.name.c_str(), shape.c_str());
    }
    std::printf("%-8s %-14s %15s %7s %17s\n", "total", "", grouped(net.parameters()).c_str(), "",
                grouped(net.macs()).c_str());
}

// Prints what the file says, and takes the network and its options from it.
std::string print_file(const std::string& path, NetOptions& options) {
    const Origin from = open_origin(path, /*must_go_on=*/false);
    if (!from.position)
        throw Error(path + " does not say which network it is of: give the network's name");
    const Position& p = *from.position;
    const RunRecord& r = p.record;
    std::printf("%s: of %s, at step %lld, %lld images a step\n", path.c_str(),
                printable(p.net).c_str(), static_cast<long long>(p.step),
                static_cast<long long>(p.global_batch));
    if (!r.command.empty()) std::printf("command  %s\n", printable(r.command).c_str());
    for (const auto& [flag, value] : r.settings)
        std::printf("setting  %s %s\n", printable(flag).c_str(), printable(value).c_str());
    if (!r.whole()) {
        std::printf(
            "notice   it says nothing of classes, normalisation and options: those of an older "
            "version\n");
        options.classes = 2;
        const std::string last = make_net(p.net, options).layers.back().name + ".bias";
        options.classes = static_cast<int>(from.file->shape(last).at(0));
        return p.net;
    }
    std::printf("classes  %s\n", printable(classes_text(r.classes)).c_str());
    std::printf("images   less the mean %s, by %s; stored at %d, %s\n", rgb_text(r.mean).c_str(),
                rgb_text(r.std_dev).c_str(), r.stored, r.channels == 1 ? "grey" : "in colour");
    std::printf("data     %lld training and %lld held-out images\n",
                static_cast<long long>(r.train_images), static_cast<long long>(r.held_out_images));
    if (p.best)
        std::printf("best     top-1 error %.2f%% after %lld steps\n", p.best.error,
                    static_cast<long long>(p.best.step));
    std::printf("\n");
    options = options_of(r);
    options.classes = static_cast<int>(r.classes.size());
    return p.net;
}

struct StepFlags {
    bool steps = false;
    int batch = 128, workers = 1, sm = -1, accumulate = 1;
    FcScheme scheme = FcScheme::a;
    Precision precision = Precision::fp32;
    std::string kernels = "auto", overlap = "auto", predict, json, measured = "profiling/results";
};

constexpr int kPredictedSm = 90;

void print_steps(const NetSpec& net, const StepFlags& f) {
    WorkerConfig c;
    c.net = net;
    c.workers = f.workers;
    c.batch = f.batch;
    c.scheme = f.scheme;
    c.sm = f.sm;
    c.dtype = f.precision == Precision::bf16 ? DType::bf16 : DType::f32;
    c.tf32 = f.precision == Precision::tf32;
    c.kernels = KernelSettings::parse(f.kernels);
    c.overlap = OverlapChoice::parse(f.overlap);
    c.accumulate = f.accumulate;
    if (!f.predict.empty()) {
        const model::Gpu gpu = model::gpu_of(f.predict);
        if (f.accumulate > 1)
            throw UsageError("--predict is of a step of one batch: leave --accumulate away");
        if (f.workers > 1)
            throw UsageError("--predict is of one worker: bin/scaling predicts several");
        if (f.sm >= 0 && f.sm != kPredictedSm)
            throw UsageError("--predict plans for compute capability 90: leave --sm away");
        c.sm = kPredictedSm;
        const model::StepPrediction step = model::predict_step(gpu, Layout(c));
        const auto measured = model::MeasuredResults::read(f.measured, gpu.name);
        std::printf("%s", model::to_text(gpu, step, measured).c_str());
        if (!f.json.empty())
            atomic_write_file(f.json, json_text({{"gpu", model::to_json(gpu)},
                                                 {"step", model::to_json(step, measured)}},
                                                1) +
                                          "\n");
        return;
    }
    const Layout layout(c);
    if (f.accumulate == 1) {
        std::printf("%s", step_text(layout, layout.training_steps).c_str());
        return;
    }
    const auto print = [&](const std::string& which, MicroStep part) {
        std::printf("%s of %d batches\n%s\n", which.c_str(), f.accumulate,
                    step_text(layout, layout.training_list(part)).c_str());
    };
    print("the first", MicroStep::first);
    if (f.accumulate > 2) print("each between", MicroStep::middle);
    print("the last", MicroStep::last);
}

int run(int argc, char** argv) {
    CommandLine app(
        "A table of a network's layers: output shape, parameters, multiply-adds of one image's "
        "forward pass, and shares. "
        "Of a file of weights, what it says of itself besides.");
    std::string name;
    NetOptions options;
    options.classes = 0;
    app.add_option("NET", name, "a network, or a .safetensors file that bin/train has written")
        ->required();
    app.add_option("--classes", options.classes, "units of the last layer")
        ->check(between(2, 1e6))
        ->by_default("as many as the data set of the network's recipe has, or the file's");
    StepFlags f;
    app.add_flag(
        "--steps", f.steps,
        "prints a training step instead: what worker 0 puts on its streams, in order; the flags below are of that");
    app.add_option("--batch", f.batch, "images a worker")->check(between(1, 1 << 20));
    app.add_option("--accumulate", f.accumulate,
                   "batches that add up to a step; prints the first, one between and the last")
        ->check(between(1, 4096));
    app.add_option("--workers", f.workers, "how many share a step")->check(between(1, kMaxRanks));
    app.add_choice("--fc-scheme", f.scheme, kFcSchemes, "fc scheme", "as in bin/train");
    app.add_choice("--precision", f.precision, kPrecisions, "precision",
                   "of activations and products");
    app.add_option("--kernels", f.kernels, "as in bin/train");
    app.add_option("--overlap", f.overlap, "as in bin/train: auto, on, off or PART,...");
    app.add_option("--sm", f.sm, "compute capability to plan for, 90 for 9.0; 0: a virtual GPU")
        ->check(between(0, 999))
        ->by_default("this machine's");
    app.add_option("--predict", f.predict,
                   "prints how long each kernel of the step should take on this GPU, and its floor")
        ->check(one_of("GPU", model::gpu_names()));
    app.add_option("--measured", f.measured,
                   "with --predict: a folder of folders that make gpu-report wrote")
        ->check(not_empty());
    app.add_option("--json", f.json, "with --predict: writes all of it to this file")
        ->check(not_empty());
    app.parse(argc, argv);
    for (const std::string& flag : app.given()) {
        if ((flag == "json" || flag == "measured") && f.predict.empty())
            throw UsageError("--" + flag + " is of a prediction: give --predict too");
        if (flag == "measured" && !std::filesystem::is_directory(f.measured))
            throw Error(f.measured + " is no folder: give one that has make gpu-report's folders");
    }
    if (!f.steps)
        for (const std::string& flag : app.given())
            if (flag != "NET" && flag != "classes")
                throw UsageError("--" + flag + " is of a training step: give --steps too");

    if (name.ends_with(".safetensors")) {
        if (options.classes != 0)
            throw UsageError("--classes: " + name + " has its own; leave it away");
        name = print_file(name, options);
    } else if (!is_net(name)) {
        throw UsageError(unknown_name("net", name, net_names()) + " (or a .safetensors file)");
    } else if (options.classes == 0) {
        options.classes = classes_of(name);
    }
    if (f.steps)
        print_steps(make_net(name, options), f);
    else
        print_layers(make_net(name, options));
    return 0;
}

}  // namespace

int main(int argc, char** argv) { return run_program(argc, argv, "summary", run); }
