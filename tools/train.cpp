// bin/train: trains a network. `bin/train` alone trains `mini` on Fashion-MNIST with two workers.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <sstream>

#include "host/cuda/architecture.h"
#include "host/cuda/device.h"
#include "host/cuda/nearest.h"
#include "host/parallel/stop_signals.h"
#include "host/parallel/team.h"
#include "host/train/carry.h"
#include "host/train/export_weights.h"
#include "host/train/origin.h"
#include "host/train/atomic_file.h"
#include "host/train/predictions.h"
#include "host/train/recipes.h"
#include "host/train/schedule.h"
#include "host/train/torchvision_names.h"
#include "host/train/trainer.h"
#include "host/train/weights_file.h"
#include "tools/common_cli.h"

namespace {

using namespace wt;

// "0,1" into one worker per entry; empty: two workers, on two GPUs where there are two.
std::vector<int> parse_gpus(const std::string& text) {
    const int count = device_count();
    if (count == 0)
        throw Error(
            "no GPU is visible: check nvidia-smi and CUDA_VISIBLE_DEVICES, or build with TARGET=vgpu");
    if (text.empty()) return count >= 2 ? std::vector<int>{0, 1} : std::vector<int>{0, 0};
    std::vector<int> gpus;
    std::stringstream parts(text);
    for (std::string part; std::getline(parts, part, ',');) {
        if (part.empty() || part.size() > 4 ||
            part.find_first_not_of("0123456789") != std::string::npos)
            throw UsageError("--gpus " + text +
                             ": must be numbers with commas between, one worker each (0,1)");
        gpus.push_back(std::stoi(part));
        if (gpus.back() >= count)
            throw UsageError("unknown GPU " + part + ": there " +
                             (count == 1 ? "is 1, number 0"
                                         : "are " + std::to_string(count) + ", numbers 0 to " +
                                               std::to_string(count - 1)));
    }
    if (gpus.empty() || gpus.size() > static_cast<size_t>(kMaxRanks))
        throw UsageError("--gpus " + text + ": must name 1 to " + std::to_string(kMaxRanks) +
                         " workers");
    return gpus;
}

std::optional<std::vector<float>> parse_rgb(const std::string& flag, const std::string& text,
                                            bool positive) {
    if (text.empty()) return {};
    std::vector<float> v;
    std::stringstream parts(text);
    for (std::string part; std::getline(parts, part, ',');) {
        char* end = nullptr;
        v.push_back(std::strtof(part.c_str(), &end));
        if (part.empty() || *end || !std::isfinite(v.back()) || (positive && v.back() <= 0))
            v.resize(9);
    }
    if (v.size() != 3)
        throw UsageError(flag + " " + text + ": must be three " + (positive ? "positive " : "") +
                         "numbers R,G,B in 0..255 units");
    return v;
}

struct Flags {
    TrainOptions o;
    TeamOptions team;
    std::string gpus, mean, std_dev, init, resume, init_except, freeze = "none", recipe;
    std::pair<std::string, std::string> export_to;  // format, file
    std::vector<std::string> given;                 // names without dashes
    bool has(const char* name) const {
        return std::find(given.begin(), given.end(), name) != given.end();
    }
};

// Declares every flag on `app`; values land in `f`, which has the recipe's.
void declare(CommandLine& app, Flags& f) {
    TrainOptions& o = f.o;
    app.add_option(
           "--net", o.net,
           "the network; defaults below are its recipe's (--net NAME --help: those of another)")
        ->check(one_of("net", net_names()));
    app.add_option(
        "--data", o.data,
        "fashion-mnist[:DIR], mnist:DIR, cifar10:DIR, folder:DIR, synthetic[:CLASSES[:IMAGES]]");
    app.add_option("--gpus", f.gpus, "one worker per entry: 0,1; 0,0 puts two workers on one GPU")
        ->by_default("0,1, or 0,0 where there is one");
    app.add_option("--recipe", f.recipe,
                   "a file of flags, which those beside it overrule: " + recipe_names_text() +
                       " (data/recipes), or a path")
        ->by_default("none");
    app.add_option("--batch", o.batch, "images per worker at a time")->check(between(1, 1 << 20));
    app.add_option("--accumulate", o.accumulate,
                   "batches whose gradients add up to one step, with the mean over all of them")
        ->check(between(1, 4096));
    app.add_choice(
        "--fc-scheme", o.fc_scheme, kFcSchemes, "fc scheme",
        "how the fully connected layers get their batch (arXiv 1404.5997): a gathers everybody's, b one worker's in each of K passes, "
        "c 1/K of everybody's in each; dp replicates these layers too");
    app.add_choice(
        "--fc-split", o.fc_split, kFcSplits, "split",
        "how they are shared by the workers: columns (all by units), alternate (the first by units, those above by inputs: half of what "
        "is exchanged between them)");
    app.add_choice("--fc-update", o.fc_per_pass, kFcUpdates, "fc update",
                   "accumulate (one update a step), or per-pass: after each pass of b and c");
    app.add_choice(
        "--lr-scale", o.lr_scale, kLrScales, "scale",
        "rate of layers with a batch larger than a worker's: times k (their batches' ratio), sqrt (of it), none");
    app.add_choice("--precision", o.precision, kPrecisions, "precision",
                   "of activations and products");
    app.add_option(
        "--kernels", o.kernels,
        "auto, own, baseline, tune (measures, and remembers), and LAYER.PASS=VARIANT,... (conv2.wgrad=tiled)");
    app.add_choice(
        "--fuse", o.fuse, kFuses, "setting",
        "operations done in one: auto (where that is faster), on (wherever it can be), off");
    app.add_choice("--graph", o.graph, kGraphs, "setting",
                   "replays a step as CUDA graphs: auto (on real GPUs), on, off");
    app.add_option(
        "--overlap", o.overlap,
        "what runs beside other work of a step: auto (on GPUs, what is predicted to gain), "
        "on, off, or PART,... of fc-update[:SMS], wgrad, input");
    app.add_choice(
        "--pdl,--early", o.early, kOnOff, "setting",
        "kernels may start before the one ahead of them is over (programmatic dependent launch)");
    app.add_option("--epochs", o.epochs, "passes over the training images")->check(between(0, 1e6));
    app.add_option("--steps", o.steps, "stop after so many steps instead")
        ->check(between(0, 1e12))
        ->by_default("none");
    app.add_option("--lr", o.lr, "learning rate")->check(between(0, 1e3));
    app.add_option(
        "--lr-policy", o.lr_policy,
        "plateau, step:E1,E2,..., linear, cosine, exponential:G (a factor an epoch), constant");
    app.add_option("--warmup", o.warmup,
                   "epochs over which the rate rises to what the policy says, linearly")
        ->check(between(0, 1e6));
    app.add_option("--label-smoothing", o.label_smoothing,
                   "share of a label that is spread over all classes, in training alone")
        ->check(between(0, 0.99));
    app.add_option("--momentum", o.momentum)->check(between(0, 1));
    app.add_option("--weight-decay", o.weight_decay)->check(between(0, 1));
    app.add_option("--dropout", o.net_options.dropout, "probability of zeroing")
        ->check(between(0, 0.99))
        ->by_default("the network's own");
    app.add_choice("--activation", o.net_options.tanh, kActivations, "activation",
                   "after every layer but the last");
    app.add_choice("--pool", o.net_options.plain_pool, kPools, "pool",
                   "overlap (3x3/2) or plain (2x2/2)");
    app.add_choice("--lrn", o.net_options.lrn, kOnOff, "lrn",
                   "local response normalisation, in networks that have it");
    app.add_option(
        "--init", f.init,
        "paper, he, or a .safetensors file with the weights, whose network, normalisation and data set are taken over");
    app.add_option(
        "--init-except", f.init_except,
        "layers that --init FILE does not fill, commas between (fc8): they begin as the recipe has it");
    app.add_option(
        "--freeze", f.freeze,
        "layers that keep their weights, commas between (conv1,conv2), or none: the others are trained");
    app.add_option(
        "--export", f.export_to,
        "torchvision OUT.safetensors: writes the weights of --resume DIR or --init FILE, of net owt, with the "
        "names of torchvision's AlexNet, and trains nothing");
    app.add_option(
        "--predictions", o.predictions,
        "with --eval-only: a FILE.npy of every held-out image's logits, or a FILE.csv of its likeliest classes");
    app.add_option(
        "--per-class", o.per_class,
        "with --eval-only: a FILE.csv with each class's images, errors and what it is taken for");
    app.add_option("--views", o.views,
                   "with --eval-only: of each image: 1 is its centre; 10 its corners and centre, "
                   "mirrored too, whose probabilities are averaged")
        ->check(one_of("number of views", {"1", "10"}));
    app.add_option("--seed", o.seed, "of everything random");
    app.add_choice("--augment", o.augment, kAugments, "augmentation",
                   "none (centre crop), crop (and mirror), full (and colour noise)");
    app.add_option("--mean", f.mean, "R,G,B subtracted, 0..255 units")
        ->by_default("of the training images");
    app.add_option("--std", f.std_dev, "R,G,B divided by, 0..255 units")
        ->by_default(o.divide_std ? "of the training images" : "1,1,1");
    app.add_option(
           "--out", o.out,
           "folder of the run; with --resume DIR another than DIR begins a run that goes on from DIR's checkpoint")
        ->by_default("runs/NET");
    app.add_option("--save-every", o.save_every, "steps between checkpoints")
        ->check(between(1, 1e12))
        ->by_default("every epoch, and at the end");
    app.add_option("--check-replicas", o.check_replicas,
                   "steps between comparisons of the workers' replicated weights; the run ends "
                   "where they differ; 0: none")
        ->check(between(0, 1e12));
    app.add_option(
           "--watch", o.watch,
           "[N] steps between tables of mean |w|, mean |dw| (what a step changes) and their "
           "ratio, by layer; N is 100 where it is left away; 0: none")
        ->check(between(0, 1e12));
    app.add_option(
           "--eval-every", o.eval_every,
           "steps between evaluations of the held-out images, one at the end besides; 0: that one alone")
        ->check(between(0, 1e12))
        ->by_default("every epoch, and at the end");
    app.add_option(
           "--keep", o.keep,
           "checkpoints kept: the last N, the newest of them in checkpoint.safetensors, older ones "
           "in checkpoint-STEP.safetensors; best.safetensors, of the smallest held-out error, is "
           "kept besides")
        ->check(between(1, 1e6));
    app.add_flag("--overwrite", o.overwrite,
                 "begins anew in a folder that holds a run, whose checkpoints and log are removed");
    app.add_option("--resume", f.resume,
                   "goes on with the run in this folder, with its flags unless given anew");
    app.add_flag(
        "--eval-only", o.eval_only,
        "evaluates the held-out images of --data, or of the weights' own data set (with --resume or --init FILE)");
    app.add_option(
        "--timeline", o.timeline,
        "FILE.svg: a picture of what every worker's streams did in step 3, run without graphs; a trace for chrome://tracing in FILE.json");
    app.add_option("--loader-threads", o.loader_threads, "per worker")->check(between(1, 64));
    app.add_option(
           "--comm", o.comm,
           "workers are threads of this process, or processes that mpirun starts and that exchange over mpi or nccl")
        ->check(one_of("comm", {"threads", "mpi", "nccl"}));
    app.add_choice(
        "--peer", o.links.peer, kPeers, "peer access",
        "auto (GPUs use each other's memory where a trial at the start finds that they can), off (peer access is not asked for: "
        "exchange goes through page-locked host memory)");
    app.add_option("--peer-limit", o.links.limit_s,
                   "seconds that the trial of one link may take before the start is given up")
        ->check(between(0.1, 1e6));
    app.add_option(
           "--lost-after", f.team.lost_after,
           "with mpirun: seconds without a sign of life after which a rank is lost, and the job ends")
        ->check(between(1, 1e6));
    app.add_option(
           "--stuck-after", f.team.stuck_after,
           "with mpirun: seconds that a step may wait for a rank that is alive; 0: for ever")
        ->check(between(0, 1e6));
}

// The network that the arguments name, for its recipe; a name that is none is for the parser to
// refuse.
std::string net_in(const std::vector<std::string>& arguments) {
    std::string net = TrainOptions{}.net;
    for (size_t i = 0; i < arguments.size(); ++i) {
        if (arguments[i].starts_with("--net=")) net = arguments[i].substr(6);
        if (arguments[i] == "--net" && i + 1 < arguments.size()) net = arguments[i + 1];
    }
    const auto& names = net_names();
    return std::find(names.begin(), names.end(), net) == names.end() ? TrainOptions{}.net : net;
}

// Later arguments win over earlier ones.
Flags parse(const std::vector<std::string>& arguments) {
    Flags f;
    TrainOptions& o = f.o;
    o = recipe_options(net_in(arguments));
    f.init = name_in(kInits, o.init);
    CommandLine app(
        "Trains AlexNet and its kin: convolutional layers replicated on every GPU, fully connected layers sharded across GPUs.",
        /*last_wins=*/true);
    declare(app, f);
    std::vector<const char*> argv{"train"};
    for (const std::string& a : arguments) argv.push_back(a.c_str());
    app.parse(static_cast<int>(argv.size()), argv.data());
    f.given = app.given();
    o.mean = parse_rgb("--mean", f.mean, false);
    o.std_dev = parse_rgb("--std", f.std_dev, true);
    if (f.init == "paper" || f.init == "he")
        o.init = value_in(kInits, "initialisation", f.init);
    else
        o.init_file = f.init;
    const NetSpec net = make_net(o.net, o.net_options);
    if (!f.init_except.empty()) o.init_except = layer_list("--init-except", f.init_except, net);
    if (f.freeze != "none") o.freeze = layer_list("--freeze", f.freeze, net);
    if (o.freeze.size() * 2 == params_of(net).size())
        throw UsageError("--freeze " + f.freeze + ": these are all the layers of " + o.net +
                         ", and nothing is left to train");
    return f;
}

// The flags of the recipe that --recipe names, and behind them the others, which win: what goes
// into a checkpoint does not need the recipe's file again.
std::vector<std::string> with_recipe(const std::vector<std::string>& typed) {
    std::string name;
    std::vector<std::string> others;
    bool resumes = false, named = false;
    for (size_t i = 0; i < typed.size(); ++i) {
        const std::string flag = typed[i].substr(0, typed[i].find('='));
        resumes = resumes || flag == "--resume";
        if (flag != "--recipe") {
            others.push_back(typed[i]);
            continue;
        }
        named = true;
        if (flag != typed[i])
            name = typed[i].substr(flag.size() + 1);
        else if (++i < typed.size())
            name = typed[i];
        else
            return typed;  // the parser says that a name is missing
    }
    if (!named) return typed;
    if (resumes)
        throw UsageError("--recipe " + name +
                         " begins a run, and --resume goes on with one by its own flags: leave one "
                         "away");
    const RecipeFile recipe = read_recipe(name);
    try {
        parse(recipe.flags);
    } catch (const UsageError& e) {
        throw UsageError("recipe " + recipe.path + ": " + e.what());
    }
    std::vector<std::string> all = recipe.flags;
    all.insert(all.end(), others.begin(), others.end());
    return all;
}

std::string text_of(const std::vector<std::string>& arguments) {
    std::string s;
    for (const std::string& a : arguments) s += (s.empty() ? "" : " ") + a;
    return s;
}

// As a shell takes it: a command that can be given again.
std::string shell_text(const std::vector<std::string>& arguments) {
    constexpr const char* kPlain =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-";
    std::string s;
    for (const std::string& a : arguments) {
        s += ' ';
        if (!a.empty() && a.find_first_not_of(kPlain) == a.npos) {
            s += a;
            continue;
        }
        s += '\'';
        for (const char c : a) s += c == '\'' ? std::string("'\\''") : std::string(1, c);
        s += '\'';
    }
    return s;
}

// The arguments without these flags and their values; names without dashes.
std::vector<std::string> without(const std::vector<std::string>& arguments,
                                 const std::vector<std::string>& names) {
    // those that have no value
    const std::vector<std::string> alone = {"--eval-only", "--overwrite"};
    std::vector<std::string> kept;
    for (size_t i = 0; i < arguments.size(); ++i) {
        const std::string flag = arguments[i].substr(0, arguments[i].find('='));
        const bool goes = flag.starts_with("--") &&
                          std::find(names.begin(), names.end(), flag.substr(2)) != names.end();
        if (!goes) {
            kept.push_back(arguments[i]);
        } else if (flag == arguments[i] &&
                   std::find(alone.begin(), alone.end(), flag) == alone.end()) {
            ++i;
        }
    }
    return kept;
}

// Flags that do not describe a run, but where it lies, who runs it and that it goes on.
const std::vector<std::string> kPlace = {"resume",      "out",       "timeline",
                                         "comm",        "eval-only", "overwrite",
                                         "predictions", "per-class", "views"};

// Files of older versions have their run's flags, and no settings: those are what the flags mean.
Origin open_weights(const std::string& path, bool resume, Team* team) {
    Origin from = open_origin(path, resume, team);
    if (!from.position || !from.record().settings.empty()) return from;
    Position& p = *from.position;
    try {
        const TrainOptions o = parse(without(p.arguments, kPlace)).o;
        const int workers =
            static_cast<int>(std::max<int64_t>(1, p.global_batch / std::max(1, o.batch)));
        p.record.settings = settings_of(o, workers);
    } catch (const UsageError& e) {
        throw Error(path + ": the flags that it was made with are not understood (" + e.what() +
                    ")");
    }
    p.record.settings["--net"] = p.net;
    p.record.settings["--seed"] = std::to_string(p.seed);
    return from;
}

// Whether a run goes on in another folder than its own. In a job rank 0 looks, for all.
bool goes_on_elsewhere(const Flags& f, Team* team) {
    if (f.resume.empty() || !f.has("out")) return false;
    const auto same = [&] {
        namespace fs = std::filesystem;
        std::error_code none;
        return fs::path(f.o.out + "/").lexically_normal() ==
                   fs::path(f.resume + "/").lexically_normal() ||
               fs::equivalent(f.o.out, f.resume, none);
    };
    if (!team) return !same();
    return team->broadcast(std::string(team->rank() == 0 && same() ? "same" : "other")) == "other";
}

// What contradicts itself whatever the weights are.
void check_flags(const Flags& f, bool elsewhere) {
    const TrainOptions& o = f.o;
    if (o.overwrite && !f.resume.empty() && !elsewhere)
        throw UsageError("--overwrite begins a run anew, and --resume " + f.resume +
                         " goes on with one: leave one away");
    if (o.overwrite && o.eval_only)
        throw UsageError(
            "--overwrite begins a run anew, and --eval-only trains none: leave one away");
    if (!f.resume.empty() && f.has("init"))
        throw UsageError("--init " + f.init + " says what weights begin with, and --resume " +
                         f.resume + " has them: leave one away");
    if (std::error_code none; std::filesystem::is_regular_file(f.resume, none))
        throw UsageError(
            "--resume " + f.resume +
            ": that is a file; give the run's folder, or begin a new run with --init " + f.resume);
    // This is checked before the data are opened, which may take minutes.
    KernelSettings::parse(o.kernels);
    OverlapChoice::parse(o.overlap);
    Schedule(o.lr_policy, o.lr, 1, 1);
    if (!o.timeline.empty() && (o.timeline.size() < 5 || !o.timeline.ends_with(".svg")))
        throw UsageError("--timeline " + o.timeline + ": must be a file that ends in .svg");
    if (!o.timeline.empty() && o.eval_only)
        throw UsageError(
            "--timeline shows a training step, and --eval-only trains none: leave one away");
    if (!o.timeline.empty() && o.comm != "threads")
        throw UsageError("--timeline shows the workers of one process: leave --comm " + o.comm +
                         " away");
    if (o.eval_only && f.resume.empty() && o.init_file.empty())
        throw UsageError("--eval-only needs weights: give --resume DIR or --init FILE.safetensors");
    if (!f.init_except.empty() && o.init_file.empty())
        throw UsageError("--init-except " + f.init_except +
                         " says what --init FILE does not fill: give that too");
    if (o.eval_only && !f.init_except.empty())
        throw UsageError("--init-except " + f.init_except +
                         " begins layers anew, and --eval-only trains none: leave one away");
    if (!o.predictions.empty()) check_predictions_name(o.predictions);
    if (!o.per_class.empty()) {
        if (!o.per_class.ends_with(".csv"))
            throw UsageError("--per-class " + o.per_class + ": must be a file that ends in .csv");
        if (o.eval_only) check_output(o.per_class);
    }
    const auto of_evaluation = [&](bool given, const std::string& flag) {
        if (!given) return;
        if (!o.eval_only) throw UsageError(flag + " are of an evaluation: give --eval-only too");
        if (o.comm != "threads")
            throw UsageError(flag + " are computed by one process: leave --comm " + o.comm +
                             " away");
    };
    of_evaluation(!o.predictions.empty(), "--predictions " + o.predictions);
    of_evaluation(!o.per_class.empty(), "the classes' errors of --per-class " + o.per_class);
    of_evaluation(o.views != 1, "--views " + std::to_string(o.views));
}

// --export: from a checkpoint or a file of weights to another file.
int export_weights(const Flags& f) {
    const auto& [format, out] = f.export_to;
    const std::string what = "--export " + format + " " + out;
    if (format != "torchvision")
        throw UsageError(what + ": " + unknown_name("format", format, {"torchvision"}));
    for (const std::string& flag : f.given)
        if (flag != "export" && flag != "resume" && flag != "init" && flag != "net")
            throw UsageError(what + " writes weights and trains nothing: leave --" + flag +
                             " away");
    if (f.resume.empty() && f.o.init_file.empty())
        throw UsageError(what + " needs weights: give --resume DIR or --init FILE.safetensors");
    const std::string path = f.resume.empty() ? f.o.init_file : checkpoint_path(f.resume);
    std::error_code none;
    if (std::filesystem::exists(out, none) && !std::filesystem::is_regular_file(out, none))
        throw UsageError(what + ": " + out + " is no regular file");
    if (std::filesystem::equivalent(out, path, none))
        throw UsageError(what + ": that is the file with the weights: give another name");
    const Origin from = open_weights(path, !f.resume.empty(), nullptr);
    const RunRecord& record = from.record();
    const auto setting = [&](const char* flag, const char* otherwise) {
        const auto at = record.settings.find(flag);
        return at == record.settings.end() ? std::string(otherwise) : at->second;
    };
    const std::string net = f.has("net") ? f.o.net : setting("--net", kTorchvisionNet);
    if (net != kTorchvisionNet)
        throw Error(path + " is of net " + net + ", and torchvision's AlexNet is net " +
                    kTorchvisionNet + ": no other can be exported so");
    for (const auto& [flag, has] :
         {std::pair("--activation", "relu"), std::pair("--pool", "overlap")})
        if (setting(flag, has) != has)
            throw Error(path + " was made with " + flag + " " + setting(flag, has) +
                        ", and torchvision's AlexNet has " + has +
                        ": it would compute something else");
    std::printf(
        "export  %s\n",
        export_torchvision(*from.file, {record.mean, record.std_dev, record.classes}, out).c_str());
    return 0;
}

// Puts what the weights say before what the flags say. `f` is of the flags alone; so is its `given`
// afterwards.
void take_over(Flags& f, const std::vector<std::string>& given, Origin from, WeightsUse use,
               bool elsewhere) {
    std::vector<std::string> all;
    if (!f.resume.empty()) {
        std::vector<std::string> anew = f.given;
        if (f.has("epochs")) anew.push_back("steps");  // they are meant now
        all = without(from.position->arguments, anew);
    }
    std::vector<std::string> described = all;
    if (from.torchvision) {
        all.insert(all.end(), {"--net", kTorchvisionNet});
        if (from.record().mean.empty()) {  // nothing is said: as torchvision's own are
            const auto rgb = [](const std::array<float, 3>& v) {
                return rgb_text({v.begin(), v.end()});
            };
            all.insert(all.end(), {"--mean", rgb(kTorchvisionMean), "--std", rgb(kTorchvisionStd)});
        }
    }
    const auto carried = carried_flags(from.record(), use, f.given);
    all.insert(all.end(), carried.begin(), carried.end());
    all.insert(all.end(), given.begin(), given.end());
    described.insert(described.end(), given.begin(), given.end());
    const std::vector<std::string> names = f.given;
    const std::string resume = f.resume;
    f = parse(all);
    f.given = names;
    f.o.arguments = without(described, kPlace);
    f.o.resume = !resume.empty();
    if (f.o.resume && !elsewhere) f.o.out = resume;
    if (!f.o.resume) f.o.init_file = from.path;
    f.o.origin = std::make_shared<const Origin>(std::move(from));
}

// What the weights say and the flags do not: refused, or told.
void compare(Flags& f, WeightsUse use, int workers) {
    TrainOptions& o = f.o;
    const Origin& from = *o.origin;
    const RunRecord& record = from.record();
    auto now = settings_of(o, workers);
    if (o.mean) now["--mean"] = rgb_text(*o.mean);
    if (o.std_dev) now["--std"] = rgb_text(*o.std_dev);
    o.notices = compare_settings(from.path, record, now, use);
    if (from.torchvision && record.mean.empty() && !(f.has("mean") && f.has("std")))
        o.notices.push_back(
            from.path +
            " does not say how its images are normalised: as torchvision does it, --mean " +
            rgb_text(*o.mean) + " --std " + rgb_text(*o.std_dev));
    if (from.torchvision && record.classes.empty())
        o.notices.push_back(from.path + " does not say of which classes it is: taken from " +
                            o.data);
    else if (!record.whole())
        o.notices.push_back(
            from.path +
            " does not say of which classes it is, nor how its images were normalised: taken from the flags and " +
            o.data);
    const auto was = record.settings.find("--data");
    if (use == WeightsUse::fine_tune && was != record.settings.end() &&
        was->second == now["--data"] && o.data.starts_with("synthetic") &&
        record.settings.at("--seed") != now["--seed"])
        o.notices.push_back(from.path + " was trained on synthetic images of seed " +
                            record.settings.at("--seed") + "; those of seed " + now["--seed"] +
                            " are others");
}

// The device of this process's worker: the entry of `gpus` that its place among those of its
// machine names.
int own_gpu(const Team& team, const std::string& gpus, const std::string& comm) {
    std::vector<int> all(device_count());
    std::iota(all.begin(), all.end(), 0);
    if (all.empty() || !gpus.empty()) all = parse_gpus(gpus);
    if (comm == "nccl" && team.local_ranks() > static_cast<int>(all.size()))
        throw UsageError("--comm nccl: " + std::to_string(team.local_ranks()) +
                         " processes on a machine with " + std::to_string(all.size()) +
                         (all.size() == 1 ? " GPU" : " GPUs") +
                         ", and NCCL wants one each: start fewer, or use --comm mpi");
    return all[team.local_rank() % all.size()];
}

// `typed`: as the command line has them; `given`: with its recipe's.
int train(const std::vector<std::string>& typed, const std::vector<std::string>& given, Flags f,
          Team* team, bool explain_next) {
    if (f.has("export")) return export_weights(f);
    const bool elsewhere = goes_on_elsewhere(f, team);
    check_flags(f, elsewhere);
    const bool speaks = !team || team->rank() == 0;
    if (speaks && f.resume.empty() && !f.o.init_file.empty() &&
        !std::filesystem::exists(f.o.init_file))
        throw UsageError("--init " + f.o.init_file +
                         ": must be paper, he or an existing .safetensors file");
    f.o.arguments = without(given, kPlace);
    const WeightsUse use = f.o.eval_only      ? WeightsUse::evaluate
                           : f.resume.empty() ? WeightsUse::fine_tune
                                              : WeightsUse::resume;
    if (!f.resume.empty() || !f.o.init_file.empty()) {
        const std::string path = f.resume.empty() ? f.o.init_file : checkpoint_path(f.resume);
        Origin from = open_weights(path, !f.resume.empty(), team);
        if (!from.position && !from.torchvision && !f.has("net"))
            throw UsageError("--init " + path + " does not say which network it is of: give --net");
        if (!from.position && f.o.eval_only && !f.has("data"))
            throw UsageError("--eval-only: " + path +
                             " does not say which data it is of: give --data");
        take_over(f, given, std::move(from), use, elsewhere);
    }
    TrainOptions& o = f.o;
    o.command = "bin/train" + shell_text(typed);
    if (team) team->same("command line", text_of(o.arguments));
    o.gpus = team ? std::vector<int>{own_gpu(*team, f.gpus, o.comm)} : parse_gpus(f.gpus);
    check_architecture(o.gpus);
    const int workers = team ? team->ranks() : static_cast<int>(o.gpus.size());
    if (o.resume && !o.eval_only &&
        !f.has("batch"))  // another number of workers shares the same batch
        if (const int64_t all = o.origin->position->global_batch, each = workers * o.accumulate;
            all % each == 0)
            o.batch = static_cast<int>(all / each);
    if (o.origin) compare(f, use, workers);
    const int status = run_training(o, team);
    if (status == 0 && explain_next)
        std::printf(
            "\nnext:\n  bin/train --resume %s --epochs 4        goes on\n  bin/train --data cifar10:DIR              other data (--help lists all)\n"
            "  bin/summary alexnet                       a network's layers\n  bin/train --net alexnet --data folder:DIR  ImageNet, see README.md\n",
            o.out.c_str());
    return status;
}

// "--watch" with its number, where that was left away.
std::vector<std::string> spelled_out(std::vector<std::string> arguments) {
    for (size_t i = 0; i < arguments.size(); ++i)
        if (arguments[i] == "--watch" &&
            (i + 1 == arguments.size() || arguments[i + 1].starts_with("--")))
            arguments.insert(arguments.begin() + static_cast<long>(i) + 1, "100");
    return arguments;
}

int run(int argc, char** argv) {
    const std::vector<std::string> typed = spelled_out({argv + 1, argv + argc});
    std::vector<std::string> arguments;
    Flags f;
    std::unique_ptr<Team> team;
    try {
        arguments = with_recipe(typed);
        f = parse(arguments);
        if (f.o.comm == "threads" && launched_ranks() > 1)
            throw UsageError(
                "started as " + std::to_string(launched_ranks()) +
                " processes that know nothing of each other: give --comm mpi (or nccl), or leave mpirun away");
        f.team.comm = f.o.comm;
        catch_stop_signals();
        if (f.o.comm != "threads") team = join_team(f.team);
    } catch (const UsageError&) {
        if (launched_rank() > 0) throw Exit{2};  // rank 0 says it for all
        throw;
    }
    // The default run, as `make run` has it too.
    const bool plain = arguments.empty() || arguments == std::vector<std::string>{"--overwrite"};
    if (!team) return train(typed, arguments, f, nullptr, plain);
    std::string why;
    int status = 1;
    try {
        return train(typed, arguments, f, team.get(), false);
    } catch (const UsageError& e) {
        why = e.what(), status = 2;
    } catch (const std::exception& e) {
        why = e.what();
    }
    team->fail(why, status);
}

}  // namespace

int main(int argc, char** argv) { return run_program(argc, argv, "train", run); }
