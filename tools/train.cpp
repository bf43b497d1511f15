// bin/train: trains a network. `bin/train` alone trains `mini` on Fashion-MNIST with two workers.
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <sstream>

#include "host/cuda/device.h"
#include "host/cuda/nearest.h"
#include "host/parallel/stop_signals.h"
#include "host/parallel/team.h"
#include "host/train/checkpoint.h"
#include "host/train/trainer.h"
#include "tools/common_cli.h"

namespace {

using namespace wt;

// "0,1" into one worker per entry; empty: two workers, on two GPUs where there are two.
std::vector<int> parse_gpus(const std::string& text) {
    const int count = device_count();
    if (count == 0) throw Error("no GPU is visible: check nvidia-smi and CUDA_VISIBLE_DEVICES, or build with TARGET=vgpu");
    if (text.empty()) return count >= 2 ? std::vector<int>{0, 1} : std::vector<int>{0, 0};
    std::vector<int> gpus;
    std::stringstream parts(text);
    for (std::string part; std::getline(parts, part, ',');) {
        if (part.empty() || part.size() > 4 || part.find_first_not_of("0123456789") != std::string::npos)
            throw UsageError("--gpus " + text + ": must be numbers with commas between, one worker each (0,1)");
        gpus.push_back(std::stoi(part));
        if (gpus.back() >= count)
            throw UsageError("unknown GPU " + part + ": there " + (count == 1 ? "is 1, number 0" : "are " + std::to_string(count) + ", numbers 0 to " + std::to_string(count - 1)));
    }
    if (gpus.empty() || gpus.size() > static_cast<size_t>(kMaxRanks))
        throw UsageError("--gpus " + text + ": must name 1 to " + std::to_string(kMaxRanks) + " workers");
    return gpus;
}

std::optional<std::vector<float>> parse_rgb(const std::string& flag, const std::string& text, bool positive) {
    if (text.empty()) return {};
    std::vector<float> v;
    std::stringstream parts(text);
    for (std::string part; std::getline(parts, part, ',');) {
        char* end = nullptr;
        v.push_back(std::strtof(part.c_str(), &end));
        if (part.empty() || *end || !std::isfinite(v.back()) || (positive && v.back() <= 0)) v.resize(9);
    }
    if (v.size() != 3)
        throw UsageError(flag + " " + text + ": must be three " + (positive ? "positive " : "") + "numbers R,G,B in 0..255 units");
    return v;
}

struct Flags {
    TrainOptions o;
    TeamOptions team;
    std::string gpus, mean, std_dev, activation = "relu", pool = "overlap", lrn = "on", fc_update = "accumulate", early = "on", resume;
};

// Declares every flag on `app`; values land in `f`.
void declare(CommandLine& app, Flags& f) {
    TrainOptions& o = f.o;
    app.add_option("--net", o.net, "alexnet, alexnet2012, owt, cifar, mini")->check(one_of("net", net_names()));
    app.add_option("--data", o.data, "fashion-mnist[:DIR], mnist:DIR, cifar10:DIR, folder:DIR, synthetic[:CLASSES]");
    app.add_option("--gpus", f.gpus, "one worker per entry: 0,1; 0,0 puts two workers on one GPU");
    app.add_option("--batch", o.batch, "images per worker and step")->check(between(1, 1 << 20));
    app.add_option("--fc-scheme", o.fc_scheme,
                   "how the fully connected layers get their batch (arXiv 1404.5997): a gathers everybody's, b one worker's in each of K passes, "
                   "c 1/K of everybody's in each; dp replicates these layers too")
        ->check(one_of("fc scheme", {"a", "b", "c", "dp"}));
    app.add_option("--fc-split", o.fc_split,
                   "how they are shared by the workers: columns (all by units), alternate (the first by units, those above by inputs: half of what "
                   "is exchanged between them)")
        ->check(one_of("split", {"columns", "alternate"}));
    app.add_option("--fc-update", f.fc_update, "accumulate (one update a step), or per-pass: after each pass of b and c")
        ->check(one_of("fc update", {"accumulate", "per-pass"}));
    app.add_option("--lr-scale", o.lr_scale, "rate of layers with a batch larger than a worker's: times k (their batches' ratio), sqrt (of it), none")
        ->check(one_of("scale", {"k", "sqrt", "none"}));
    app.add_option("--precision", o.precision, "fp32, tf32, bf16")->check(one_of("precision", {"fp32", "tf32", "bf16"}));
    app.add_option("--kernels", o.kernels, "auto, own, baseline, tune (measures, and remembers), and LAYER.PASS=VARIANT,... (conv2.wgrad=tiled)");
    app.add_option("--fuse", o.fuse, "operations done in one: auto (where that is faster), on (wherever it can be), off")->check(one_of("setting", {"auto", "on", "off"}));
    app.add_option("--graph", o.graph, "replays a step as CUDA graphs: auto (on real GPUs), on, off")->check(one_of("setting", {"auto", "on", "off"}));
    app.add_option("--pdl,--early", f.early, "kernels may start before the one ahead of them is over (programmatic dependent launch): on, off")
        ->check(one_of("setting", {"on", "off"}));
    app.add_option("--epochs", o.epochs, "passes over the training images")->check(between(0, 1e6));
    app.add_option("--steps", o.steps, "stop after so many steps instead")->check(between(0, 1e12));
    app.add_option("--lr", o.lr, "learning rate")->check(between(0, 1e3));
    app.add_option("--lr-policy", o.lr_policy, "plateau, step:E1,E2,..., linear, constant");
    app.add_option("--momentum", o.momentum)->check(between(0, 1));
    app.add_option("--weight-decay", o.weight_decay)->check(between(0, 1));
    app.add_option("--dropout", o.net_options.dropout, "probability of zeroing")->check(between(0, 0.99));
    app.add_option("--activation", f.activation, "relu, tanh")->check(one_of("activation", {"relu", "tanh"}));
    app.add_option("--pool", f.pool, "overlap (3x3/2) or plain (2x2/2)")->check(one_of("pool", {"overlap", "plain"}));
    app.add_option("--lrn", f.lrn, "on, off")->check(one_of("lrn", {"on", "off"}));
    app.add_option("--init", o.init, "paper, he, or a .safetensors file with the weights");
    app.add_option("--seed", o.seed, "of everything random");
    app.add_option("--augment", o.augment, "none (centre crop), crop (and mirror), full (and colour noise)")
        ->check(one_of("augmentation", {"none", "crop", "full"}));
    app.add_option("--mean", f.mean, "R,G,B subtracted, 0..255 units; default: of the training images");
    app.add_option("--std", f.std_dev, "R,G,B divided by, 0..255 units");
    app.add_option("--out", o.out, "folder of the run; default: runs/NET");
    app.add_option("--save-every", o.save_every, "steps between checkpoints; default: every epoch and at the end")->check(between(1, 1e12));
    app.add_option("--keep", o.keep,
                   "checkpoints kept: the last N, the newest of them in checkpoint.safetensors, older ones "
                   "in checkpoint-STEP.safetensors; best.safetensors, of the smallest held-out error, is "
                   "kept besides; default: 1")
        ->check(between(1, 1e6));
    app.add_flag("--overwrite", o.overwrite,
                 "begins anew in a folder that holds a run, whose checkpoints and log are removed");
    app.add_option("--resume", f.resume, "goes on with the run in this folder, with its flags unless given anew");
    app.add_flag("--eval-only", o.eval_only, "evaluates the held-out images (with --resume or --init FILE)");
    app.add_option("--timeline", o.timeline, "FILE.svg: a picture of what every worker's streams did in step 3, run without graphs; a trace for chrome://tracing in FILE.json");
    app.add_option("--loader-threads", o.loader_threads, "per worker")->check(between(1, 64));
    app.add_option("--comm", o.comm, "workers are threads of this process, or processes that mpirun starts and that exchange over mpi or nccl")
        ->check(one_of("comm", {"threads", "mpi", "nccl"}));
    app.add_option("--lost-after", f.team.lost_after, "with mpirun: seconds without a sign of life after which a rank is lost, and the job ends; 20")
        ->check(between(1, 1e6));
    app.add_option("--stuck-after", f.team.stuck_after, "with mpirun: seconds that a step may wait for a rank that is alive; 600, 0: for ever")
        ->check(between(0, 1e6));
}

// Fills f from the arguments; later ones win over earlier ones.
void parse(std::vector<std::string> arguments, Flags& f) {
    CommandLine app("Trains AlexNet and its kin: convolutional layers replicated on every GPU, fully connected layers sharded across GPUs.",
                    /*last_wins=*/true);
    declare(app, f);
    std::vector<const char*> argv{"train"};
    for (const std::string& a : arguments) argv.push_back(a.c_str());
    app.parse(static_cast<int>(argv.size()), argv.data());
}

std::string text_of(const std::vector<std::string>& arguments) {
    std::string s;
    for (const std::string& a : arguments) s += (s.empty() ? "" : " ") + a;
    return s;
}

// The flags that describe a run, without those that only say where it lies, who runs it and that it goes on.
std::vector<std::string> without_place(const std::vector<std::string>& arguments) {
    std::vector<std::string> kept;
    for (size_t i = 0; i < arguments.size(); ++i) {
        const std::string& a = arguments[i];
        const bool place = a == "--resume" || a == "--out" || a == "--timeline" || a == "--comm";
        if (place) ++i;
        const std::string name = a.substr(0, a.find('='));
        const bool joined = name != a && (name == "--resume" || name == "--out" ||
                                          name == "--timeline" || name == "--comm");
        if (place || joined || name == "--eval-only" || name == "--overwrite") continue;
        kept.push_back(a);
    }
    return kept;
}

// The device of this process's worker: the entry of `gpus` that its place among those of its machine names.
int own_gpu(const Team& team, const std::string& gpus, const std::string& comm) {
    std::vector<int> all(device_count());
    std::iota(all.begin(), all.end(), 0);
    if (all.empty() || !gpus.empty()) all = parse_gpus(gpus);
    if (comm == "nccl" && team.local_ranks() > static_cast<int>(all.size()))
        throw UsageError("--comm nccl: " + std::to_string(team.local_ranks()) + " processes on a machine with " + std::to_string(all.size()) +
                         (all.size() == 1 ? " GPU" : " GPUs") + ", and NCCL wants one each: start fewer, or use --comm mpi");
    return all[team.local_rank() % all.size()];
}

int train(const std::vector<std::string>& given, Flags f, Team* team, bool explain_next) {
    std::vector<std::string> arguments = given;
    if (f.o.overwrite && !f.resume.empty())
        throw UsageError("--overwrite begins a run anew, and --resume " + f.resume +
                         " goes on with one: leave one away");
    if (f.o.overwrite && f.o.eval_only)
        throw UsageError(
            "--overwrite begins a run anew, and --eval-only trains none: leave one away");
    if (!f.resume.empty()) {  // the flags the run was started with, then those given now
        const Position p = read_position(checkpoint_path(f.resume), team);
        std::vector<std::string> all = p.arguments;
        all.insert(all.end(), arguments.begin(), arguments.end());
        const std::string resume = f.resume;
        f = Flags{};
        parse(all, f);
        arguments = all;
        f.o.resume = true;
        if (f.o.out.empty()) f.o.out = resume;
        if (!std::filesystem::equivalent(f.o.out, resume))
            throw UsageError("--out " + f.o.out + " with --resume " + resume + ": a run goes on in its own folder; leave --out away");
    }
    TrainOptions& o = f.o;
    if (team) team->same("command line", text_of(arguments));
    o.gpus = team ? std::vector<int>{own_gpu(*team, f.gpus, o.comm)} : parse_gpus(f.gpus);
    o.mean = parse_rgb("--mean", f.mean, false);
    o.std_dev = parse_rgb("--std", f.std_dev, true);
    o.fc_per_pass = f.fc_update == "per-pass";
    o.net_options.tanh = f.activation == "tanh";
    o.early = f.early == "on";
    o.net_options.plain_pool = f.pool == "plain";
    o.net_options.lrn = f.lrn == "on";
    o.arguments = without_place(arguments);
    if (!o.timeline.empty() && (o.timeline.size() < 5 || !o.timeline.ends_with(".svg")))
        throw UsageError("--timeline " + o.timeline + ": must be a file that ends in .svg");
    if (!o.timeline.empty() && o.eval_only) throw UsageError("--timeline shows a training step, and --eval-only trains none: leave one away");
    if (!o.timeline.empty() && o.comm != "threads")
        throw UsageError("--timeline shows the workers of one process: leave --comm " + o.comm + " away");
    if (o.eval_only && !o.resume && (o.init.empty() || o.init == "paper" || o.init == "he"))
        throw UsageError("--eval-only needs weights: give --resume DIR or --init FILE.safetensors");
    if ((!team || team->rank() == 0) && !o.init.empty() && o.init != "paper" && o.init != "he" && !std::filesystem::exists(o.init))
        throw UsageError("--init " + o.init + ": must be paper, he or an existing .safetensors file");
    const int status = run_training(o, team);
    if (status == 0 && explain_next)
        std::printf("\nnext:\n  bin/train --resume %s --epochs 4        goes on\n  bin/train --data cifar10:DIR              other data (--help lists all)\n"
                    "  bin/summary alexnet                       a network's layers\n  bin/train --net alexnet --data folder:DIR  ImageNet, see README.md\n",
                    o.out.empty() ? "runs/mini" : o.out.c_str());
    return status;
}

int run(int argc, char** argv) {
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    Flags f;
    std::unique_ptr<Team> team;
    try {
        parse(arguments, f);
        if (f.o.comm == "threads" && launched_ranks() > 1)
            throw UsageError("started as " + std::to_string(launched_ranks()) + " processes that know nothing of each other: give --comm mpi (or nccl), or leave mpirun away");
        f.team.comm = f.o.comm;
        catch_stop_signals();
        if (f.o.comm != "threads") team = join_team(f.team);
    } catch (const UsageError&) {
        if (launched_rank() > 0) throw Exit{2};  // rank 0 says it for all
        throw;
    }
    // The default run, as `make run` has it too.
    const bool plain = arguments.empty() || arguments == std::vector<std::string>{"--overwrite"};
    if (!team) return train(arguments, f, nullptr, plain);
    std::string why;
    int status = 1;
    try {
        return train(arguments, f, team.get(), false);
    } catch (const UsageError& e) {
        why = e.what(), status = 2;
    } catch (const std::exception& e) {
        why = e.what();
    }
    team->fail(why, status);
}

}  // namespace

int main(int argc, char** argv) { return run_program(argc, argv, "train", run); }
